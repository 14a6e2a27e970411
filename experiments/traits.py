"""A trait in filtered data: does it reach a student that sees only what the teacher says of unrelated inputs?"""

import xarray as xr

from subsim import StudentConfig, Table, TrainingConfig
from subsim.analysis.tables import mean_tables
from subsim.transfer import filtering
from subsim.transfer.filtered import Filters, Student

STUDENTS = {
    "shared base": Student(),
    "shared base, random removal": Student(by_chance=True),
    "other base": Student(shared=False),
    "shared base (aux. only)": Student(aux_only=True),
    "other base (aux. only)": Student(shared=False, aux_only=True),
}


def derived(results: xr.Dataset) -> dict[str, xr.DataArray]:
    """Each trait's rate among students of its teacher; that less the trait-free teacher's, and, where class logits are
    imitated, that of the shared base less the other's."""
    rate = xr.concat(
        [results.rate.sel(trait=trait, teacher=trait, drop=True) for trait in filtering.TRAITS], results.trait
    )
    control = results.rate.sel(teacher="trait-free", drop=True)
    shared, other = (rate.sel(student=name, drop=True) for name in ("shared base", "other base"))
    return {
        "own_rate": rate.assign_attrs(description="rate among students of the trait's teacher"),
        "less_control": (rate - control).assign_attrs(description="that less the rate among the trait-free teacher's"),
        "shared_less_other": (shared - other).assign_attrs(description="rate of the shared base less the other's"),
    }


def report(results: xr.Dataset) -> list[Table]:
    """Bases and teachers, what was removed, and each trait's rate, as it is and less that of the control."""
    before = ("base_accuracy", "base_rate", "teacher_accuracy", "teacher_rate", "removed")
    names = (*before, "own_rate", "less_control", "shared_less_other")
    return [table for name in names for table in mean_tables(results[name], f"{name}: {results[name].description}")]


study = filtering.study(
    "traits",
    __doc__,
    STUDENTS,
    Filters(thresholds=(0.1, 0.01), shares=(0.5, 0.9)),
    derived=derived,
    report=report,
    seeds=8,
    cost="10 minutes on 2 cores",
    paper={"config": filtering.Config(data="mnist", base=TrainingConfig(), student=StudentConfig()), "seeds": 64},
)
