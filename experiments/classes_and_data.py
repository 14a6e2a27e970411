"""Does transfer depend on the number of classes and on the data? With chance and the share of auxiliary logits told."""

import sys
from dataclasses import replace

import xarray as xr

from subsim import protocol
from subsim.distillation import StudentConfig
from subsim.engine.study import Table
from subsim.engine.summary import grid_table
from subsim.training import TrainingConfig

CLASSES = M = (2, 4, 6, 10)  # m = K holds the share of auxiliary logits at a half


def report(results: xr.Dataset) -> list[Table]:
    """Mean accuracy with its 95% interval: a row for every number of classes, a column for every condition."""
    tables = []
    for data in results.data.values:
        for m in results["student.n_imitated"].values:
            here = results.accuracy.sel({"data": data, "student.n_imitated": m})
            tables.append(grid_table(here, "n_class", f"Accuracy on {data}, m = {m}"))
    return tables


CONFIG = protocol.Config(
    n_aux=max(M), teacher=TrainingConfig(steps=295), student=StudentConfig(batch=128, n_inputs=7_552)
)
study = protocol.study(
    "classes_and_data",
    __doc__,
    protocol.AUX_ONLY,
    config=CONFIG,
    axes={"data": ("mnist5k", "fashion_mnist", "digits"), "n_class": CLASSES, "student.n_imitated": M},
    report=report,
    paper={
        "seeds": 100,
        "config": replace(CONFIG, student=StudentConfig()),
        "axes": {
            "data": ("mnist", "fashion_mnist", "digits"),
            "n_class": tuple(range(2, 11)),
            "student.n_imitated": tuple(range(2, 11)),
        },
    },
    seeds=8,
    cost="11 minutes on 2 cores",
)

if __name__ == "__main__":
    from subsim.cli import main

    main(["run", __file__, *sys.argv[1:]])
