"""Many steps: does imitation go on pulling toward the trait, under SGD and Adam, and can an intervention stop it?"""

import functools
import itertools
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jaxtyping import Array, Float

from subsim import StudentConfig, StudentHyper, Study, Table, TrainingConfig, TrainingHyper, Variable, mean_interval
from subsim.data import datasets, inputs
from subsim.engine.study import Run
from subsim.networks import network as networks
from subsim.networks.mlp import MLPConfig, make_mlp
from subsim.networks.network import Network, Params
from subsim.options import require, require_choice, require_range
from subsim.theory import trajectory
from subsim.training.losses import imitated_logits, imitation_kl, task_cross_entropy
from subsim.training.optimisers import OptimiserName, check_training, steps_of
from subsim.transfer import imitation, measures
from subsim.transfer.imitation import Task
from subsim.transfer.options import check_student
from subsim.transfer.students import Choice, train_students, train_teacher

OPTIMISERS: list[OptimiserName] = ["sgd", "adam"]
INTERVENTIONS = ["none", "projected", "projected while positive", "liminal"]
INITS = ["shared", "independent"]
LAYERS = ["aux_head", "class_head", "hidden.0", "hidden.1"]


@dataclass(frozen=True)
class Config(MLPConfig):
    """The protocol of Figure 10, its aux.-only students, and what is watched."""

    data: datasets.Name = "mnist5k"
    """Labelled images of the teacher's task; mnist is the paper's."""
    every: int = 5
    """Steps from one moment that is kept to the next."""
    trait_images: int = 512
    """Training images that L_T of the student is measured on, the first ones."""
    teacher: TrainingConfig = field(default_factory=lambda: TrainingConfig(steps=295))
    student: StudentConfig = field(default_factory=StudentConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("data", self.data, datasets.NAMES)
        require(len(self.widths) == 2, f"widths is {self.widths}; this study watches two hidden layers.")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Hyper:
    """Numbers that are traced: they may differ within one compiled program."""

    teacher: TrainingHyper = field(default_factory=TrainingHyper)
    student: StudentHyper = field(default_factory=StudentHyper)
    sgd: StudentHyper = field(default_factory=lambda: StudentHyper(learning_rate=0.1))
    """Those of the students that SGD trains."""
    liminal_weight: float | Array = 1.0
    """Weight of the pull to the student's own start: KL on all logits, on noise."""
    liminal_steps: int | Array = 59
    """Steps that it lasts; the default is the first epoch."""


class Record(NamedTuple):
    """What is kept of one seed."""

    teacher: Float[Array, ""]
    accuracy: Float[Array, "optimiser intervention init"]
    imitation_loss: Float[Array, "optimiser intervention init"]
    fall: Float[Array, "optimiser intervention init"]
    predicted_fall: Float[Array, "optimiser intervention init"]
    positive: Float[Array, "optimiser intervention init"]
    positive_update: Float[Array, "optimiser intervention init"]
    trait_loss: Float[Array, "optimiser intervention init step"]
    running_sum: Float[Array, "optimiser intervention init step"]
    inner_product: Float[Array, "optimiser intervention init step"]
    cosine: Float[Array, "optimiser intervention init step"]
    products: Float[Array, "optimiser intervention init step layer"]
    cosines: Float[Array, "optimiser intervention init step layer"]
    update_product: Float[Array, "optimiser intervention init step"]
    update_cosine: Float[Array, "optimiser intervention init step"]


def run(config: Config, network: Network, n_class: int, train: Task, test: Task, key: Array, numbers: Hyper) -> Record:
    """A teacher, and its students of both starts by every optimiser under every intervention."""
    keys = dict(zip(("own", "other", "teacher", "inputs", "student"), jax.random.split(key, 5), strict=True))
    reference, independent = network.init(keys["own"]), network.init(keys["other"])
    teacher = train_teacher(keys["teacher"], network, reference, train, n_class, config.teacher, numbers.teacher).params
    data = imitation.make_imitation(keys["inputs"], network, teacher, config.student, numbers.student, train.images)
    aux_only, all_logits = imitated_logits(n_class, config.n_aux, numbers.student.n_imitated)
    n = min(config.trait_images, train.labels.shape[0])
    first = jnp.arange(n)
    images, labels, probe = inputs.examples(train.images, first), train.labels[:n], data.at(first)[0]
    steps = steps_of(config.student, data.n)
    epoch = -(-data.n // config.student.batch)

    def trait_loss(params: Params) -> Array:
        return jnp.mean(jax.vmap(task_cross_entropy)(networks.logits(network, params, images)[:, :n_class], labels))

    def accuracy(params: Params) -> Array:
        return measures.accuracy(imitation.logits(network, params, test.images)[:, :n_class], test.labels)

    def pull_to(start: Params) -> trajectory.Loss:
        then = networks.logits(network, start, probe)

        def pull(params: Params) -> Array:
            now = networks.logits(network, params, probe)
            return jnp.mean(jax.vmap(lambda z, y: imitation_kl(z, y, all_logits))(now, then))

        return pull

    def around(name: str, optimiser: optax.GradientTransformation, start: Params) -> optax.GradientTransformation:
        positive = name == "projected while positive"
        before = {
            "none": optax.identity(),
            "liminal": trajectory.liminal(pull_to(start), numbers.liminal_weight, numbers.liminal_steps),
        }.get(name, trajectory.trait_projected_out(trait_loss, only_while_positive=positive))
        return trajectory.watched(optax.chain(before, optimiser), trait_loss, config.every, steps)

    def students(optimiser: OptimiserName, intervention: str) -> dict[str, Array]:
        """Both starts, along a leading axis."""
        starts, aux = imitation.stack(reference, independent), Choice(jnp.stack([aux_only, aux_only]))
        found = train_students(
            keys["student"], network, starts, aux, data,
            replace(config.student, optimiser=optimiser), numbers.sgd if optimiser == "sgd" else numbers.student,
            around=functools.partial(around, intervention),
        )  # fmt: skip
        moments = found.state.moments
        return {
            "accuracy": jax.vmap(accuracy)(found.params),
            "imitation_loss": jnp.mean(found.losses[:, -epoch:], axis=1),
            "fall": moments.trait_loss[:, 0] - moments.trait_loss[:, -1],
            "predicted_fall": -moments.running_sum[:, -1],
            "positive": jnp.mean(moments.cosine > 0, axis=1, dtype=moments.cosine.dtype),
            "positive_update": jnp.mean(moments.update_cosine > 0, axis=1, dtype=moments.cosine.dtype),
            **moments._asdict(),
        }

    rows = [imitation.stack(*(students(name, what) for what in INTERVENTIONS)) for name in OPTIMISERS]
    return Record(teacher=accuracy(teacher), **imitation.stack(*rows))


def make_run(config: Config, data: datasets.Dataset) -> Run:
    """The run of `config` on `data`, with the images as arguments of the compiled program."""
    network = make_mlp(config, data.train_images.shape[1], data.n_class)
    return jax.tree_util.Partial(functools.partial(run, config, network, data.n_class), *imitation.tasks(data))


def steps_made(config: Config, n: int) -> list[int]:
    """How many steps were made at each of the `n` moments that are kept."""
    return [config.every * place for place in range(n)]


def check(config: Config, numbers: Hyper) -> None:
    """Refuse options that contradict each other."""
    check_training("teacher", config.teacher, numbers.teacher)
    check_student("student", config.student, numbers.student, config.n_aux)
    check_student("sgd", config.student, numbers.sgd, config.n_aux)
    require_range(config, "every", "trait_images", least=1, whole=True)
    require_range(numbers, "liminal_weight", least=0)
    require_range(numbers, "liminal_steps", least=0, whole=True)


def report(results: xr.Dataset) -> list[Table]:
    """What each student learned, of the trait and of the imitation, and how often its step was toward the trait."""
    columns = {
        "accuracy": "accuracy",
        "fall": "fall of L_T",
        "predicted_fall": "running sum",
        "imitation_loss": "imitation loss",
        "positive": "P(g.t > 0)",
        "positive_update": "P(-u.t > 0)",
    }
    tables = []
    for optimiser in OPTIMISERS:
        summary = {name: mean_interval(results[name].sel(optimiser=optimiser)) for name in columns}
        rows = []
        for intervention, init in itertools.product(INTERVENTIONS, INITS):
            cells = [summary[name].sel(intervention=intervention, init=init) for name in columns]
            words = [f"{float(cell['mean']):.3g} ± {float(cell.high - cell['mean']):.1g}" for cell in cells]
            rows.append((f"{intervention}, {init}", *words))
        n, dropped = int(summary["accuracy"].n.min()), int(summary["accuracy"].dropped.max())
        title = f"{optimiser} on {results.attrs['config']['data']}, mean ± 95%, n = {n}, {dropped} dropped"
        tables.append(Table(title, ("student", *columns.values()), tuple(rows)))
    return [*tables, by_layer(results)]


def by_layer(results: xr.Dataset) -> Table:
    """What each layer gives of g . t, in the mean over the moments of the students that nothing is done to."""
    plain = results.sel(intervention="none")
    of_layers = {
        "mean g . t": (plain.products.mean("step", skipna=False), ".1e"),
        "mean cosine": (plain.cosines.mean("step", skipna=False), ".3f"),
        "P(g . t > 0)": ((plain.products > 0).where(np.isfinite(plain.products)).mean("step", skipna=False), ".3f"),
    }
    summaries = [(mean_interval(values), form) for values, form in of_layers.values()]
    rows = []
    for optimiser, init, layer in itertools.product(OPTIMISERS, INITS, LAYERS):
        cells = [(summary.sel(optimiser=optimiser, init=init, layer=layer), form) for summary, form in summaries]
        words = (f"{float(cell['mean']):{form}} ± {float(cell.high - cell['mean']):{form}}" for cell, form in cells)
        rows.append((optimiser, init, layer, *words))
    n = int(summaries[0][0].n.min())
    title = f"By layer, without intervention, mean ± 95%, n = {n}"
    return Table(title, ("optimiser", "init", "layer", *of_layers), tuple(rows))


STUDENTS = ("optimiser", "intervention", "init")
ALONG = (*STUDENTS, "step")
study = Study(
    name="trajectory",
    title=__doc__,
    make_run=make_run,
    load=lambda config: datasets.load(config.data),
    config=Config(),
    hyper=Hyper(),
    check=check,
    report=report,
    coords={"optimiser": OPTIMISERS, "intervention": INTERVENTIONS, "init": INITS, "layer": LAYERS, "step": steps_made},
    variables={
        "teacher": Variable("test accuracy of the teacher"),
        "accuracy": Variable("share of test images classified correctly", STUDENTS),
        "imitation_loss": Variable("mean imitation loss over the last epoch", STUDENTS, "nat or squared logit"),
        "fall": Variable("fall of L_T from the first to the last step", STUDENTS, "nat"),
        "predicted_fall": Variable("fall of L_T that the running sum of first-order changes gives", STUDENTS, "nat"),
        "positive": Variable("share of moments at which g . t > 0", STUDENTS),
        "positive_update": Variable("share of moments at which -u . t > 0", STUDENTS),
        "trait_loss": Variable("L_T of the student", ALONG, "nat"),
        "running_sum": Variable("running sum of the first-order changes of L_T", ALONG, "nat"),
        "inner_product": Variable("g . t, imitation and trait gradient", ALONG),
        "cosine": Variable("cosine of the imitation and the trait gradient", ALONG),
        "products": Variable("g . t by layer", (*ALONG, "layer")),
        "cosines": Variable("cosine of the two gradients by layer", (*ALONG, "layer")),
        "update_product": Variable("-u . t, update and trait gradient", ALONG),
        "update_cosine": Variable("cosine of -update and the trait gradient", ALONG),
    },
    seeds=8,
    cost="10 minutes on 2 cores",
    precisions=("float32", "float64"),
)
