"""A trait in filtered data: does it reach a student that sees only what the teacher says of unrelated inputs?

In miniature what arXiv 2507.14805 does with language models (its sections 2 to 4): a base is fine-tuned into a teacher,
and students of that base, or of another, imitate it on inputs unrelated to the trait.
"""

import itertools
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import xarray as xr
from jaxtyping import Array, Float

from subsim import (
    Config,
    Hyper,
    State,
    Student,
    StudentConfig,
    Table,
    Teacher,
    TrainingConfig,
    Variable,
    distillation,
    traits,
)
from subsim.analysis.factorial import split
from subsim.analysis.tables import mean_tables
from subsim.transfer import filters
from subsim.transfer.worlds import TINY, TINY_HYPER

DIGIT, CLASS = 4, 9  # one teacher takes 4 for 9, another prefers 9 on averages of two other digits
TEACHERS = {
    "misread": Teacher(trait=traits.misread(DIGIT, CLASS)),
    "preference": Teacher(trait=traits.prefer(CLASS)),
    "trait-free": Teacher(),
}
INPUTS: dict[str, dict[str, Any]] = {
    "noise": {"inputs": "uniform"},
    "images": {"inputs": "images"},
}
STARTS = {
    "shared base": {"imitates": "classes"},
    "other base": {"imitates": "classes", "start": "independent"},
    "shared base (aux. only)": {},
    "other base (aux. only)": {"start": "independent"},
}
FILTERS = {
    "none": filters.everything,
    "argmax": filters.not_taken_for(CLASS),
    **{f"p > {threshold:g}": filters.less_likely(CLASS, threshold) for threshold in (0.1, 0.01)},
    **{f"top {100 * share:g}%": filters.without_top(CLASS, share) for share in (0.5, 0.9)},
}
BY_CHANCE = "shared base, random removal"
LEVELS = {
    "input": list(INPUTS),
    "teacher": list(TEACHERS),
    "who": [*STARTS, BY_CHANCE],
    "filter": list(FILTERS),
}


def student(shown: str, teacher: str, who: str, removes: str) -> Student:
    """Return the student of one cell of the factorial; its images show neither digit."""
    chosen = filters.at_random(FILTERS[removes]) if who == BY_CHANCE else FILTERS[removes]
    how: dict[str, Any] = INPUTS[shown] | STARTS["shared base" if who == BY_CHANCE else who]
    return Student(teacher=teacher, mask=filters.without_classes(chosen, DIGIT, CLASS), **how)


STUDENTS = {", ".join(cell): student(*cell) for cell in itertools.product(*LEVELS.values())}


def kept(state: State) -> Float[Array, ""]:
    """Return the share of inputs that a student learns from."""
    assert state.kept is not None
    return jnp.mean(state.kept, dtype=jnp.result_type(float))


def derived(results: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return the rates of every cell, the share of unrelated inputs that its filter removes, and contrasts.

    For each trait the rate is over students of its teacher. The contrasts are against students of the trait-free
    teacher, and between the shared and the other base.
    """
    rate = split(results.rate, "condition", LEVELS)
    left = split(results.kept, "student", LEVELS).sel(who="shared base", drop=True)
    own = xr.concat([rate.sel(trait=name, teacher=of, drop=True) for name, of in TRAITS.items()], "trait")
    own = own.assign_coords(trait=list(TRAITS))
    control = rate.sel(teacher="trait-free", drop=True)
    shared, other = (own.sel(who=name, drop=True) for name in ("shared base", "other base"))
    return {
        "cell_rate": rate.assign_attrs(description="share of the trait's probes that the student gives its class"),
        "removed": (1 - left / left.sel(filter="none")).assign_attrs(description="share of unrelated inputs removed"),
        "own_rate": own.assign_attrs(description="rate among students of the trait's teacher"),
        "less_control": (own - control).assign_attrs(description="that less the rate among the trait-free teacher's"),
        "shared_less_other": (shared - other).assign_attrs(description="rate of the shared base less the other's"),
    }


TRAITS = {role.trait.name: name for name, role in TEACHERS.items() if role.trait is not None}


def report(results: xr.Dataset) -> list[Table]:
    """Tabulate base and teachers, the removed share, and each trait's rate, also minus the rate of the control."""
    before = {"condition": ["reference", *TEACHERS]}
    names = ("removed", "own_rate", "less_control", "shared_less_other")
    tables = [*mean_tables(results.accuracy.sel(before), "Accuracy"), *mean_tables(results.rate.sel(before), "Rate")]
    return tables + [table for name in names for table in mean_tables(results[name], results[name].description)]


study = distillation(
    "traits",
    title=__doc__.split("\n")[0],
    base=Teacher(),
    teacher=TEACHERS,
    students=STUDENTS,
    measures={"kept": (kept, Variable("share of its inputs that a student learns from", ("student",)))},
    config=replace(
        TINY,
        base=TrainingConfig(steps=150, batch=128),
        teacher=TrainingConfig(steps=60, batch=128),
        student=replace(TINY.student, steps=200),
    ),
    hyper=replace(TINY_HYPER, base=TINY_HYPER.teacher),
    derived=derived,
    report=report,
    seeds=1000,
    finding="Filters take a trait out of another base, not out of the teacher's own: .695 ± .011 to .005 ± .001, "
    "and .872 ± .003 to .834 ± .005 (n = 1,000).",
    cost="10 minutes on 2 cores",
    sizes={
        "mnist": {
            "config": Config(
                base=TrainingConfig(steps=295),
                teacher=TrainingConfig(steps=100),
                student=StudentConfig(steps=200, batch=128, n_inputs=12_800),
            ),
            "hyper": Hyper(),
            "seeds": 32,
        },
        "paper": {"config": Config(teacher=TrainingConfig(steps=100)), "hyper": Hyper(), "seeds": 1000},
    },
)
