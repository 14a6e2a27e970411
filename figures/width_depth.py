"""Accuracy against width for every depth: after the last step, and at equal imitation loss."""

import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw accuracy after the last step (above) and at equal imitation loss (below), with a column for each depth."""
    depth_of = results.widths.str.count("-") + 1
    depths = sorted(set(depth_of.values.tolist()))
    summary, stranger = (
        mean_interval(results.accuracy_where),
        mean_interval(results.accuracy.sel(condition="cross-model")),
    )
    drawn, panels = plotting.figure(
        len(depths), rows=2, width=2.7 * len(depths), height=6.0, sharey=True, sharex="col", squeeze=False
    )
    for depth, column in zip(depths, panels.T, strict=True):
        shapes = results.widths.values[depth_of == depth]
        widths = [int(shape.split("-")[0]) for shape in shapes]
        for axes, where in zip(column, ("last step", "equal loss"), strict=True):
            here = summary.sel(where=where, widths=shapes)
            plotting.band(axes, widths, here, plotting.SHARED, "-o", "student")
            plotting.chance(axes, 0.1)
            plotting.tick_all(axes, widths)
        plotting.band(column[0], widths, stranger.sel(widths=shapes), plotting.CROSS, ":^", "cross-model")
        column[0].set_title(f"{depth} hidden layer{'s' if depth > 1 else ''}")
        column[1].set_title(f"imitation loss {float(results.level.sel(widths=shapes[0])):.2g} nat")
        column[1].set_xlabel("width / units")
    panels[0, 0].set_ylabel("accuracy after the last step")
    panels[1, 0].set_ylabel("accuracy at equal imitation loss")
    panels[0, 0].set_ylim(0, 1)
    plotting.legend_above(
        drawn, panels[0, 0], "Transfer by width and depth, after as many steps and at equal imitation loss"
    )
    words = "Below: where the loss of a seed first falls to the lowest level that all its networks of this depth reach."
    plotting.protocol_caption(drawn, results, summary, words)
    return drawn
