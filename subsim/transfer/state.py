"""The state of one trained network, the argument of every measure; and the measures of every study."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from subsim.networks import network as networks
from subsim.networks import parameters
from subsim.networks.network import Network, Params
from subsim.options import require_number
from subsim.training.losses import task_cross_entropy
from subsim.transfer import imitation, measures
from subsim.transfer.imitation import Imitation, Task, TaskLoss
from subsim.transfer.traits import Trait

Batch = tuple[Array, Array]


class Labelled(NamedTuple):
    """The labelled data of a run: training and test set, and the number of classes."""

    train: Task
    test: Task
    n_class: int


class State(NamedTuple):
    """One trained network of one seed, with all that a measure may compare it with.

    `network` has the functions of the network, `parameters` its parameters at the end, and `start` its initial
    parameters. `reference` and `independent` are the two initialisations. `teacher` has the parameters of the imitated
    network, and `teacher_start` its initial parameters; for references and teachers, it is the study's first teacher.
    `trained` has the parameters of all networks that were trained before, by name.

    Students also have: the distillation data `data`; `kept`, a mask of the inputs that the student learns from, shape
    (n,); `mask`, a mask of the imitated logits, shape (logits,); `loss(z, y)`, the imitation loss of one example from
    the student's logits z and the teacher's logits y; `targets(key, y)`, the targets of one example as logits, from the
    teacher's logits y; and `steps`, the number of steps. Trained networks also have: the
    `optimiser`, its last state, and `first`, which returns the first batch (inputs, targets) and the first update; see
    `first_batch`.
    """

    network: Network
    parameters: Params
    start: Params
    reference: Params
    independent: Params
    teacher: Params
    teacher_start: Params
    task: Labelled
    trained: Mapping[str, Params]
    data: Imitation | None = None
    kept: Bool[Array, " n"] | None = None
    mask: Bool[Array, " logits"] | None = None
    loss: Callable[[Array, Array], Array] | None = None
    targets: Callable[[Array, Array], Array] | None = None
    steps: int | None = None
    optimiser: optax.GradientTransformation | None = None
    optimiser_state: Any = None
    first: Callable[[], tuple[Batch, Params]] | None = None

    @property
    def first_batch(self) -> Batch:
        """The inputs of the first batch, and the labels or the teacher's logits on them."""
        assert self.first is not None, "an untrained network has no first batch"
        return self.first()[0]

    @property
    def first_update(self) -> Params:
        """The optimiser's update at the first step; zeros for the reference."""
        return jax.tree.map(lambda leaf: leaf * 0, self.start) if self.first is None else self.first()[1]


Measure = Callable[[State], Array]


def accuracy(state: State) -> Float[Array, ""]:
    """Return the share of test images that the class logits classify correctly."""
    test = state.task.test
    found = imitation.logits(state.network, state.parameters, test.images)
    return measures.accuracy(found[:, : state.task.n_class], test.labels)


def trait_loss(
    state: State, params: Params, images: int = 512, loss: TaskLoss = task_cross_entropy
) -> Float[Array, ""]:
    """Return L_T at `params`: the mean `loss(class_logits, label)` on the first `images` training images."""
    return imitation.task_loss(state.network, params, state.task.train, state.task.n_class, images, loss)


def imitation_loss(state: State, params: Params, batch: Batch) -> Float[Array, ""]:
    """Return a student's mean imitation loss at `params` on a batch of inputs and teacher logits."""
    assert state.loss is not None, "only students have an imitation loss"
    x, y = batch
    return jnp.mean(jax.vmap(state.loss)(networks.logits(state.network, params, x), y))


def alignment(state: State) -> Float[Array, ""]:
    """Return the cosine of the network's and the teacher's displacement; each is taken from the network's start."""
    moved = parameters.displacement(state.parameters, state.start)
    return parameters.alignment(moved, parameters.displacement(state.teacher, state.teacher_start))


def coverage(state: State) -> Float[Array, ""]:
    """Return the cosine of the student's first update and the teacher's displacement (arXiv 2606.22019)."""
    return parameters.alignment(state.first_update, parameters.displacement(state.teacher, state.teacher_start))


def gradient_coverage(state: State) -> Float[Array, ""]:
    """Return the coverage of a plain gradient step: the cosine of minus the first gradient and the displacement."""
    batch = state.first_batch
    gradient = jax.grad(lambda params: imitation_loss(state, params, batch))(state.start)
    return -parameters.alignment(gradient, parameters.displacement(state.teacher, state.teacher_start))


COVERAGE: dict[str, Measure] = {"coverage": coverage, "gradient_coverage": gradient_coverage}
"""What a student's first step tells of the training beforehand; recorded where the option `coverage` asks for it."""


def rate_of(trait: Trait, probes: Task) -> Measure:
    """Return a measure: the rate at which a network shows `trait` on its `probes`."""

    def rate(state: State) -> Float[Array, ""]:
        found = imitation.logits(state.network, state.parameters, probes.images)
        rate = trait.rate(found[:, : state.task.n_class], probes.labels)
        require_number("rate", rate, "all probes")
        return rate

    return rate
