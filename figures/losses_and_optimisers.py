"""Accuracy against learning rate: a line for each optimiser, a panel for each loss and temperature."""

import itertools

import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

OPTIMISERS = {
    "sgd": (plotting.NEUTRAL, "SGD"),
    "momentum": (plotting.OTHER, "momentum"),
    "adam": (plotting.SHARED, "Adam"),
}


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw a column for each loss and temperature."""
    summary = mean_interval(results.accuracy.sel(condition="student (aux. only)"))
    rates = results["student.learning_rate"].values
    columns = list(itertools.product(results["student.loss"].values, results["student.temperature"].values))
    drawn, panels = plotting.figure(
        len(columns), width=2.7 * len(columns), height=3.8, sharex=True, sharey=True, squeeze=False
    )
    for axes, (loss, temperature) in zip(panels[0], columns, strict=True):
        here = summary.sel({"student.loss": loss, "student.temperature": temperature})
        for optimiser in results["student.optimiser"].values:
            colour, label = OPTIMISERS[str(optimiser)]
            plotting.band(axes, rates, here.sel({"student.optimiser": optimiser}), colour, "-o", label)
        plotting.chance(axes, 0.1)
        plotting.tick_all(axes, rates)
        axes.tick_params(axis="x", labelsize=8)
        axes.set_title(f"{plotting.LOSSES[str(loss)]}, temperature {temperature:g}")
        axes.set_xlabel("learning rate")
    panels[0, 0].set_ylabel("accuracy of student (aux. only)")
    panels[0, 0].set_ylim(0, 1)
    plotting.legend_above(drawn, panels[0, 0], "Transfer against the learning rate, by loss, temperature and optimiser")
    plotting.protocol_caption(drawn, results, summary)
    return drawn
