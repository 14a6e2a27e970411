"""The protocol of section 6.2: a reference is trained into a teacher, and students imitate the teacher's logits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from subsim.data import inputs
from subsim.data.inputs import Bank, InputName
from subsim.networks.network import Network, Params, linearise
from subsim.options import hyper, require, require_choice, require_range
from subsim.training.loop import Trained, Watch, train
from subsim.training.losses import IMITATION_LOSSES, LossName, task_cross_entropy
from subsim.training.optimisers import TrainingConfig, TrainingHyper, check_training, make_optimiser, steps_of

# One forward pass over this many examples at a time keeps the activations in cache and the memory flat.
FORWARD_BATCH = 1024

Around = Callable[[optax.GradientTransformation, Params], optax.GradientTransformation]


@dataclass(frozen=True)
class StudentConfig(TrainingConfig):
    """What the student sees, what it minimises, and how long it is trained."""

    inputs: InputName = "uniform"
    """White noise: uniform on [-1, 1] in 256 grey levels; gaussian, N(0, 1); bernoulli, -1 or 1. Uniform noise made \
blurred; of a random subspace; of the mean power spectrum, or the mean and the covariance, of the training images. \
images: the teacher's training images. mixture: some of them among uniform noise."""
    n_inputs: int = 60_000
    """Inputs of an epoch (all but images)."""
    fresh: bool = False
    """Whether every epoch draws inputs of its own, in place of those drawn once a seed (all but images)."""
    loss: LossName = "kl"
    """kl: KL(softmax(teacher) || softmax(student)). mse: squared error averaged over the imitated logits."""


@hyper
class StudentHyper(TrainingHyper):
    """The numbers of the student's training."""

    temperature: float = 1.0
    """Both networks' imitated logits are divided by it before the loss; no T^2 factor."""
    input_scale: float = 1.0
    """Factor on every pixel that the student sees."""
    blur: float = 1.0
    """Standard deviation of the blur in pixels (blurred only)."""
    rank: int = 100
    """Dimensions of the subspace (subspace only)."""
    real_share: float = 0.5
    """Probability that an input is a real image (mixture only)."""
    logit_noise: float = 0.0
    """Standard deviation of Gaussian noise on the teacher's logits; an input that comes again comes with the same."""
    n_imitated: int | None = None
    """Auxiliary logits that the student imitates, the first ones; None: all."""


def check_student(name: str, config: StudentConfig, numbers: StudentHyper, n_aux: int) -> None:
    """Raise `UserError` where an option of the student called `name` is out of range or would silently do nothing."""
    check_training(name, config, numbers)
    require_choice(f"{name}.inputs", config.inputs, get_args(InputName))
    require_choice(f"{name}.loss", config.loss, IMITATION_LOSSES)
    require_range(config, "n_inputs", least=1, whole=True, of=name)
    require_range(numbers, "temperature", "input_scale", above=0, of=name)
    require_range(numbers, "blur", "logit_noise", least=0, of=name)
    require_range(numbers, "rank", "n_imitated", least=1, whole=True, of=name)
    require_range(numbers, "real_share", least=0, most=1, of=name)
    require(
        config.n_inputs == StudentConfig.n_inputs or config.inputs != "images",
        f"{name}.n_inputs is {config.n_inputs}, but {name}.inputs is images: the student sees all training images.",
    )
    require(
        not (config.fresh and config.inputs == "images"),
        f"{name}.fresh is set, but {name}.inputs is images: there are no fresh ones.",
    )
    for kind, field in (("blurred", "blur"), ("subspace", "rank"), ("mixture", "real_share")):
        value = getattr(numbers, field)
        require(
            value == getattr(StudentHyper, field) or config.inputs == kind,
            f"{name}.{field} is {value}, but {name}.inputs is {config.inputs}: only {kind} uses it.",
        )
    imitated = numbers.n_imitated
    require(
        imitated is None or imitated <= n_aux,
        f"{name}.n_imitated is {imitated}, but the network has {n_aux} auxiliary logits; raise n_aux.",
    )


class Task(NamedTuple):
    """A labelled data set on the device: inputs of shape (n, pixels), labels of shape (n,), integers."""

    images: Bank
    labels: Int[Array, " n"]


def tasks(data: Any) -> tuple[Task, Task]:
    """The training and the test set of `data`, a `subsim.data.datasets.Dataset`, on the device."""
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
    watch: Watch | None = None,
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
        watch=watch,
    )


def _make_draw(
    key: Key[Array, ""], config: StudentConfig, numbers: StudentHyper, images: Bank
) -> Callable[[Key[Array, ""], int], Bank]:
    """`draw(key, n)`, which draws n inputs for the students of one seed; what these share comes from `key`."""
    draw = inputs.make_draw(
        key, config.inputs, images, blur_sigma=numbers.blur, rank=numbers.rank, real_share=numbers.real_share
    )
    return lambda key, n: inputs.scaled(draw(key, n), numbers.input_scale)


def draw_inputs(key: Key[Array, ""], config: StudentConfig, numbers: StudentHyper, images: Bank) -> Bank:
    """What the students of one seed see: noise of their own, or `images`, which the seeds share."""
    if config.inputs == "images":
        return inputs.scaled(images, numbers.input_scale)
    return _make_draw(jax.random.fold_in(key, 1), config, numbers, images)(key, config.n_inputs)


class Lessons(NamedTuple):
    """What students imitate: `at(index)`, for an index of shape (batch,), gives inputs of shape (pixels, batch) and the
    teacher's logits on them, shape (batch, logits).

    An epoch has `n` of them; where they are `endless`, each epoch others, counted on.
    """

    at: Callable[[Int[Array, " batch"]], tuple[Float[Array, "pixels batch"], Float[Array, "batch logits"]]]
    n: int
    endless: bool = False


def recorded(bank: Bank, targets: Float[Array, "n logits"]) -> Lessons:
    """The inputs of `bank` with the teacher's logits on them, the same in every epoch."""
    return Lessons(lambda index: (inputs.columns(bank, index), targets[index]), bank.values.shape[0])


def noisy(key: Key[Array, ""], targets: Float[Array, "*n logits"], numbers: StudentHyper) -> Float[Array, "*n logits"]:
    """A teacher's logits as its students are told them: with noise of standard deviation `numbers.logit_noise`."""
    return targets + numbers.logit_noise * jax.random.normal(key, targets.shape, targets.dtype)


def make_lessons(
    key: Key[Array, ""], network: Network, teacher: Params, config: StudentConfig, numbers: StudentHyper, images: Bank
) -> Lessons:
    """What the students of one seed imitate: inputs drawn once and the teacher's logits, computed once; or, where
    `config.fresh`, inputs drawn and logits computed batch by batch, which takes no memory."""
    of_noise = jax.random.fold_in(key, 3)
    if not config.fresh:
        bank = draw_inputs(key, config, numbers, images)
        return recorded(bank, noisy(of_noise, logits(network, teacher, bank), numbers))
    draw = _make_draw(jax.random.fold_in(key, 1), config, numbers, images)
    of_each = jax.random.fold_in(key, 2)

    def at(index: Array) -> tuple[Array, Array]:
        def one(number: Array) -> Array:
            return inputs.columns(draw(jax.random.fold_in(of_each, number), 1), jnp.zeros(1, number.dtype))[:, 0]

        def said(number: Array, targets: Array) -> Array:
            return noisy(jax.random.fold_in(of_noise, number), targets, numbers)

        seen = jax.vmap(one, out_axes=1)(index)
        return seen, jax.vmap(said)(index, network.apply(teacher, seen).T)

    return Lessons(at, config.n_inputs, endless=True)


def logits(network: Network, params: Params, bank: Bank) -> Float[Array, "n logits"]:
    """The network's outputs on every input of `bank`."""
    return forward(network.apply, params, bank)


def forward(
    function: Callable[[Params, Float[Array, "pixels batch"]], Float[Array, "out batch"]], params: Params, bank: Bank
) -> Float[Array, "n out"]:
    """A network's outputs, or features, on every input of `bank`, one a row; `function` takes examples in columns."""
    n = bank.values.shape[0]

    def block(index: Array) -> Array:
        return function(params, inputs.columns(bank, index)).T

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
    lessons: Lessons,
    config: StudentConfig,
    numbers: StudentHyper,
    around: Around = lambda optimiser, _start: optimiser,
    *,
    kept: Bool[Array, "student n"] | None = None,
    linear: bool = False,
    every: int | None = None,
    see: Callable[[Network, Params], Any] = lambda _network, params: params,
) -> Trained:
    """Train students side by side on `lessons`.

    `starts` holds every student's initial parameters and `masks` the logits that it imitates, along a leading axis
    `student`, which the result has too. All students take the same batches in the same order, so that their first
    layers are one matrix product. `around(optimiser, start)` is the gradient transformation that takes the optimiser's
    place: one that watches or changes it. `kept` picks the inputs that count for each student, None all of them.
    `linear` students are their networks' linearisations at their own starts. After every `every` steps
    `see(network, params)` is kept of each student, `network` being its own.
    """
    loss = IMITATION_LOSSES[config.loss].value

    def imitate(start: Params, mask: Array, kept: Array | None) -> Trained:
        own = linearised(network, start) if linear else network

        def example_loss(output: Array, target: Array) -> Array:
            return loss(output / numbers.temperature, target / numbers.temperature, mask)

        def losses(params: Params, examples: tuple[Array, Array]) -> Array:
            images, wanted = examples
            return jax.vmap(example_loss)(_rows(own.apply(params, images)), wanted)

        return train(
            key,
            start,
            losses,
            lessons.at,
            lessons.n,
            around(make_optimiser(config, numbers), start),
            batch=config.batch,
            steps=steps_of(config, lessons.n),
            endless=lessons.endless,
            kept=kept,
            watch=None if every is None else Watch(every, lambda params: see(own, params)),
        )

    return jax.vmap(imitate)(starts, masks, kept)


def linearised(network: Network, start: Params) -> Network:
    """`network` in its first-order expansion at `start`: linear in its parameters, and equal to it there.

    Its logits are affine in its parameters, but not in any units: it has no `features`.
    """
    return Network(network.init, linearise(network.apply, start))


def stack(*networks: Params) -> Params:
    """Networks of one structure as one pytree with a leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *networks)
