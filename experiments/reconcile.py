"""Why do published accuracies differ? A factorial over init scheme, learning rate, steps, depth and loss."""

import sys
from dataclasses import replace

import xarray as xr

from subsim import protocol
from subsim.distillation import StudentConfig
from subsim.engine.factorial import effects_table, shares_table
from subsim.engine.study import Table
from subsim.engine.summary import mean_interval
from subsim.protocol import Student
from subsim.training import TrainingConfig

FACTORS = {
    "init": "init scheme",
    "student.learning_rate": "learning rate",
    "steps": "steps",
    "widths": "hidden layers",
    "student.loss": "loss",
}


def accuracies(results: xr.Dataset) -> xr.DataArray:
    """Accuracy of the student by every factor, the steps among them."""
    along = results.accuracy_along.sel(student="student (aux. only)").rename(moment="steps")
    every = results.attrs["config"]["every"]
    return along.assign_coords(steps=(along.steps.values + 1) * every)


def report(results: xr.Dataset) -> list[Table]:
    """The range of the factorial, the main effect of every level, and what each factor and pair explains."""
    values = accuracies(results)
    means = mean_interval(values)["mean"]
    title = f"Accuracy of student (aux. only): {float(means.min()):.3f} to {float(means.max()):.3f} over the factorial"
    return [
        effects_table(values, FACTORS, f"{title}; main effects"),
        shares_table(values, FACTORS, "Share of variance"),
    ]


CONFIG = protocol.Config(
    data="mnist5k",
    every=295,
    teacher=TrainingConfig(steps=295),
    student=StudentConfig(epochs=10, batch=512, n_inputs=30_208),
)
study = protocol.study(
    "reconcile",
    __doc__,
    {"student (aux. only)": Student()},
    config=CONFIG,
    axes={
        "init": ("torch", "lecun", "he"),
        "widths": ((256, 256), (256, 256, 256)),
        "student.loss": ("kl", "mse"),
        "student.learning_rate": (3e-4, 1e-3),
    },
    report=report,
    paper={"seeds": 100, "config": replace(CONFIG, data="mnist", student=StudentConfig(epochs=20))},
    seeds=6,
    cost="15 minutes on 2 cores",
)

if __name__ == "__main__":
    from subsim.cli import main

    main(["run", __file__, *sys.argv[1:]])
