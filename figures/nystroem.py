"""Accuracy along training: what the kernel predicts, the linearised student on it, and the real student beyond it."""

import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw a panel for each number of imitated logits."""
    counts = results["student.n_imitated"].values
    drawn, panels = plotting.figure(len(counts), width=3.6 * len(counts), height=3.8, sharey=True, squeeze=False)
    for axes, m in zip(panels.ravel(), counts, strict=True):
        here = results.sel({"student.n_imitated": m})
        line = mean_interval(here.predicted.sel(student="linearised student"))
        plotting.band(axes, results.step, line, plotting.NEUTRAL, "-", "predicted by the kernel")
        for student, (colour, marker) in {
            "linearised student": (plotting.OTHER, "s"), "student": (plotting.SHARED, "o"),
        }.items():  # fmt: skip
            summary = mean_interval(here.accuracy_along.sel(student=student))
            ends = plotting.error_bars(summary)
            axes.errorbar(
                results.step, summary["mean"], yerr=ends, fmt=marker, color=colour, markersize=5, capsize=2,
                markerfacecolor="white" if marker == "s" else colour, label=student, zorder=3,
            )  # fmt: skip
        plotting.chance(axes, 0.1)
        axes.set_title(f"m = {m}")
        axes.set_xlabel("step of the student")
    panels[0, 0].set_ylabel("accuracy")
    panels[0, 0].legend(fontsize=8)
    plotting.protocol_caption(
        drawn, results, mean_interval(results.accuracy_along),
        "Full-batch SGD, momentum .9, at half the stable step. Nothing is trained for the line.",
    )  # fmt: skip
    return drawn
