"""Accuracy against the number of auxiliary logits, on noise and on real images."""

import xarray as xr
from matplotlib.figure import Figure

from subsim import plotting
from subsim.engine.summary import mean_interval

INPUTS = {"uniform": "uniform noise", "gaussian": "Gaussian noise", "images": "the training images"}


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """One panel for each kind of student input: mean accuracy and 95% interval of every condition against m."""
    kinds = [str(kind) for kind in results["student.inputs"].values]
    summary = mean_interval(results.accuracy)
    drawn, panels = plotting.figure(len(kinds), width=4.3 * len(kinds), height=3.8, sharey=True, squeeze=False)
    for axes, kind in zip(panels[0], kinds, strict=True):
        for condition in map(str, results.condition.values):
            colour = plotting.CROSS if "cross" in condition else plotting.SHARED
            colour = colour if "(" in condition else plotting.NEUTRAL
            here = summary.sel({"student.inputs": kind, "condition": condition})
            m = here["student.n_imitated"]
            line = "--" if "all" in condition or condition == "reference" else "-"
            plotting.band(axes, m, here, colour, f"{line}o", condition)
        axes.set_xscale("log")
        axes.set_xticks(m.values, [f"{int(value)}" for value in m.values])
        axes.minorticks_off()
        axes.set_xlabel("auxiliary logits imitated, m")
        axes.set_title(f"students see {INPUTS[kind]}")
    panels[0, 0].set_ylim(0, 1)
    panels[0, 0].set_ylabel("accuracy")
    panels[0, -1].legend(fontsize=7.5, loc="center right")
    config, dropped = results.attrs["config"], int(summary.dropped.max())
    plotting.caption(
        drawn,
        f"{config['data']}, {config['evaluate']} set. Mean over n = {int(summary.n.min())} seeds with Student t 95% "
        f"interval, {dropped} dropped.\nMLP {'-'.join(map(str, config['widths']))}, {config['init']} init; "
        f"one teacher a seed for every m; loss {config['student']['loss']}.",
    )
    return drawn
