"""Does transfer depend on the number of classes and on the data? With chance and the share of auxiliary logits told."""

from dataclasses import replace
from typing import Any

import xarray as xr

from subsim import AUX_ONLY, Config, Hyper, StudentConfig, Table, TrainingConfig, distillation
from subsim.analysis.summary import contrasts
from subsim.analysis.tables import grid_tables, mean_tables
from subsim.transfer.worlds import TINY, TINY_HYPER

# Numbers of classes K and of auxiliary logits m: at m = K half of all logits are auxiliary.
SMALL, LARGE = (2, 5, 10), (2, 4, 6, 10)


def derived(results: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return accuracy relative to chance, and its difference between ten and two classes, at m = 10 and m = K."""
    chance = 1 / results.n_class
    relative = ((results.accuracy - chance) / (1 - chance)).assign_attrs(description="(accuracy - 1/K) / (1 - 1/K)")
    classes, at = results.n_class.values.tolist(), "student.n_imitated"
    first, last = classes[0], classes[-1]
    pairs: dict[str, Any] = {}
    for data in results.data.values:
        ten = {"data": data, "n_class": last, at: last}
        pairs[f"{data}: K = {last} less {first}, m = {last}"] = (ten, {"data": data, "n_class": first, at: last})
        pairs[f"{data}: K = {last} less {first}, m = K"] = (ten, {"data": data, "n_class": first, at: first})
    of_student = relative.sel(condition="student (aux. only)", drop=True)
    return {"relative": relative, "differences": contrasts(of_student, pairs, "difference relative to chance, paired")}


def report(results: xr.Dataset) -> list[Table]:
    """Tabulate accuracy: a row for every number of classes, a column for every condition."""
    return [*grid_tables(results.accuracy, "n_class", "Accuracy"), *mean_tables(results.differences)]


CONFIG = Config(n_aux=max(LARGE), teacher=TrainingConfig(steps=295), student=StudentConfig(batch=128, n_inputs=7_552))
study = distillation(
    "classes_and_data",
    title=__doc__,
    students=AUX_ONLY,
    config=TINY,
    hyper=TINY_HYPER,
    axes={"data": ("digits", "mnist5k"), "n_class": SMALL, "student.n_imitated": SMALL},
    derived=derived,
    report=report,
    seeds=1000,
    finding="More classes are harder, also with as many auxiliary logits: relative to chance ten less two are -.362 "
    "[-.375, -.349] on digits, -.226 [-.248, -.204] on mnist5k (n = 1,000).",
    cost="6 minutes on 2 cores",
    sizes={
        "mnist": {
            "config": CONFIG,
            "hyper": Hyper(),
            "axes": {"data": ("mnist", "fashion_mnist", "digits"), "n_class": LARGE, "student.n_imitated": LARGE},
            "seeds": 32,
        },
        "paper": {
            "config": replace(CONFIG, student=StudentConfig()),
            "hyper": Hyper(),
            "axes": {
                "data": ("mnist", "fashion_mnist", "digits"),
                "n_class": tuple(range(2, 11)),
                "student.n_imitated": tuple(range(2, 11)),
            },
            "seeds": 1000,
        },
    },
)
