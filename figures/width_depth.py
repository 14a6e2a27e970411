"""Accuracy against width for every depth: after the last step, at matched imitation loss, and linearised."""

import xarray as xr
from matplotlib.figure import Figure

from subsim import plotting
from subsim.engine.summary import matched_at_lowest, mean_interval

FOLLOWERS = {"student": (plotting.SHARED, "-o"), "linearised student": (plotting.OTHER, "--s")}
LINES = {**FOLLOWERS, "cross-model": (plotting.CROSS, ":^")}


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Above, accuracy after the last step; below, when the imitation loss first fell to a level; a column a depth."""
    depth_of = results.widths.str.count("-") + 1
    depths = sorted(set(depth_of.values.tolist()))
    last = mean_interval(results.accuracy)
    drawn, panels = plotting.figure(
        len(depths), rows=2, width=3.2 * len(depths), height=5.6, sharey=True, sharex="col", squeeze=False
    )
    for depth, (above, below) in zip(depths, panels.T, strict=True):
        here = results.sel(widths=depth_of == depth)
        widths = [int(shape.split("-")[0]) for shape in here.widths.values]
        of_followers = here[["accuracy_along", "imitation_loss_along"]].sel(student=list(FOLLOWERS))
        level, equal = matched_at_lowest(of_followers.accuracy_along, of_followers.imitation_loss_along, "step")
        matched = mean_interval(equal)
        for name, (colour, line) in LINES.items():
            plotting.band(above, widths, last.sel(widths=here.widths, condition=name), colour, line, name)
        for name, (colour, line) in FOLLOWERS.items():
            plotting.band(below, widths, matched.sel(student=name), colour, line)
        for axes in (above, below):
            plotting.chance(axes, 0.1)
            plotting.tick_all(axes, widths)
        above.set_title(f"{depth} hidden layer{'s' if depth > 1 else ''}")
        below.set_title(f"at {level:.2g} nat")
        below.set_xlabel("width")
    panels[0, 0].set_ylabel("accuracy, last step")
    panels[1, 0].set_ylabel("accuracy at matched imitation loss")
    panels[0, 0].set_ylim(0, 1)
    panels[0, -1].legend(fontsize=8)
    words = "Below: where the imitation loss first falls to the lowest level that all of a depth reach."
    plotting.protocol_caption(drawn, results, last, words)
    return drawn
