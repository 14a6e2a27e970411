"""Compare a network's hidden features and displacement with its teacher's."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from subsim.networks import parameters
from subsim.networks.network import Params, groups_of
from subsim.networks.parameters import mixed
from subsim.transfer import imitation, measures
from subsim.transfer.imitation import Task
from subsim.transfer.state import State, accuracy

OF_FEATURES = ("probe", "probe at start", "teacher's head", "CKA", "cosine")
"""Names of the measures of the last hidden layer; see `of_features`."""
# Two heads never move: the teacher's auxiliary head, and the class head of a student of auxiliary logits only.
OF_DISPLACEMENTS = ("class_head", "first hidden", "last hidden", "all layers")
"""Names of the cosines of displacements; see `of_displacements`."""
MEASURES = (*OF_FEATURES, *OF_DISPLACEMENTS)
PENALTY = 1e-2
"""Penalty on the probe's weights, relative to the mean variance of a unit; it makes the features' scale irrelevant."""


def with_teachers_head(state: State) -> Float[Array, ""]:
    """Return the share of test images that the teacher's class head classifies correctly from these features."""
    others = [group for group in groups_of(state.network, state.parameters) if group != "class_head"]
    return accuracy(state._replace(parameters=mixed(state.network, state.parameters, state.teacher, others)))


def of_features(state: State) -> list[Float[Array, ""]]:
    """Measure the last hidden layer, in the order of `OF_FEATURES`.

    The first three measures are test accuracies: of a linear probe trained on the training images, of such a probe at
    the network's start, and of the teacher's class head. The last two compare the features with the teacher's on test
    images: CKA and centred cosine.
    """
    train, test, n_class = state.task

    def features(params: Params, task: Task) -> Array:
        return imitation.features(state.network, params, task.images)

    def probed(params: Params) -> Array:
        inputs = features(params, train)
        penalty = PENALTY * jnp.mean(jnp.var(inputs, axis=0))
        probe = measures.linear_probe(inputs, train.labels, n_class, penalty, tolerance=1e-4)
        return measures.accuracy(probe.logits(features(params, test)), test.labels)

    own, taught = features(state.parameters, test), features(state.teacher, test)
    cosine = measures.feature_cosine(measures.centred(own), measures.centred(taught))
    readouts = [probed(state.parameters), probed(state.start), with_teachers_head(state)]
    return [*readouts, measures.linear_cka(own, taught), cosine]


def of_displacements(state: State) -> list[Float[Array, ""]]:
    """Return the cosines of the network's and the teacher's displacement, in the order of `OF_DISPLACEMENTS`."""
    moved = (
        parameters.displacement(state.parameters, state.start),
        parameters.displacement(state.teacher, state.teacher_start),
    )
    found = parameters.by_layer(parameters.alignment, *moved)
    layers = [name for name in found if name.startswith("hidden")]
    return [found["class_head"], found[layers[0]], found[layers[-1]], parameters.alignment(*moved)]


def compared(state: State) -> Float[Array, " measure"]:
    """Return all `MEASURES` of one network."""
    return jnp.stack([*of_features(state), *of_displacements(state)])
