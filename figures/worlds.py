"""What every option does to transfer, in every world side by side."""

import itertools

import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

COLOURS = (plotting.SHARED, plotting.AMBER, plotting.OTHER, plotting.PURPLE)


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw a row for every option and a colour for every world: accuracy minus the accuracy with default options."""
    drawn, axes = plotting.figure(1, width=8.5, height=6.0)
    summary = mean_interval(results.effect)
    worlds = list(itertools.product(results.data.values, results.widths.values))
    for number, (data, widths) in enumerate(worlds):
        shift = 0.13 * (number - (len(worlds) - 1) / 2)
        here = summary.sel(data=data, widths=widths)
        plotting.rows(axes, here, "varied", COLOURS[number], shift)
        axes.plot([], [], "o", color=COLOURS[number], label=f"{data}, {widths}")
    axes.axvline(0, color=plotting.NEUTRAL, linewidth=0.8)
    axes.set_xlabel("accuracy, less that of student (aux. only)")
    plotting.legend_above(drawn, axes, "What each option does to transfer, by data and hidden layers")
    plotting.protocol_caption(drawn, results, summary, "One teacher a seed for all students.")
    return drawn
