"""Accuracy of start, teacher and students by what the start was trained on, and the share of the teacher's gain."""

import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

# Network -> colour, marker and label.
NETWORKS = {
    "start": (plotting.NEUTRAL, "o", "start"),
    "teacher": (plotting.NEUTRAL, "s", "teacher that went on from it"),
    "teacher, start's head": (plotting.OTHER, "^", "teacher, with its start's class head"),
    "student": (plotting.SHARED, "D", "student from the same start"),
    "cross-model": (plotting.CROSS, "D", "student from an equal start of another init"),
}


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw accuracies of every network (left), and the student's share of the teacher's gain (right)."""
    accuracy, share = mean_interval(results.by_start), mean_interval(results.share)
    drawn, panels = plotting.figure(2, width=10.0, height=4.8, sharey=True, width_ratios=[1.6, 1])
    for place, (name, (colour, marker, words)) in enumerate(NETWORKS.items()):
        shift = 0.15 * (place - 2)
        if name in accuracy.network.values:
            plotting.rows(panels[0], accuracy.sel(network=name), "start", colour, shift, marker)
        for row, start in enumerate(map(str, results.start.values)):
            if name == "cross-model" and f"{start}, cross-model" in results.student:
                one = mean_interval(results.accuracy.sel(condition=f"{start}, cross-model"))
                plotting.interval(panels[0], row + shift, one, colour, marker, edge=colour)
        panels[0].plot([], [], marker, color=colour, markersize=5, label=words)
    plotting.rows(panels[1], share, "start", plotting.SHARED)
    for axes in panels:
        axes.set_xlim(0, 1)
    panels[0].axvline(0.1, color=plotting.NEUTRAL, linestyle=":", linewidth=1, zorder=1)
    panels[0].set(xlabel="accuracy (auxiliary logits alone are imitated)", ylabel="what the start was trained on")
    panels[1].set_xlabel("share of its teacher's gain")
    title = "Accuracy of networks, and the share of the teacher's gain, by what the start was trained on"
    plotting.legend_above(drawn, panels[0], title)
    plotting.protocol_caption(drawn, results, mean_interval(results.accuracy))
    return drawn
