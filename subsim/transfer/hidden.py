"""What the hidden layers and the displacement of one network of the protocol have to do with its teacher's."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from subsim.networks import parameters
from subsim.networks.mlp import LAYER_GROUPS
from subsim.networks.network import Params
from subsim.networks.parameters import mixed
from subsim.transfer import distillation, measures, protocol
from subsim.transfer.distillation import Task
from subsim.transfer.protocol import Seen

OF_FEATURES = ("probe", "probe at start", "teacher's head", "CKA", "cosine")
"""Of the last hidden layer, see `of_features`."""
# The teacher's auxiliary head never moves, and the class head of a student of auxiliary logits alone does not either.
OF_DISPLACEMENTS = ("class_head", "first hidden", "last hidden", "all layers")
"""Cosines of displacements, see `of_displacements`."""
MEASURES = (*OF_FEATURES, *OF_DISPLACEMENTS)
PENALTY = 1e-2
"""Of the probe's weights, as a share of the mean variance of a unit: the scale of the features decides nothing."""


def with_teachers_head(seen: Seen) -> Float[Array, ""]:
    """Share of test images that the teacher's class head classifies correctly from the network's features."""
    but_the_class_head = jnp.array([group != "class_head" for group in LAYER_GROUPS])
    return protocol.accuracy(seen._replace(params=mixed(seen.params, seen.teacher, but_the_class_head)))


def of_features(seen: Seen) -> list[Float[Array, ""]]:
    """Of the last hidden layer: test accuracy of a linear probe trained on the training images, at the end and at the
    network's own start, and of the teacher's class head; CKA and centred cosine to the teacher's on test images."""

    def features(params: Params, task: Task) -> Array:
        return distillation.forward(seen.network.features, params, task.images)

    def probed(params: Params) -> Array:
        train = features(params, seen.train)
        penalty = PENALTY * jnp.mean(jnp.var(train, axis=0))
        probe = measures.linear_probe(train, seen.train.labels, seen.n_class, penalty, tolerance=1e-4)
        return measures.accuracy(probe.logits(features(params, seen.test)), seen.test.labels)

    own, taught = features(seen.params, seen.test), features(seen.teacher, seen.test)
    cosine = measures.feature_cosine(measures.centred(own), measures.centred(taught))
    readouts = [probed(seen.params), probed(seen.start), with_teachers_head(seen)]
    return [*readouts, measures.linear_cka(own, taught), cosine]


def of_displacements(seen: Seen) -> list[Float[Array, ""]]:
    """Cosines of the network's and its teacher's displacement: of the class head, the first and the last hidden layer,
    and in all."""
    moved = parameters.displacement(seen.params, seen.start), parameters.displacement(seen.teacher, seen.reference)
    found = parameters.by_layer(parameters.alignment, *moved)
    layers = [name for name in found if name.startswith("hidden")]
    return [found["class_head"], found[layers[0]], found[layers[-1]], parameters.alignment(*moved)]


def compared(seen: Seen) -> Float[Array, " measure"]:
    """Every one of `MEASURES` of one network."""
    return jnp.stack([*of_features(seen), *of_displacements(seen)])
