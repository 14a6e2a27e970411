"""Which losses and optimisers transfer? Accuracy over learning rate, for two losses at two temperatures."""

import sys
from dataclasses import replace

import xarray as xr

from subsim import protocol
from subsim.distillation import StudentConfig
from subsim.engine.study import Table
from subsim.engine.summary import grid_table
from subsim.protocol import Student
from subsim.training import TrainingConfig

OPTIMISERS = ("sgd", "momentum", "adam")


def report(results: xr.Dataset) -> list[Table]:
    """Mean accuracy with its 95% interval: a row for every learning rate, a column for every optimiser."""
    accuracy = results.accuracy.sel(condition="student (aux. only)")
    tables = []
    for loss in accuracy["student.loss"].values:
        for temperature in accuracy["student.temperature"].values:
            here = accuracy.sel({"student.loss": loss, "student.temperature": temperature})
            title = f"Accuracy, {loss}, temperature {temperature:g}"
            tables.append(grid_table(here, "student.learning_rate", title, columns="student.optimiser"))
    return tables


CONFIG = protocol.Config(
    data="mnist5k", n_aux=10, teacher=TrainingConfig(steps=295), student=StudentConfig(batch=128, n_inputs=7_552)
)
study = protocol.study(
    "losses_and_optimisers",
    __doc__,
    {"student (aux. only)": Student()},
    config=CONFIG,
    axes={
        "student.optimiser": OPTIMISERS,
        "student.loss": ("kl", "mse"),
        "student.learning_rate": (3e-4, 3e-3, 3e-2, 3e-1),
        "student.temperature": (1.0, 4.0),
    },
    report=report,
    paper={"seeds": 100, "config": replace(CONFIG, data="mnist", student=StudentConfig())},
    seeds=8,
    cost="5 minutes on 2 cores",
)

if __name__ == "__main__":
    from subsim.cli import main

    main(["run", __file__, *sys.argv[1:]])
