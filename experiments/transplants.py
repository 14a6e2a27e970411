"""Does one pass backwards predict what a change halfway does: other moments, other parameters, a dropped batch?"""

import functools
import itertools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
import xarray as xr
from jaxtyping import Array, Float

from subsim import StudentConfig, StudentHyper, Study, Table, Variable
from subsim.analysis.prediction import over_seeds
from subsim.analysis.tables import grid_tables, median_in_words
from subsim.data import datasets
from subsim.data.inputs import uniform_noise
from subsim.engine.study import Run
from subsim.networks.mlp import make_mlp
from subsim.networks.network import Network, Params
from subsim.options import require_range
from subsim.theory.transport import Transport, transport
from subsim.training import loop
from subsim.training.losses import imitated_logits
from subsim.transfer import imitation
from subsim.transfer.imitation import Task, logits
from subsim.transfer.one_teacher import TeacherConfig, TeacherHyper, train_teacher
from subsim.transfer.rule import Rule
from subsim.transfer.students import Distillation, Students

KINDS = ["moments of another student", "moments reset", "parameters of another student", "last batch dropped"]
SHARES = [0.001, 0.01, 0.1, 1.0]  # shares of the whole change


@dataclass(frozen=True)
class Config(TeacherConfig):
    """Options that change the program."""

    n_inputs: int = 512
    """Number of noise images of a student, uniform on [-1, 1]."""
    steps_before: int = 80
    """Number of steps of a student before the change, with KL on the auxiliary logits."""
    steps_after: int = 20
    """Number of steps after the change."""
    student_batch: int = 128
    """Number of noise images in a step."""


class Record(NamedTuple):
    """The final change of L_T by a share of each change halfway: as trained, and to first order."""

    measured: Float[Array, "kind share"]
    predicted: Float[Array, "kind share"]


def run(config: Config, network: Network, n_class: int, train: Task, key: Array, hyper: TeacherHyper) -> Record:
    """Train a teacher and two students on different inputs, and change the first one halfway."""
    of_init, of_teacher, of_inputs, of_student = jax.random.split(key, 4)
    reference = network.init(of_init)
    teacher = train_teacher(of_teacher, network, reference, train, n_class, config.teacher_steps, hyper.teacher_rate)
    # The derivative must exist for parameters without a gradient.
    optimiser = optax.adam(hyper.student_rate, eps_root=1e-16)
    rule = Rule(StudentConfig(batch=config.student_batch), StudentHyper(), {"optimiser": optimiser})
    aux, _ = imitated_logits(n_class, config.n_aux)

    def training_of(key: Array) -> loop.Training:
        bank = uniform_noise(key, config.n_inputs, train.images.values.shape[1])
        data = imitation.recorded(of_student, bank, logits(network, teacher, bank))
        return Distillation(of_student, network, data, rule).training_of(Students(reference, aux))

    first, other = (training_of(key) for key in jax.random.split(of_inputs))
    earlier, second = loop.train(first, config.steps_before - 1), loop.train(other, config.steps_before)

    def after(trained: loop.Trained, step: int) -> loop.Training:
        return first._replace(params=trained.params, state=trained.state, first_step=step)

    now = loop.train(after(earlier, config.steps_before - 1), 1)

    def trait_loss(params: Params) -> Array:
        return imitation.task_loss(network, params, train, n_class)

    halfway = after(now, config.steps_before)
    gradient = transport(halfway, config.steps_after, trait_loss)
    no_params, no_state = jax.tree.map(jnp.zeros_like, (now.params, now.state))
    no_weights = jnp.zeros(config.n_inputs)
    changes = {
        "moments of another student": (no_params, optax.tree.sub(second.state, now.state)),
        "moments reset": (no_params, optax.tree.sub(no_state, now.state)),
        "parameters of another student": (optax.tree.sub(second.params, now.params), no_state),
        "last batch dropped": optax.tree.sub((earlier.params, earlier.state), (now.params, now.state)),
    }

    def moved(leaf: Array, by: Array, share: float) -> Array:  # Adam continues to count its steps
        return leaf + share * by if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    def end(training: loop.Training) -> Array:
        return trait_loss(loop.train(training, config.steps_after).params)

    def changed(kind: str, share: float) -> loop.Training:
        params, state = jax.tree.map(lambda leaf, by: moved(leaf, by, share), (now.params, now.state), changes[kind])
        return halfway._replace(params=params, state=state)

    unchanged = end(halfway)
    effects = jnp.stack([gradient.effect(Transport(changes[kind][0], changes[kind][1], no_weights)) for kind in KINDS])
    measured = jnp.stack([jnp.stack([end(changed(kind, share)) - unchanged for share in SHARES]) for kind in KINDS])
    return Record(measured, jnp.outer(effects, jnp.array(SHARES)))


def make_run(config: Config, data: datasets.Dataset) -> Run:
    """Return the run of `config` on `data`; the images are arguments of the compiled program."""
    network = make_mlp(config, data.train_images.shape[1], data.n_class)
    train, _ = imitation.tasks(data)
    return jax.tree_util.Partial(functools.partial(run, config, network, data.n_class), train)


def check(config: Config, hyper: TeacherHyper) -> None:
    """Raise `UserError` if an option is out of range."""
    require_range(config, "teacher_steps", "n_inputs", "steps_after", "student_batch", least=1, whole=True)
    require_range(config, "steps_before", least=2, whole=True)
    require_range(hyper, "teacher_rate", "student_rate", above=0)


def derived(results: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return the relative error of the predicted change, and the rank correlation of both changes over seeds.

    The correlation is given as one pseudo-value for each seed.
    """
    off = abs(results.measured - results.predicted) / abs(results.predicted)
    return {
        "off": off.assign_attrs(description="|measured - predicted| over |predicted|"),
        "rank": over_seeds(results.measured, results.predicted).assign_attrs(
            description="rank correlation of the measured and the predicted change over seeds"
        ),
    }


def report(results: xr.Dataset) -> list[Table]:
    """Tabulate the effect of a change by kind and share, the error of its prediction, and their rank correlation."""
    header = ("change", "share", "|measured - predicted| / |predicted|")
    labels = itertools.product(*(results[dim].values for dim in ("activation", "kind", "share")))
    rows = [
        (
            f"{activation}, {kind}",
            f"{share:g}",
            median_in_words(results.off.sel(activation=activation, kind=kind, share=share)),
        )
        for activation, kind, share in labels
    ]
    return [
        *grid_tables(results.measured, "kind", "Change of L_T at the end", "share"),
        *grid_tables(results.predicted, "kind", "Predicted to first order", "share"),
        Table(f"Medians over {results.sizes['seed']} seeds, with 95% intervals", header, tuple(rows)),
        *grid_tables(results["rank"], "kind", "Rank correlation over seeds", "share"),
    ]


study = Study(
    name="transplants",
    title=__doc__,
    make_run=make_run,
    load=lambda config: datasets.load(config.data),
    config=Config(widths=(32, 32), n_aux=10, init="he"),
    hyper=TeacherHyper(),
    check=check,
    derived=derived,
    report=report,
    axes={"activation": ("relu", "tanh")},
    coords={"kind": KINDS, "share": SHARES},
    variables={
        "measured": Variable("change of L_T at the end", ("kind", "share"), "nat"),
        "predicted": Variable("the same to first order", ("kind", "share"), "nat"),
    },
    seeds=1000,
    finding="The change of a tanh network is predicted, that of a ReLU network roughly: of a tenth of it with rank "
    "correlations of .994 ± .001 and more; with ReLU, whose units flip, .65 ± .04 (a dropped batch) to "
    ".953 ± .007 (parameters; n = 1,000).",
    cost="90 seconds on 2 cores",
    precision="float64",
    precisions=("float64",),  # the smallest changes are a millionth of L_T
    sizes={"mnist": {"config": Config(data="mnist5k", n_aux=10, n_inputs=2_048), "seeds": 32}},
)
