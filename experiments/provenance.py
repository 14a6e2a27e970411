"""Was this student distilled from that teacher, or from that base? Tests by queries alone, and by parameters."""

import itertools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
import xarray as xr
from jaxtyping import Array, Float

from subsim import Config, Hyper, State, Student, StudentConfig, Table, Teacher, TrainingConfig, Variable, distillation
from subsim.analysis.prediction import area_over_seeds
from subsim.analysis.tables import grid_tables, mean_tables
from subsim.data.inputs import examples
from subsim.networks import network as networks
from subsim.networks import parameters
from subsim.networks.network import Params
from subsim.networks.parameters import ratio
from subsim.transfer.worlds import TINY, TINY_HYPER

QUERIES = (8, 64, 512)
NOISE, IMAGES = "noise", "images"
OF = {"class": "class logits", "all": "all logits"}
BY_QUERIES = {
    f"{words}, {n} {inputs}": (which, n, inputs)
    for (which, words), inputs, n in itertools.product(OF.items(), (NOISE, IMAGES), QUERIES)
}
BY_PARAMETERS = "parameters"
TESTS = (*BY_QUERIES, BY_PARAMETERS)
ALARMS = 0.01  # the rate of false alarms at which power is counted

TEACHER, SIBLING, STRANGER, TUTOR = "teacher", "sibling", "stranger", "tutor"
# The sibling differs from the teacher in the order of its batches alone; the others have another base, too.
TEACHERS = {
    TEACHER: Teacher(),
    SIBLING: Teacher(stream=1),
    STRANGER: Teacher("independent", stream=2),
    TUTOR: Teacher("independent", stream=3),
}
INNOCENT = (SIBLING, STRANGER)
ITS_BASE, ANOTHER = "its base", "another base"
CHILD, TUNED, ADOPTED = "child", "fine-tuned afterwards", "child of a stranger"


def students(quarter: int, four_times: int, tuned: int) -> dict[str, Student]:
    """Return all suspects: students of the teacher, but for one of a stranger; all start from the teacher's base.

    Two make these numbers of steps. One makes `tuned` more steps, on a tutor's reading of images.
    """
    return {
        CHILD: Student(),
        "a quarter of the steps": Student(steps=quarter),
        "four times the steps": Student(steps=four_times),
        "m = 3": Student(n_imitated=3),
        "16 sampled labels": Student(targets="sampled", samples=16),
        "largest logit alone": Student(targets="argmax"),
        TUNED: Student(CHILD, teacher=TUTOR, imitates="classes", inputs="images", steps=tuned),
        ADOPTED: Student(teacher=STRANGER),
    }


def agreement(a: Float[Array, "n logits"], b: Float[Array, "n logits"]) -> Float[Array, ""]:
    """Return the correlation of two networks' logits over queries, each logit less its mean."""
    a, b = (values - jnp.mean(values, axis=0, keepdims=True) for values in (a, b))
    return ratio(jnp.sum(a * b), jnp.linalg.norm(a) * jnp.linalg.norm(b))


def by_queries(state: State, suspected: Params) -> list[Float[Array, ""]]:
    """Return the agreement of the network in `state` with the one that is `suspected`, for each of `BY_QUERIES`."""
    width, most = state.task.test.images.values.shape[1:], max(QUERIES)
    queries = {
        NOISE: jax.random.uniform(jax.random.key(0), (most, *width), minval=-1.0),
        IMAGES: examples(state.task.test.images, jnp.arange(most) % state.task.test.labels.shape[0]),
    }
    said = {
        inputs: [networks.logits(state.network, params, x) for params in (state.parameters, suspected)]
        for inputs, x in queries.items()
    }
    last = {"class": state.task.n_class, "all": None}
    return [
        agreement(*(logits[:n, : last[kind]] for logits in said[inputs])) for kind, n, inputs in BY_QUERIES.values()
    ]


def of_teacher(state: State) -> Float[Array, "teacher test"]:
    """Return every test of whether a network was distilled from each teacher; parameters: cosine of displacements."""
    moved = parameters.displacement(state.parameters, state.reference)  # a network that is fine-tuned starts elsewhere
    found = []
    for name in (TEACHER, *INNOCENT):
        teacher, start = state.trained[name], state.independent if name == STRANGER else state.reference
        cosine = parameters.alignment(moved, parameters.displacement(teacher, start))
        found.append(jnp.stack([*by_queries(state, teacher), cosine]))
    return jnp.stack(found)


def of_base(state: State) -> Float[Array, "base test"]:
    """Return every test of whether a network started from each base; by parameters: minus the relative distance."""

    def distance(base: Params) -> Array:
        return optax.tree.norm(parameters.displacement(state.parameters, base)) / optax.tree.norm(base)

    bases = state.reference, state.independent
    return jnp.stack([jnp.stack([*by_queries(state, base), -distance(base)]) for base in bases])


def derived(results: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return power and area under the ROC curve of every test: the true teacher or base against an innocent one."""

    def against(values: xr.DataArray, dim: str, true: str, other: str) -> tuple[xr.DataArray, ...]:
        present, absent = values.sel({dim: true}, drop=True), values.drop_sel({dim: true}).rename({dim: other})
        least = absent.quantile(1 - ALARMS, "seed").drop_vars("quantile")
        found = present > least, area_over_seeds(present, absent), present > absent
        return tuple(part.transpose("seed", ...) for part in found)

    children = results.of_teacher.drop_sel(student=ADOPTED).rename(student="suspect")
    power, area, chosen = against(children, "told_from", TEACHER, "innocent")
    base_power, base_area, _ = (
        part.squeeze("elsewhere", drop=True)
        for part in against(results.of_base.rename(student="cousin"), "base", ITS_BASE, "elsewhere")
    )
    words = {"power": "share of suspects found at 1% false alarms", "area": "area under the ROC curve"}
    return {
        "power": power.assign_attrs(description=f"{words['power']}: distilled from the teacher"),
        "area": area.assign_attrs(description=f"{words['area']}: distilled from the teacher"),
        "chosen": chosen.assign_attrs(
            description="share of suspects that agree more with their teacher than with another"
        ),
        "base_power": base_power.assign_attrs(description=f"{words['power']}: from the base"),
        "base_area": base_area.assign_attrs(description=f"{words['area']}: from the base"),
    }


def report(results: xr.Dataset) -> list[Table]:
    """Tabulate power at 1% false alarms: a row for every test, a column for every suspect."""
    return [
        *grid_tables(results.power, "test", "Power at 1% false alarms, distilled from the teacher", "suspect"),
        *grid_tables(results.base_power, "test", "Power at 1% false alarms, from the base", "cousin"),
        *grid_tables(results.chosen, "test", "Share that agrees more with the teacher than with another", "suspect"),
        *grid_tables(results.area, "test", "Area under the ROC curve, distilled from the teacher", "suspect"),
        *mean_tables(results.accuracy, "Accuracy"),
    ]


LARGE: dict[str, Any] = {
    "students": students(74, 1180, 59),
    "config": Config(
        n_aux=10, teacher=TrainingConfig(steps=295), student=StudentConfig(steps=295, batch=128, n_inputs=7_552)
    ),
    "hyper": Hyper(),
}
study = distillation(
    "provenance",
    title=__doc__,
    teacher=TEACHERS,
    students=students(40, 640, 40),
    measures={
        "of_teacher": (
            of_teacher,
            Variable(
                "agreement with a teacher; by parameters: cosine of displacements", ("student", "told_from", "test")
            ),
        ),
        "of_base": (
            of_base,
            Variable("agreement with a base; by parameters: minus the relative distance", ("student", "base", "test")),
        ),
    },
    coords={"told_from": [TEACHER, *INNOCENT], "base": [ITS_BASE, ANOTHER], "test": list(TESTS)},
    config=replace(TINY, student=replace(TINY.student, steps=160)),
    hyper=TINY_HYPER,
    derived=derived,
    report=report,
    seeds=1000,
    finding="Eight noise queries tell a teacher from one of another base, not from its sibling: power .027 [.018, "
    ".039] at 1% false alarms there, though .969 [.956, .979] of children are nearer their own teacher (n "
    "= 1,000).",
    cost="2 minutes on 2 cores",
    sizes={"mnist": LARGE | {"seeds": 32}},
)
