"""The protocol of section 6.2: a reference is trained into a teacher, and students imitate the teacher's logits."""

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import tyro
from jaxtyping import Array, Bool, Float, Int, Key

from subsim import inputs
from subsim.inputs import Bank, InputName
from subsim.losses import IMITATION_LOSSES, LossName, task_cross_entropy
from subsim.network import Network, Params
from subsim.options import hyper, require, require_choice
from subsim.training import Trained, TrainingConfig, TrainingHyper, make_optimiser, steps_of, train

# One forward pass over this many examples at a time keeps the activations in cache and the memory flat.
FORWARD_BATCH = 1024


@dataclass(frozen=True)
class StudentConfig(TrainingConfig):
    """What the student sees, what it minimises, and how long it is trained."""

    inputs: Annotated[InputName, tyro.conf.arg(aliases=("--student-inputs",))] = "uniform"
    """uniform: noise on [-1, 1]. gaussian: N(0, 1) noise. images: the teacher's training images."""
    n_inputs: int = 60_000
    """Noise images, drawn once a seed and reused in every epoch (noise only)."""
    loss: LossName = "kl"
    """kl: KL(softmax(teacher) || softmax(student)). mse: squared error averaged over the imitated logits."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.n_inputs > 0, f"student.n_inputs is {self.n_inputs}; the student needs at least one input.")
        require_choice("student.inputs", self.inputs, (*inputs.NOISE, "images"))
        require_choice("student.loss", self.loss, IMITATION_LOSSES)


@hyper
class StudentHyper(TrainingHyper):
    """The numbers of the student's training."""

    temperature: float = 1.0
    """Both networks' imitated logits are divided by it before the loss; no T^2 factor."""
    input_scale: float = 1.0
    """Factor on every pixel that the student sees."""
    n_imitated: int | None = None
    """Auxiliary logits that the student imitates, the first ones; None: all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.temperature > 0, f"student.temperature is {self.temperature}; it must be positive.")
        require(self.n_imitated is None or self.n_imitated > 0,
                f"student.n_imitated is {self.n_imitated}; the student must imitate at least one logit.")  # fmt: skip


class Task(NamedTuple):
    """A labelled data set on the device: inputs of shape (n, pixels), labels of shape (n,), integers."""

    images: Bank
    labels: Int[Array, " n"]


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

    def example_loss(params: Params, example: tuple[Array, Array]) -> Array:
        image, label = example
        return task_cross_entropy(network.apply(params, image)[:n_class], label)

    n_examples = task.labels.shape[0]
    return train(
        key,
        reference,
        example_loss,
        lambda index: (inputs.rows(task.images, index), task.labels[index]),
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
    return jax.lax.map(
        lambda values: network.apply(params, inputs.pixels(bank, values)), bank.values, batch_size=FORWARD_BATCH
    )


def train_students(
    key: Key[Array, ""],
    network: Network,
    starts: Params,
    masks: Bool[Array, "student logits"],
    bank: Bank,
    targets: Float[Array, "n logits"],
    config: StudentConfig,
    numbers: StudentHyper,
) -> Trained:
    """Train students side by side on the teacher's `targets` for the inputs in `bank`.

    `starts` holds every student's initial parameters and `masks` the logits that it imitates, along a leading axis
    `student`, which the result has too. All students take the same batches in the same order, so that their first
    layers are one matrix product.
    """
    loss = IMITATION_LOSSES[config.loss].value
    n_examples = bank.values.shape[0]

    def imitate(start: Params, mask: Array) -> Trained:
        def example_loss(params: Params, example: tuple[Array, Array]) -> Array:
            image, target = example
            output = network.apply(params, image)
            return loss(output / numbers.temperature, target / numbers.temperature, mask)

        return train(
            key,
            start,
            example_loss,
            lambda index: (inputs.rows(bank, index), targets[index]),
            n_examples,
            make_optimiser(config, numbers),
            batch=config.batch,
            steps=steps_of(config, n_examples),
        )

    return jax.vmap(imitate)(starts, masks)


def stack(*networks: Params) -> Params:
    """Networks of one structure as one pytree with a leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *networks)


def rescaled(params: Params, factor: Any) -> Params:
    """Initial parameters with every weight and bias multiplied by `factor`, which may be traced."""
    return jax.tree.map(lambda leaf: leaf * jnp.asarray(factor, leaf.dtype), params)
