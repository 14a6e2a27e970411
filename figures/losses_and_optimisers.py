"""Accuracy against learning rate: a line for each optimiser, loss and temperature, without and with weight decay."""

import xarray as xr
from matplotlib.figure import Figure

from subsim import plotting
from subsim.engine.summary import mean_interval

OPTIMISERS = {
    "sgd": (plotting.NEUTRAL, "SGD"),
    "momentum": (plotting.OTHER, "momentum"),
    "adam_l2": (plotting.CROSS, "Adam, coupled decay"),
    "adamw": (plotting.SHARED, "AdamW"),
}


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """A row for each weight decay, a column for each loss and temperature."""
    summary = mean_interval(results.accuracy.sel(condition="student (aux. only)"))
    rates = results["student.learning_rate"].values
    decays, losses = results["student.weight_decay"].values, results["student.loss"].values
    temperatures = results["student.temperature"].values
    columns = [(loss, temperature) for loss in losses for temperature in temperatures]
    drawn, panels = plotting.figure(
        len(columns), rows=len(decays), width=2.9 * len(columns), height=2.6 * len(decays) + 0.6, sharex=True,
        sharey=True, squeeze=False,
    )  # fmt: skip
    for row, decay in enumerate(decays):
        for column, (loss, temperature) in enumerate(columns):
            axes = panels[row, column]
            for optimiser in results["student.optimiser"].values:
                here = {"student.loss": loss, "student.temperature": temperature, "student.weight_decay": decay}
                colour, label = OPTIMISERS[str(optimiser)]
                plotting.band(axes, rates, summary.sel(here | {"student.optimiser": optimiser}), colour, "-o", label)
            plotting.chance(axes, 0.1)
            plotting.tick_all(axes, rates)
            if row == 0:
                axes.set_title(f"{'KL' if loss == 'kl' else 'squared error'}, temperature {temperature:g}")
        panels[row, 0].set_ylabel(f"accuracy, weight decay {decay:g}")
    for axes in panels[-1]:
        axes.set_xlabel("learning rate")
    panels[0, 0].set_ylim(0, 1)
    panels[0, -1].legend(fontsize=7)
    plotting.protocol_caption(drawn, results, summary, "Student (aux. only).")
    return drawn
