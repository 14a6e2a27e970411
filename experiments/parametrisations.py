"""Does transfer fall with width, and is m / width what counts? The standard, the NTK and the muP parametrisation."""

import functools
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax
import xarray as xr
from jaxtyping import Array, Float

from subsim import StudentConfig, StudentHyper, Study, Table, Variable
from subsim.analysis.tables import grid_tables
from subsim.data import datasets
from subsim.data.factorisations import eigh
from subsim.data.inputs import examples, uniform_noise
from subsim.engine.study import Run
from subsim.networks.network import Network, Params
from subsim.options import require_choice, require_range
from subsim.theory.kernel import nystroem
from subsim.theory.linearised import Kernel, dense_jacobian
from subsim.theory.width import cross_kernel_rms
from subsim.training.losses import imitated_logits
from subsim.transfer import imitation, measures
from subsim.transfer.imitation import Task, logits
from subsim.transfer.one_teacher import train_teacher
from subsim.transfer.rule import Rule
from subsim.transfer.students import Distillation, Students, train_students

Parametrisation = Literal["standard", "NTK", "muP"]
PARAMETRISATIONS = list(get_args(Parametrisation))
M = (1, 4, 16)  # logits imitated
BASE = 32  # the width at which all three agree
VARIANCE = 2.0  # c, he
FEW = 4  # numbers of inputs and test images for the kernel


@dataclass(frozen=True)
class Config:
    """Options that change the program."""

    parametrisation: Parametrisation = "standard"
    """How scales and learning rates depend on width; see `subsim.theory.width`."""
    width: int = 32
    """Number of hidden units; there is one hidden layer."""
    data: datasets.Name = "digits"
    """Labelled images of the teacher's task."""
    teacher_steps: int = 150
    """Number of steps of the teacher, each on 128 images."""
    n_inputs: int = 2_048
    """Number of noise images, uniform on [-1, 1]."""
    student_steps: int = 160
    """Number of steps of a student, each on 128 noise images, on the squared error of the imitated logits."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Hyper:
    """Traced hyperparameters: they may differ within one compiled program."""

    teacher_rate: float | Array = 1e-3
    """Adam's learning rate for the teacher at the base width of 32."""
    student_rate: float | Array = 3e-3
    """Adam's learning rate for the students at the base width."""


class Record(NamedTuple):
    """The accuracies of teacher and students, the relative movement of hidden weights, and the kernel at the start.

    The kernel is over a few inputs. Recorded are the root mean square between auxiliary and class logits, its predicted
    value, and trace T / trace K_CC, the share of the classes' kernel in a linearised student of these inputs.
    """

    teacher: Float[Array, ""]
    accuracy: Float[Array, " m"]
    moved: Float[Array, ""]
    student_moved: Float[Array, " m"]
    cross: Float[Array, ""]
    expected_cross: Float[Array, ""]
    share_of_t: Float[Array, " m"]


class Weights(NamedTuple):
    """The parameters of the hidden layer and of all logits."""

    hidden: Float[Array, "width pixels"]
    hidden_bias: Float[Array, " width"]
    head: Float[Array, "logits width"]
    bias: Float[Array, " logits"]


def make_network(config: Config, n_pixels: int, n_logits: int) -> tuple[Network, float]:
    """Return the network, and the factor of its learning rates."""
    relative = BASE / config.width
    scale = {"standard": 1.0, "NTK": relative**0.5, "muP": relative}[config.parametrisation]
    variance = VARIANCE / (config.width if config.parametrisation == "standard" else BASE)

    def init(key: Array) -> Weights:
        of_hidden, of_head = jax.random.split(key)
        hidden = jax.random.normal(of_hidden, (config.width, n_pixels)) * (VARIANCE / n_pixels) ** 0.5
        head = jax.random.normal(of_head, (n_logits, config.width)) * variance**0.5
        return Weights(hidden, jnp.zeros(config.width), head, jnp.zeros(n_logits))

    def batched(weights: Weights, x: Float[Array, "n pixels"]) -> Float[Array, "n logits"]:
        units = jax.nn.relu(x @ weights.hidden.T + weights.hidden_bias[None])
        return scale * (units @ weights.head.T) + weights.bias[None]

    def apply(weights: Weights, x: Float[Array, " pixels"]) -> Float[Array, " logits"]:
        return batched(weights, x[None])[0]

    rate = relative**0.5 if config.parametrisation == "NTK" else 1.0
    return Network(init, apply, batched=batched), rate


def run(
    config: Config, network: Network, rate: float, n_class: int, train: Task, test: Task, key: Array, hyper: Hyper
) -> Record:
    """Train a teacher and its students of a few, more and many logits, and evaluate the kernel at their start."""
    of_init, of_teacher, of_inputs, of_student = jax.random.split(key, 4)
    reference = network.init(of_init)
    teacher = train_teacher(
        of_teacher, network, reference, train, n_class, config.teacher_steps, rate * hyper.teacher_rate
    )

    bank = uniform_noise(of_inputs, config.n_inputs, train.images.values.shape[1])
    data = imitation.recorded(of_student, bank, logits(network, teacher, bank))
    options = StudentConfig(steps=config.student_steps, batch=128, loss="mse")
    distillation = Distillation(
        of_student, network, data, Rule(options, StudentHyper(learning_rate=rate * hyper.student_rate))
    )
    aux, _ = imitated_logits(n_class, max(M))
    first = jnp.arange(aux.size) - n_class
    masks = jnp.stack([aux & (first < m) for m in M])
    students = train_students(distillation, Students(imitation.stack(*[reference] * len(M)), masks)).params

    def accuracy(params: Params) -> Array:
        return measures.accuracy(logits(network, params, test.images)[:, :n_class], test.labels)

    def moved(weights: Weights) -> Array:
        return optax.tree.norm(weights.hidden - reference.hidden) / optax.tree.norm(reference.hidden)

    few = jnp.arange(FEW)
    noise, images = examples(bank, few), examples(test.images, few)
    of_aux = dense_jacobian(lambda params, x: network.apply(params, x)[n_class:], reference, noise)
    of_classes = dense_jacobian(lambda params, x: network.apply(params, x)[:n_class], reference, images)

    def rms(values: Array) -> Array:
        return jnp.sqrt(jnp.mean(values**2))

    def share_of_t(m: int) -> Array:
        rows = of_aux.reshape(FEW, max(M), -1)[:, :m].reshape(FEW * m, -1)
        eigenvalues, eigenvectors = eigh(rows @ rows.T)
        t = nystroem(of_classes, Kernel(eigenvalues, eigenvectors, rows))
        return jnp.trace(t) / jnp.sum(of_classes**2)

    predicted = rms(cross_kernel_rms(noise, images, config.width, variance=VARIANCE))
    return Record(
        accuracy(teacher), jax.vmap(accuracy)(students), moved(teacher), jax.vmap(moved)(students),
        rms(of_aux @ of_classes.T), predicted, jnp.stack([share_of_t(m) for m in M]),
    )  # fmt: skip


def make_run(config: Config, data: datasets.Dataset) -> Run:
    """Return the run of `config` on `data`; the images are arguments of the compiled program."""
    network, rate = make_network(config, data.train_images.shape[1], data.n_class + max(M))
    return jax.tree_util.Partial(functools.partial(run, config, network, rate, data.n_class), *imitation.tasks(data))


def check(config: Config, hyper: Hyper) -> None:
    """Raise `UserError` if an option is out of range."""
    require_choice("data", config.data, datasets.NAMES)
    require_choice("parametrisation", config.parametrisation, PARAMETRISATIONS)
    require_range(config, "width", "teacher_steps", "student_steps", "n_inputs", least=1, whole=True)
    require_range(hyper, "teacher_rate", "student_rate", above=0)


def derived(results: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return the share of the teacher's accuracy beyond chance, and the size of K_CA divided by its prediction."""
    share = (results.accuracy - 0.1) / (results.teacher - 0.1)
    return {
        "share": share.assign_attrs(description="(accuracy - .1) over the teacher's"),
        "cross_ratio": (results.cross / results.expected_cross).assign_attrs(
            description="root mean square of K_CA over the predicted one"
        ),
    }


def report(results: xr.Dataset) -> list[Table]:
    """Tabulate by width: accuracy, its share of the teacher's, movement of weights, and the kernel and its law."""
    return [
        *grid_tables(results.share, "width", "Share of the teacher's accuracy beyond chance", "m"),
        *grid_tables(results.teacher, "width", "Accuracy of the teacher", "parametrisation"),
        *grid_tables(results.moved, "width", "The teacher's hidden weights, relative change", "parametrisation"),
        *grid_tables(results.student_moved, "width", "A student's hidden weights, relative change", "m"),
        *grid_tables(results.cross, "width", "Root mean square of K_CA", "parametrisation"),
        *grid_tables(results.cross_ratio, "width", "... over the predicted one", "parametrisation"),
        *grid_tables(results.share_of_t, "width", "trace T / trace K_CC at the start", "m"),
    ]


study = Study(
    name="parametrisations",
    title=__doc__,
    make_run=make_run,
    load=lambda config: datasets.load(config.data),
    config=Config(),
    hyper=Hyper(),
    check=check,
    derived=derived,
    report=report,
    axes={"parametrisation": tuple(PARAMETRISATIONS), "width": (16, 32, 64, 128, 256)},
    coords={"m": list(M)},
    variables={
        "teacher": Variable("accuracy of the teacher"),
        "accuracy": Variable("share of test images classified correctly", ("m",)),
        "moved": Variable("change of the teacher's hidden weights, relative to them"),
        "student_moved": Variable("change of a student's hidden weights, relative to them", ("m",)),
        "cross": Variable("root mean square of K between auxiliary and class logits"),
        "expected_cross": Variable("the same by the law of independent heads; with muP 32 / width times as much"),
        "share_of_t": Variable("trace T / trace K_CC over a few inputs at the start", ("m",)),
    },
    seeds=1000,
    finding="With NTK the kernel depends on m / width alone, transfer does not: at 1/16 students have .225 ± .006, "
    ".508 ± .007 and .652 ± .006 of the teacher's accuracy beyond chance, widths 16, 64 and 256 (n = "
    "1,000).",
    cost="7 minutes on 2 cores",
    precisions=("float32", "float64"),
    sizes={"mnist": {"config": Config(data="mnist5k", n_inputs=7_552, student_steps=295), "seeds": 32}},
)
