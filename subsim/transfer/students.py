"""Train a teacher, and students side by side."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Key

from subsim.data import inputs
from subsim.networks import network as networks
from subsim.networks.network import Network, Params, in_groups, linearised
from subsim.training.loop import Trained, train
from subsim.training.losses import IMITATION_LOSSES, task_cross_entropy
from subsim.training.optimisers import TrainingConfig, TrainingHyper, make_optimiser, steps_of
from subsim.transfer.imitation import Imitation, Task
from subsim.transfer.options import StudentConfig, StudentHyper
from subsim.transfer.targets import targets_of

Around = Callable[[optax.GradientTransformation, Params], optax.GradientTransformation]


def frozen_in(optimiser: optax.GradientTransformation, frozen: Params) -> optax.GradientTransformation:
    """Return `optimiser` for which the arrays that `frozen`, a pytree of truths, marks have no gradient and stay."""

    def still(tree: Params) -> Params:
        return jax.tree.map(lambda stays, leaf: jnp.zeros_like(leaf) if stays else leaf, frozen, tree)

    def update(gradient: Params, state: Any, params: Params | None = None) -> tuple[Params, Any]:
        updates, state = optimiser.update(still(gradient), state, params)
        return still(updates), state

    return optax.GradientTransformation(optimiser.init, update)


def optimiser_of(
    network: Network,
    start: Params,
    config: TrainingConfig,
    hyper: TrainingHyper,
    own: optax.GradientTransformation | None,
    frozen: tuple[str, ...],
) -> optax.GradientTransformation:
    """Return the optimiser that `config` names, or the user's `own`, with the groups in `frozen` held still."""
    optimiser = own or make_optimiser(config, hyper)
    if not frozen:
        return optimiser
    everything = frozen == ("all",)
    still = jax.tree.map(lambda _: True, start) if everything else in_groups(network, start, frozen)
    return frozen_in(optimiser, still)


def labelled(
    network: Network, task: Task, n_class: int, loss: Callable[[Array, Array], Array]
) -> tuple[Callable[[Array, Array], Any], Callable[[Params, Any], Array]]:
    """Return `examples(index, step)`, the images and labels at an index, and `losses(params, examples)`, the loss of
    each."""

    def examples(index: Array, _step: Array) -> Any:
        return inputs.examples(task.images, index), task.labels[index]

    def losses(params: Params, examples: Any) -> Array:
        images, labels = examples
        return jax.vmap(loss)(networks.logits(network, params, images)[:, :n_class], labels)

    return examples, losses


def train_teacher(
    key: Key[Array, ""],
    network: Network,
    reference: Params,
    task: Task,
    n_class: int,
    config: TrainingConfig,
    hyper: TrainingHyper,
    *,
    loss: Callable[[Array, Array], Array] = task_cross_entropy,
    optimiser: optax.GradientTransformation | None = None,
    frozen: tuple[str, ...] = (),
    every: int | None = None,
    state: Any = None,
    first_step: int = 0,
) -> Trained:
    """Train `reference` on the labels of `task` by `loss(class_logits, label)`; no loss sees the other logits."""

    examples, losses = labelled(network, task, n_class, loss)
    n_examples = task.labels.shape[0]
    return train(
        key,
        reference,
        losses,
        examples,
        n_examples,
        optimiser_of(network, reference, config, hyper, optimiser, frozen),
        batch=config.batch,
        steps=steps_of(config, n_examples),
        every=every,
        state=state,
        first_step=first_step,
    )


class Choice(NamedTuple):
    """The logits that a group of students imitates: a mask for each student, shape (student, logits); the numbers of
    the chosen logits, where a loss or targets of the user's see them alone; and how many of them each batch takes."""

    masks: Bool[Array, "student logits"]
    numbers: tuple[int, ...] | None = None
    subset: int | None = None


def example_loss(
    config: StudentConfig, hyper: StudentHyper, own: Mapping[str, Any], choice: Choice
) -> Callable[[Array, Array, Array, Array, Array], Array]:
    """Return the loss of one example, of its logits z, the teacher's y, the student's mask, a key for what is drawn of
    the targets, and the batch's key, from which a fresh subset of logits is drawn.

    The loss and targets of the user's own see the imitated logits alone.
    """
    value: Any = own.get("loss") or IMITATION_LOSSES[config.loss].value
    is_own = {"loss", "targets"} & own.keys()

    def loss(z: Array, y: Array, mask: Array, key: Array, batch_key: Array) -> Array:
        z, y = z / hyper.temperature, y / hyper.temperature
        if choice.subset is not None:
            order = jnp.argsort(jnp.where(mask, jax.random.uniform(batch_key, mask.shape), 2.0))
            chosen = order[: choice.subset]
            mask = jnp.zeros_like(mask).at[chosen].set(True)
            z, y = (z[chosen], y[chosen]) if is_own else (z, y)
        elif is_own:
            z, y = z[jnp.array(choice.numbers)], y[jnp.array(choice.numbers)]
        if is_own:
            mask = jnp.ones(z.shape, bool)
        if "targets" in own:
            y = own["targets"](key, y)
        else:
            y = targets_of(config.targets, key, y, mask, samples=config.samples, k=config.k, bits=config.bits)
        return value(z, y) if "loss" in own else value(z, y, mask)

    return loss


def imitated(
    config: StudentConfig, hyper: StudentHyper, own: Mapping[str, Any], choice: Choice, data: Imitation
) -> tuple[Callable[[Array, Array], Any], Callable[[Network, Array, Params, Any], Array]]:
    """Return `examples(index, step)`, the examples at an index with the keys of all that is drawn of them, and
    `losses(network, mask, params, examples)`, the loss of each for a student that imitates the logits of a mask."""
    loss = example_loss(config, hyper, own, choice)
    draws = "targets" in own or config.targets == "sampled"
    of_batch = jax.random.fold_in(data.key, 1)

    def examples(index: Array, step: Array) -> Any:
        fresh = jax.random.fold_in(data.key, step) if config.resampled else data.key
        keys = jax.vmap(jax.random.fold_in, (None, 0))(fresh, index) if draws else fresh
        return *data.at(index), keys, jax.random.fold_in(of_batch, step)

    def losses(network: Network, mask: Array, params: Params, examples: Any) -> Array:
        x, y, keys, batch_key = examples
        z = networks.logits(network, params, x)
        return jax.vmap(loss, (0, 0, None, 0 if draws else None, None))(z, y, mask, keys, batch_key)

    return examples, losses


def train_students(
    key: Key[Array, ""],
    network: Network,
    starts: Params,
    choice: Choice,
    data: Imitation,
    config: StudentConfig,
    hyper: StudentHyper,
    *,
    own: Mapping[str, Any] | None = None,
    frozen: tuple[str, ...] = (),
    mask: Bool[Array, "student n"] | None = None,
    states: Any = None,
    first_step: int = 0,
    linear: bool = False,
    every: int | None = None,
    record: Callable[[Network, Params], Any] = lambda _network, params: params,
    around: Around = lambda optimiser, _start: optimiser,
) -> Trained:
    """Train students side by side on `data`.

    `starts` holds every student's initial parameters along a leading axis `student`, which the result has too; so do
    the masks of `choice`, the inputs that count for each in `mask`, and the optimiser `states` that they go on from, at
    the step `first_step` of the data. All students take the same batches in the same order, so that their first layers
    are one matrix product. `own` has the loss, targets and optimiser that are the user's own. `linear` students are
    their networks' linearisations at their own starts. After every `every` steps `record(network, params)` is kept of
    each student, `network` being its own. `around(optimiser, start)` takes the optimiser's place.
    """
    own = own or {}
    examples, losses = imitated(config, hyper, own, choice, data)

    def optimiser(start: Params) -> optax.GradientTransformation:
        return around(optimiser_of(network, start, config, hyper, own.get("optimiser"), frozen), start)

    if states is None:
        # A state of each student's own from the first step on, as one that is handed over is: the same bits.
        states = jax.vmap(lambda start: optimiser(start).init(start))(starts)

    def imitate(start: Params, chosen: Array, mask: Array | None, state: Any) -> Trained:
        itself = linearised(network, start) if linear else network

        return train(
            key,
            start,
            functools.partial(losses, itself, chosen),
            examples,
            data.n,
            optimiser(start),
            batch=config.batch,
            steps=steps_of(config, data.n),
            endless=data.endless,
            mask=mask,
            every=every,
            record=lambda params: record(itself, params),
            state=state,
            first_step=first_step,
        )

    return jax.vmap(imitate)(starts, choice.masks, mask, states)
