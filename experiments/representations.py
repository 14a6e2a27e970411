"""What hidden layers tell of transfer: probes, similarity to the teacher and displacements, against accuracy."""

from typing import Any

import xarray as xr

from subsim import (
    FIGURE_10,
    Config,
    Student,
    StudentConfig,
    Table,
    TrainingConfig,
    Variable,
    distillation,
    rotated,
    sharing,
)
from subsim.analysis.summary import rank_correlation
from subsim.analysis.tables import grid_tables, mean_tables
from subsim.transfer import features

# One student for each thing that the other studies vary: its start, its inputs, its loss, its optimiser, its batch.
STARTS: dict[str, Any] = {
    "rotated by .4": rotated(0.4),
    "another's heads": sharing("hidden"),
    "another's hidden layers": sharing("class_head", "aux_head"),
}
VARIED: dict[str, dict[str, Any]] = {
    "real images": {"inputs": "images", "n_inputs": StudentConfig.n_inputs},
    "blurred noise": {"inputs": "blurred"},
    "noise of rank 30": {"inputs": "subspace", "rank": 30},
    "squared error": {"loss": "mse"},
    "temperature 4": {"temperature": 4.0},
    "momentum": {"optimiser": "momentum", "learning_rate": 0.3, "loss": "mse"},
    "decay of .01": {"optimiser": "adam_l2", "weight_decay": 0.01},
    "batches of 512": {"batch": 512, "n_inputs": 30_208},
}
STUDENTS = (
    FIGURE_10
    | {name: Student(start) for name, start in STARTS.items()}
    | {name: Student(**options) for name, options in VARIED.items()}
)
# A class logit that is imitated is taught, whatever the hidden layers do.
UNSEEN = [name for name, student in STUDENTS.items() if student.imitates == "aux"]
M = (3, 50)
SETTINGS = ("widths", "student.n_imitated")


def derived(results: xr.Dataset) -> dict[str, xr.DataArray]:
    """What a probe gains over its network's start; and the rank correlation of each measure with accuracy over the
    students of a seed, in the mean over widths and m: what tells these apart alone has none."""
    compared = results.compared
    gain = compared.sel(measure="probe", drop=True) - compared.sel(measure="probe at start", drop=True)
    found = {
        who: rank_correlation(results.accuracy.sel(condition=names), compared.sel(condition=names), within=SETTINGS)
        for who, names in {"students of auxiliary logits alone": UNSEEN, "all students": list(STUDENTS)}.items()
    }
    correlations = xr.concat(found.values(), xr.Variable("students", list(found)))
    return {
        "probe_gain": gain.assign_attrs(description="accuracy of a probe less that of one at the start"),
        "rank_correlation": correlations.assign_attrs(description="rank correlation with accuracy"),
    }


def report(results: xr.Dataset) -> list[Table]:
    """Every measure of every network; and its rank correlation with accuracy over networks of a seed."""
    return [
        *mean_tables(results.accuracy, "Accuracy"),
        *grid_tables(results.compared, "condition", "Hidden layers and displacements", "measure"),
        *mean_tables(results.probe_gain),
        *mean_tables(results.rank_correlation),
    ]


study = distillation(
    "representations",
    title=__doc__,
    students=STUDENTS,
    measures={
        "compared": (features.compared, Variable("a measure of hidden layers or weights", ("condition", "measure")))
    },
    coords={"measure": list(features.MEASURES)},
    config=Config(
        data="mnist5k",
        n_aux=max(M),
        teacher=TrainingConfig(steps=295),
        student=StudentConfig(steps=295, batch=128, n_inputs=7_552),
    ),
    axes={"widths": ((64, 64), (256, 256)), "student.n_imitated": M},
    derived=derived,
    report=report,
    seeds=8,
    cost="9 minutes on 2 cores",
    paper={"seeds": 100, "config": Config(n_aux=max(M), student=StudentConfig(steps=295))},
    precisions=("float32", "float64"),
)
