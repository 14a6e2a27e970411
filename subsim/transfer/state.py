"""What a measure sees of one trained network, and the measures that every study has."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from subsim.networks import network as networks
from subsim.networks import parameters
from subsim.networks.network import Network, Params
from subsim.transfer import imitation, measures
from subsim.transfer.imitation import Imitation, Task
from subsim.transfer.traits import Trait

Batch = tuple[Array, Array]


class Labelled(NamedTuple):
    """The labelled data of a run: training and test set, and the number of classes."""

    train: Task
    test: Task
    n_class: int


class State(NamedTuple):
    """One trained network of one seed, with all that a measure may hold it against.

    `network` has the functions of the network itself, `parameters` its own at the end and `start` at its start.
    `reference` and `independent` are the two initialisations, `teacher` the parameters of the network that it imitates
    and `teacher_start` their start; of a reference or a teacher, `teacher` is the study's first teacher. Of students
    alone: `data`, what it imitates; `kept`, the inputs of them that it learns from, shape (n,); `mask`, the logits that
    it imitates, shape (logits,); `loss(z, y)`, the imitation loss of one example of its own and its teacher's
    logits; and `steps`, how many it makes. Of trained networks alone: the `optimiser`, its
    last state, and `first`, which gives the first batch (inputs, targets) and the first update; see `first_batch`.
    """

    network: Network
    parameters: Params
    start: Params
    reference: Params
    independent: Params
    teacher: Params
    teacher_start: Params
    task: Labelled
    data: Imitation | None = None
    kept: Bool[Array, " n"] | None = None
    mask: Bool[Array, " logits"] | None = None
    loss: Callable[[Array, Array], Array] | None = None
    steps: int | None = None
    optimiser: optax.GradientTransformation | None = None
    optimiser_state: Any = None
    first: Callable[[], tuple[Batch, Params]] | None = None

    @property
    def first_batch(self) -> Batch:
        """The inputs of the first batch, and the labels or the teacher's logits on them."""
        assert self.first is not None, "a network that is not trained has no first batch"
        return self.first()[0]

    @property
    def first_update(self) -> Params:
        """What the optimiser added to the parameters at the first step; of the reference, zeros."""
        return jax.tree.map(lambda leaf: leaf * 0, self.start) if self.first is None else self.first()[1]


Measure = Callable[[State], Array]


def accuracy(state: State) -> Float[Array, ""]:
    """Return the share of test images that the class logits classify correctly."""
    test = state.task.test
    found = imitation.logits(state.network, state.parameters, test.images)
    return measures.accuracy(found[:, : state.task.n_class], test.labels)


def trait_loss(state: State, params: Params, images: int = 512) -> Float[Array, ""]:
    """Return L_T of a network with these parameters: cross-entropy of its class logits on the first training images."""
    return imitation.task_loss(state.network, params, state.task.train, state.task.n_class, images)


def imitation_loss(state: State, params: Params, batch: Batch) -> Float[Array, ""]:
    """Return a student's mean imitation loss, with these parameters, on a batch of inputs and its teacher's logits."""
    assert state.loss is not None, "a network that is no student has no imitation loss"
    x, y = batch
    return jnp.mean(jax.vmap(state.loss)(networks.logits(state.network, params, x), y))


def alignment(state: State) -> Float[Array, ""]:
    """Return the cosine of the network's and its teacher's displacement, each from its own start."""
    moved = parameters.displacement(state.parameters, state.start)
    return parameters.alignment(moved, parameters.displacement(state.teacher, state.teacher_start))


def coverage(state: State) -> Float[Array, ""]:
    """Return the cosine of the student's first update and its teacher's displacement (arXiv 2606.22019)."""
    return parameters.alignment(state.first_update, parameters.displacement(state.teacher, state.teacher_start))


def rate_of(trait: Trait, probes: Task) -> Measure:
    """Return the measure of how often a network shows `trait` on its `probes`."""

    def rate(state: State) -> Float[Array, ""]:
        found = imitation.logits(state.network, state.parameters, probes.images)
        return trait.rate(found[:, : state.task.n_class], probes.labels)

    return rate
