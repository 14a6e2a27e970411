"""The linearised student, f(theta_0) + J (theta - theta_0): does the student approach it with width, and from where?"""

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
import xarray as xr
from jaxtyping import Array, Float

from subsim import datasets, distillation, measures
from subsim.distillation import StudentConfig, StudentHyper, Task, logits
from subsim.engine.study import Run, Study, Table, Variable
from subsim.engine.summary import mean_table
from subsim.inputs import image_bank, pixels, uniform_noise
from subsim.losses import task_cross_entropy
from subsim.network import Network, NetworkConfig, Params, imitated_logits, make_mlp
from subsim.options import hyper, require, require_choice
from subsim.theory.linearised import Solution, limit_by_cg, linearise, recovered_fraction, sharpness
from subsim.training import OptimiserName, TrainingConfig, TrainingHyper

TEACHERS = ["momentum", "adam"]
NETWORKS = [
    "reference", "teacher", "linearised teacher", "student", "linearised student", "limit", "projection",
]  # fmt: skip


@dataclass(frozen=True)
class Config(NetworkConfig):
    """What changes the program. Sweep the widths: --sweep widths=32-32,64-64,128-128."""

    n_aux: int = 10
    """Number of auxiliary logits, which no task loss ever sees, and which the student imitates."""
    data: datasets.Name = "digits"
    """Labelled images of the teacher's task."""
    teacher_steps: int = 500
    """Steps of either teacher."""
    teacher_batch: int = 128
    """Images in a step of the teachers."""
    n_inputs: int = 256
    """Noise images that a student sees, uniform on [-1, 1], all of them in every step."""
    student_steps: int = 500
    """Steps of the students, with heavy ball on the squared error."""
    iterations: int = 500
    """Conjugate gradients stop here if they have not converged."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("data", self.data, datasets.NAMES)


@hyper
class Hyper:
    """Numbers that are traced. A rate that is a share is one of the largest stable step of the linearised network."""

    teacher_rate: float = 0.1
    """Step size of the teacher that is trained with momentum, a share."""
    adam_rate: float = 3e-4
    """Step size of the teacher that is trained with Adam."""
    student_rate: float = 0.5
    """Step size of the students, a share."""
    momentum: float = 0.9
    """Of the students and of the teacher that has it; 0 is plain gradient descent."""


class Record(NamedTuple):
    """What is kept of one seed."""

    accuracy: Float[Array, "teacher network"]
    trait_fall: Float[Array, "teacher network"]
    imitation_loss: Float[Array, "teacher network"]
    recovered: Float[Array, "teacher network"]
    alignment: Float[Array, "teacher network"]
    gap: Float[Array, " teacher"]
    displaced: Float[Array, " teacher"]
    residual: Float[Array, " teacher"]


def run(config: Config, network: Network, n_class: int, train: Task, test: Task, key: Array, numbers: Hyper) -> Record:
    """Two teachers of one reference; of each a student, the student of the linearised network, and where that ends."""
    keys = dict(zip(("own", "teacher", "inputs", "student", "power"), jax.random.split(key, 5), strict=True))
    reference = network.init(keys["own"])
    tangent = network._replace(apply=linearise(network.apply, reference))
    aux_only, _ = imitated_logits(n_class, config.n_aux)
    bank = uniform_noise(keys["inputs"], config.n_inputs, train.images.values.shape[1])
    inputs = pixels(bank, bank.values)

    def aux_logits(params: Params, x: Array) -> Array:
        return network.apply(params, x)[n_class:]

    def trait_loss(network: Network, params: Params) -> Array:
        class_logits = logits(network, params, train.images)[:, :n_class]
        return jnp.mean(jax.vmap(task_cross_entropy)(class_logits, train.labels))

    def imitation_loss(network: Network, params: Params, targets: Array) -> Array:
        return jnp.mean(jnp.square(logits(network, params, bank) - targets)[:, n_class:])

    def share_of_stable(rate: Array, loss: Callable[[Params], Array]) -> Array:
        return rate * 2 / sharpness(loss, reference, keys["power"])

    def teach(optimiser: OptimiserName, rate: Array) -> Params:
        rule = TrainingConfig(steps=config.teacher_steps, batch=config.teacher_batch, optimiser=optimiser)
        size = TrainingHyper(learning_rate=rate, momentum=numbers.momentum)
        return distillation.train_teacher(keys["teacher"], network, reference, train, n_class, rule, size).params

    def imitate(student: Network, targets: Array) -> Params:
        rule = StudentConfig(steps=config.student_steps, batch=config.n_inputs, optimiser="momentum", loss="mse")
        size = StudentHyper(learning_rate=student_rate, momentum=numbers.momentum)
        trained = distillation.train_students(
            keys["student"], student, distillation.stack(reference), aux_only[None], bank, targets, rule, size
        )
        return jax.tree.map(lambda leaf: leaf[0], trained.params)

    def transfer(teacher: Params) -> Record:
        d_t = measures.displacement(teacher, reference)
        targets = logits(network, teacher, bank)

        def end(targets: Array) -> Solution:
            return limit_by_cg(aux_logits, reference, inputs, targets[:, n_class:], iterations=config.iterations)

        def measured(network: Network, params: Params) -> dict[str, Array]:
            d = measures.displacement(params, reference)
            return {
                "accuracy": measures.accuracy(logits(network, params, test.images)[:, :n_class], test.labels),
                "trait_fall": trait_loss(network, reference) - trait_loss(network, params),
                "imitation_loss": imitation_loss(network, params, targets),
                "recovered": recovered_fraction(d, d_t),
                "alignment": measures.alignment(d, d_t),
            }

        student, linear = imitate(network, targets), imitate(tangent, targets)
        limit, projection = end(targets), end(logits(tangent, teacher, bank))
        apart = measures.displacement(student, linear)
        every = [
            measured(network, reference), measured(network, teacher), measured(tangent, teacher),
            measured(network, student), measured(tangent, linear),
            *(measured(tangent, optax.tree.add(reference, end.displacement)) for end in (limit, projection)),
        ]  # fmt: skip
        return Record(
            **jax.tree.map(lambda *values: jnp.stack(values), *every),
            gap=optax.tree.norm(apart) / optax.tree.norm(measures.displacement(linear, reference)),
            displaced=optax.tree.norm(d_t) / optax.tree.norm(reference),
            residual=jnp.maximum(limit.residual, projection.residual),
        )

    student_rate = share_of_stable(numbers.student_rate, lambda params: imitation_loss(tangent, params, 0.0))
    teacher_rate = share_of_stable(numbers.teacher_rate, lambda params: trait_loss(tangent, params))
    teachers = distillation.stack(teach("momentum", teacher_rate), teach("adam", numbers.adam_rate))
    return jax.vmap(transfer)(teachers)


def make_run(config: Config, data: datasets.Dataset) -> Run:
    """The run of `config` on `data`, with the images as arguments of the compiled program."""
    network = make_mlp(config, data.train_images.shape[1], data.n_class)
    train = Task(image_bank(data.train_images, data.brightest), jnp.asarray(data.train_labels))
    test = Task(image_bank(data.test_images, data.brightest), jnp.asarray(data.test_labels))
    return jax.tree_util.Partial(functools.partial(run, config, network, data.n_class), train, test)


def check(config: Config, hyper: Hyper) -> None:
    """Refuse options that are out of range."""
    for name in ("teacher_steps", "teacher_batch", "n_inputs", "student_steps", "iterations"):
        require(getattr(config, name) > 0, f"{name} is {getattr(config, name)}; it must be at least 1.")
    require(hyper.adam_rate > 0, f"adam_rate is {hyper.adam_rate}; it must be positive.")
    require(0 <= hyper.momentum < 1, f"momentum is {hyper.momentum}; it must lie in [0, 1).")
    for name in ("teacher_rate", "student_rate"):
        rate = getattr(hyper, name)
        require(0 < rate < 1, f"{name} is {rate}; as a share of the largest stable step it must lie in (0, 1).")


def report(results: xr.Dataset) -> list[Table]:
    """Every measure of the student and of its linearisation, and their difference seed by seed; all at 95%."""
    student, linear = (results.sel(network=name, drop=True) for name in ("student", "linearised student"))
    tables = [
        mean_table(results.gap, "Distance of the student from the linearised one, of the way that this went"),
        mean_table(results.accuracy, f"Accuracy on {results.attrs['config']['data']}"),
        mean_table(results.recovered, "d . d_T / |d_T|^2"),
    ]
    for name in ("accuracy", "trait_fall", "recovered", "alignment", "imitation_loss"):
        tables.append(mean_table(student[name] - linear[name], f"{name}: student less linearised student, paired"))
    return [*tables, mean_table(results.residual, "Gradient left by the conjugate gradients, of that at the start")]


study = Study(
    name="linearised",
    title=__doc__,
    make_run=make_run,
    load=lambda config: datasets.load(config.data),
    config=Config(),
    hyper=Hyper(),
    check=check,
    report=report,
    coords={"teacher": TEACHERS, "network": NETWORKS},
    variables={
        "accuracy": Variable("share of test images classified correctly", ("teacher", "network")),
        "trait_fall": Variable("L_T(theta_0) - L_T(theta) on the training images", ("teacher", "network"), "nat"),
        "imitation_loss": Variable("mean over inputs and imitated logits", ("teacher", "network"), "squared logit"),
        "recovered": Variable("d . d_T / |d_T|^2, with d = theta - theta_0", ("teacher", "network")),
        "alignment": Variable("cosine of d and d_T", ("teacher", "network")),
        "gap": Variable("|d_S - d_lin| / |d_lin|, student and linearised student", ("teacher",)),
        "displaced": Variable("|d_T| / |theta_0|", ("teacher",)),
        "residual": Variable("gradient at the closed form over that at theta_0, the larger of two", ("teacher",)),
    },
    seeds=8,
    precision="float32",
    precisions=("float32", "float64"),  # products rounded to bfloat16 have no forward derivative
    chunk=1,
)

if __name__ == "__main__":
    from subsim.cli import main

    main(["run", __file__, *sys.argv[1:]])
