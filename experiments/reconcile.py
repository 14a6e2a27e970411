"""Why do published accuracies differ? A factorial over init scheme, learning rate, batch, steps, depth and loss."""

from dataclasses import replace

import xarray as xr

from subsim import Config, Student, StudentConfig, Table, TrainingConfig, distillation, mean_interval
from subsim.analysis.factorial import main_effects, variance_shares
from subsim.analysis.tables import mean_tables


def derived(results: xr.Dataset) -> dict[str, xr.DataArray]:
    """What every level of every factor does, and what each factor and pair explains."""
    values = results.accuracy_along.squeeze("student", drop=True)
    return {"main_effects": main_effects(values), "variance_shares": variance_shares(values)}


def report(results: xr.Dataset) -> list[Table]:
    """The range of the factorial, the main effect of every level, and what each factor and pair explains."""
    means = mean_interval(results.accuracy_along)["mean"]
    title = f"Accuracy of student (aux. only): {float(means.min()):.3f} to {float(means.max()):.3f} over the factorial"
    shares = results.variance_shares
    return [
        *mean_tables(results.main_effects, f"{title}; main effects"),
        *mean_tables(shares, "Share of variance explained"),
        *mean_tables(shares.isel(explained_by=0) - shares.isel(explained_by=slice(1, None)), "The largest less each"),
    ]


CONFIG = Config(
    data="mnist5k",
    every=295,
    teacher=TrainingConfig(steps=295),
    student=StudentConfig(steps=590, n_inputs=30_208),
)
AXES = {
    "init": ("torch", "lecun", "he"),
    "widths": ((256, 256), (256, 256, 256)),
    "student.loss": ("kl", "mse"),
    "student.batch": (128, 512),
    "student.learning_rate": (3e-4, 1e-3),
}
study = distillation(
    "reconcile",
    title=__doc__,
    students={"student (aux. only)": Student()},
    config=CONFIG,
    axes=AXES,
    derived=derived,
    report=report,
    paper={
        "seeds": 100,
        "config": replace(CONFIG, data="mnist", student=StudentConfig(steps=1_180)),
        "axes": AXES | {"student.batch": (256, 1024)},
    },
    seeds=8,
    cost="20 minutes on 2 cores",
)
