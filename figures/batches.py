"""Accuracy against the student's batch: in as many steps and in as many epochs, which are different experiments."""

import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

FAMILIES = {
    "same steps": ("as many steps", plotting.SHARED, "o-"),
    "same epochs": ("as many epochs", plotting.OTHER, "s-"),
    "rate ~ sqrt(batch)": ("as many epochs, learning rate ~ root of the batch", plotting.PURPLE, "^--"),
    "rate ~ batch": ("as many epochs, learning rate ~ batch", plotting.AMBER, "v:"),
}


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw a panel for each loss and a line for each family; all lines meet at the shared batch."""
    names = [str(name) for name in results.student.values]
    middle = next(name for name in names if "," not in name)
    losses, summary = results["student.loss"].values, mean_interval(results.accuracy)
    drawn, panels = plotting.figure(len(losses), width=4.4 * len(losses) + 0.6, height=4.2, sharey=True, squeeze=False)
    for axes, loss in zip(panels[0], losses, strict=True):
        here = summary.sel({"student.loss": loss})
        for family, (words, colour, line) in FAMILIES.items():
            sizes = {int(name.rpartition(", ")[2]): name for name in names if name.startswith(f"{family}, ")}
            places = dict(sorted((sizes | {int(middle): middle}).items()))
            plotting.band(axes, list(places), here.sel(condition=list(places.values())), colour, line, words)
        plotting.chance(axes, 0.1)
        plotting.tick_all(axes, places)
        axes.set(xlabel="batch of the student", ylim=(0, 1), title=plotting.LOSSES[str(loss)])
    panels[0, 0].set_ylabel("accuracy of student (aux. only)")
    title = "Transfer against the student's batch, in as many steps and in as many epochs"
    plotting.legend_above(drawn, panels[0, 0], title)
    plotting.protocol_caption(drawn, results, summary, f"Adam; all families share the batch of {middle}.")
    return drawn
