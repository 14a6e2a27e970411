"""The protocol of section 6.2: a reference is trained into a teacher, and students imitate the teacher's logits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from subsim import inputs
from subsim.inputs import Bank, InputName
from subsim.losses import IMITATION_LOSSES, LossName, task_cross_entropy
from subsim.network import Network, Params
from subsim.options import hyper, require, require_choice
from subsim.training import Trained, TrainingConfig, TrainingHyper, check_training, make_optimiser, steps_of, train

# One forward pass over this many examples at a time keeps the activations in cache and the memory flat.
FORWARD_BATCH = 1024

Around = Callable[[optax.GradientTransformation, Params], optax.GradientTransformation]


@dataclass(frozen=True)
class StudentConfig(TrainingConfig):
    """What the student sees, what it minimises, and how long it is trained."""

    inputs: InputName = "uniform"
    """uniform: noise on [-1, 1], in 256 grey levels. gaussian: N(0, 1) noise. images: the teacher's training images."""
    n_inputs: int = 60_000
    """Noise images, drawn once a seed and reused in every epoch (noise only)."""
    loss: LossName = "kl"
    """kl: KL(softmax(teacher) || softmax(student)). mse: squared error averaged over the imitated logits."""


@hyper
class StudentHyper(TrainingHyper):
    """The numbers of the student's training."""

    temperature: float = 1.0
    """Both networks' imitated logits are divided by it before the loss; no T^2 factor."""
    input_scale: float = 1.0
    """Factor on every pixel that the student sees."""
    n_imitated: int | None = None
    """Auxiliary logits that the student imitates, the first ones; None: all."""


def check_student(name: str, config: StudentConfig, numbers: StudentHyper, n_aux: int) -> None:
    """Raise `UserError` where an option of the student called `name` is out of range or would silently do nothing."""
    check_training(name, config, numbers)
    require_choice(f"{name}.inputs", config.inputs, (*inputs.NOISE, "images"))
    require_choice(f"{name}.loss", config.loss, IMITATION_LOSSES)
    require(config.n_inputs > 0, f"{name}.n_inputs is {config.n_inputs}; it must be at least 1.")
    require(
        config.n_inputs == StudentConfig.n_inputs or config.inputs != "images",
        f"{name}.n_inputs is {config.n_inputs}, but {name}.inputs is images: the student sees all training images.",
    )
    require(numbers.temperature > 0, f"{name}.temperature is {numbers.temperature}; it must be positive.")
    imitated = numbers.n_imitated
    require(imitated is None or imitated > 0, f"{name}.n_imitated is {imitated}; it must be at least 1, or None.")
    require(
        imitated is None or imitated <= n_aux,
        f"{name}.n_imitated is {imitated}, but the network has {n_aux} auxiliary logits; raise n_aux.",
    )


class Task(NamedTuple):
    """A labelled data set on the device: inputs of shape (n, pixels), labels of shape (n,), integers."""

    images: Bank
    labels: Int[Array, " n"]


def tasks(data: Any) -> tuple[Task, Task]:
    """The training and the test set of `data`, a `subsim.datasets.Dataset`, on the device."""
    splits = (data.train_images, data.train_labels), (data.test_images, data.test_labels)
    train, test = (Task(inputs.image_bank(images, data.brightest), jnp.asarray(labels)) for images, labels in splits)
    return train, test


def train_teacher(
    key: Key[Array, ""],
    network: Network,
    reference: Params,
    task: Task,
    n_class: int,
    config: TrainingConfig,
    numbers: TrainingHyper,
) -> Trained:
    """Train `reference` on the labels of `task` by cross-entropy of the class logits; no loss sees the others."""

    def losses(params: Params, examples: tuple[Array, Array]) -> Array:
        images, labels = examples
        return jax.vmap(task_cross_entropy)(_rows(network.apply(params, images))[:, :n_class], labels)

    n_examples = task.labels.shape[0]
    return train(
        key,
        reference,
        losses,
        lambda index: (inputs.columns(task.images, index), task.labels[index]),
        n_examples,
        make_optimiser(config, numbers),
        batch=config.batch,
        steps=steps_of(config, n_examples),
    )


def draw_inputs(key: Key[Array, ""], config: StudentConfig, numbers: StudentHyper, images: Bank) -> Bank:
    """What the students of one seed see: noise of their own, or `images`, which the seeds share."""
    if config.inputs == "images":
        bank = images
    else:
        bank = inputs.NOISE[config.inputs](key, config.n_inputs, images.values.shape[1])
    return inputs.scaled(bank, numbers.input_scale)


def logits(network: Network, params: Params, bank: Bank) -> Float[Array, "n logits"]:
    """The network's outputs on every input of `bank`."""
    n = bank.values.shape[0]

    def block(index: Array) -> Array:
        return network.apply(params, inputs.columns(bank, index)).T

    # Blocks of equal size, the last one filled up: nothing is computed twice but its few fillers.
    blocks = -(-n // FORWARD_BATCH)
    size = -(-n // blocks)
    index = jnp.minimum(jnp.arange(blocks * size), n - 1).reshape(blocks, size)
    return jax.lax.map(block, index).reshape(blocks * size, -1)[:n]


def _rows(outputs: Float[Array, "logits batch"]) -> Float[Array, "batch logits"]:
    """Outputs with one example a row, as the losses take them.

    The barrier makes their gradient columns again for real: through a view, XLA's CPU backend would multiply by rows
    of a dozen numbers, ten times slower.
    """
    return jax.lax.optimization_barrier(outputs).T


def train_students(
    key: Key[Array, ""],
    network: Network,
    starts: Params,
    masks: Bool[Array, "student logits"],
    bank: Bank,
    targets: Float[Array, "n logits"],
    config: StudentConfig,
    numbers: StudentHyper,
    around: Around = lambda optimiser, _start: optimiser,
    kept: Bool[Array, "student n"] | None = None,
) -> Trained:
    """Train students side by side on the teacher's `targets` for the inputs in `bank`.

    `starts` holds every student's initial parameters and `masks` the logits that it imitates, along a leading axis
    `student`, which the result has too. All students take the same batches in the same order, so that their first
    layers are one matrix product. `around(optimiser, start)` is the gradient transformation that takes the optimiser's
    place: one that watches or changes it. `kept` picks the inputs that count for each student, None all of them.
    """
    loss = IMITATION_LOSSES[config.loss].value
    n_examples = bank.values.shape[0]

    def imitate(start: Params, mask: Array, kept: Array | None) -> Trained:
        def example_loss(output: Array, target: Array) -> Array:
            return loss(output / numbers.temperature, target / numbers.temperature, mask)

        def losses(params: Params, examples: tuple[Array, Array]) -> Array:
            images, wanted = examples
            return jax.vmap(example_loss)(_rows(network.apply(params, images)), wanted)

        return train(
            key,
            start,
            losses,
            lambda index: (inputs.columns(bank, index), targets[index]),
            n_examples,
            around(make_optimiser(config, numbers), start),
            batch=config.batch,
            steps=steps_of(config, n_examples),
            kept=kept,
        )

    return jax.vmap(imitate)(starts, masks, kept)


def stack(*networks: Params) -> Params:
    """Networks of one structure as one pytree with a leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *networks)


def rescaled(params: Params, factor: Any) -> Params:
    """Initial parameters with every weight and bias multiplied by `factor`, which may be traced."""
    return jax.tree.map(lambda leaf: leaf * jnp.asarray(factor, leaf.dtype), params)
