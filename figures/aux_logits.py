"""Accuracy against the number of auxiliary logits, on noise and on real images."""

import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

INPUTS = {"uniform": "uniform noise", "gaussian": "Gaussian noise", "images": "the training images"}


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw mean accuracy and 95% interval of every condition against m, with a panel for each kind of student input."""
    kinds = [str(kind) for kind in results["student.inputs"].values]
    summary = mean_interval(results.accuracy)
    drawn, panels = plotting.figure(len(kinds), width=4.3 * len(kinds), height=4.2, sharey=True, squeeze=False)
    for axes, kind in zip(panels[0], kinds, strict=True):
        for condition in map(str, results.condition.values):
            here = summary.sel({"student.inputs": kind, "condition": condition})
            line = "--" if "all" in condition or condition == "reference" else "-"
            plotting.band(axes, here["student.n_imitated"], here, plotting.colour_of(condition), f"{line}o", condition)
        plotting.tick_all(axes, results["student.n_imitated"].values)
        width = results.attrs["config"]["widths"][-1]
        if width < results["student.n_imitated"].max():
            axes.axvline(width, color=plotting.NEUTRAL, linestyle=":", linewidth=1)
            axes.text(
                width * 0.95, 0.3, "width", rotation=90, ha="right", va="center", fontsize=8, color=plotting.NEUTRAL
            )
        axes.set_xlabel("auxiliary logits imitated, m")
        axes.set_title(f"students see {INPUTS.get(kind, kind)}")
    panels[0, 0].set_ylim(0, 1)
    panels[0, 0].set_ylabel("accuracy")
    plotting.legend_above(
        drawn, panels[0, 0], "Accuracy against the number of auxiliary logits that a student imitates"
    )
    plotting.protocol_caption(drawn, results, summary, "One teacher a seed for every m.")
    return drawn
