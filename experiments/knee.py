"""Is there a knee at the task's rank? Transfer against m for several numbers of classes K."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from subsim import Config, Hyper, Student, StudentConfig, Table, TrainingConfig, distillation
from subsim.analysis.summary import contrasts
from subsim.analysis.tables import grid_tables, mean_tables
from subsim.transfer.worlds import TINY, TINY_HYPER

M = (1, 2, 4, 9, 18, 30)  # for 3, 5 and 10 classes the rank K - 1 is 2, 4 and 9
CLASSES = (3, 5, 10)
KINDS = {
    "real student": {"activation": "relu", "condition": "student"},
    "linearised student": {"activation": "relu", "condition": "linearised student"},
    "deep linear network": {"activation": "linear", "condition": "student"},
}


def derived(results: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return the share of the teacher's accuracy beyond chance by kind of student, and its bends.

    The bend at m is the slope in log m below m minus the slope above m. The contrasts compare the bend at the rank,
    K - 1, with the bends at its neighbours.
    """
    beyond, m = results.accuracy - 1 / results.n_class, results["student.n_imitated"].values
    shares = beyond / beyond.sel(condition="teacher", drop=True)
    kinds = {name: place for name, place in KINDS.items() if place["activation"] in results.activation}
    found = xr.concat([shares.sel(place, drop=True) for place in kinds.values()], xr.Variable("kind", list(kinds)))
    found = found.transpose("seed", ...)
    slopes = found.diff("student.n_imitated") / xr.DataArray(
        np.diff(np.log(m)), dims="student.n_imitated", coords={"student.n_imitated": m[1:]}
    )
    before = slopes.isel({"student.n_imitated": slice(None, -1)})
    bends = before - slopes.isel({"student.n_imitated": slice(1, None)}).assign_coords(before.coords)
    pairs: dict[str, Any] = {}
    inner = bends["student.n_imitated"].values.tolist()
    for kind, k in itertools.product(kinds, results.n_class.values):
        at = {"kind": kind, "n_class": k}
        for other in inner:
            if k - 1 in inner and abs(inner.index(other) - inner.index(k - 1)) == 1:
                here, there = (at | {"student.n_imitated": where} for where in (k - 1, other))
                pairs[f"{kind}, K = {k}: at {k - 1} less at {other}"] = (here, there)
    return {
        "share": found.assign_attrs(description="(accuracy - 1/K) over the teacher's"),
        "bend": bends.assign_attrs(description="slope of the share in log m below m less that above"),
        "bends": contrasts(bends, pairs, "difference of bends, paired"),
    }


def report(results: xr.Dataset) -> list[Table]:
    """Tabulate the share by m and K, and whether it bends more at K - 1 than at other m."""
    return [
        *grid_tables(results.share, "n_class", "Share of the teacher's accuracy beyond chance", "student.n_imitated"),
        *mean_tables(results.bends),
    ]


study = distillation(
    "knee",
    title=__doc__,
    students={"student": Student(), "linearised student": Student(linear=True)},
    config=replace(TINY, n_aux=max(M), student=replace(TINY.student, steps=160, batch=32, loss="mse")),
    hyper=TINY_HYPER,
    axes={"activation": ("relu", "linear"), "n_class": CLASSES, "student.n_imitated": M},
    derived=derived,
    report=report,
    seeds=1000,
    finding="Transfer of real students bends at one auxiliary logit less than classes: most in log m at K - 1 of 5 "
    "and 10 classes; linearised students bend elsewhere, and deep linear networks upwards (n = 1,000).",
    cost="3 minutes on 2 cores",
    precisions=("float32", "float64"),  # products rounded to bfloat16 have no forward derivative
    sizes={
        "mnist": {
            "config": Config(
                n_aux=max(M), teacher=TrainingConfig(steps=295),
                student=StudentConfig(batch=128, n_inputs=7_552, loss="mse"),
            ),
            "hyper": Hyper(), "seeds": 32,
        },
    },
)  # fmt: skip
