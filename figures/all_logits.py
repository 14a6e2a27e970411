"""Accuracy of students of all logits against the number of auxiliary ones, with the classes' share kept or not."""

import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

IMITATED = {
    "all logits": ("one softmax over all logits", "o-"),
    "all logits, classes apart": ("one for the classes, one for the others", "s--"),
    "class logits": ("class logits alone", "^:"),
}
STARTS = {"student": "shared init", "cross-model": "cross-model"}


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw a panel for each start and a line for each loss."""
    summary = mean_interval(results.accuracy)
    drawn, panels = plotting.figure(len(STARTS), width=9.4, height=4.3, sharey=True)
    for axes, (who, words) in zip(panels, STARTS.items(), strict=True):
        for what, (_, line) in IMITATED.items():
            name = f"{who} ({what})"
            plotting.band(axes, results.n_aux, summary.sel(condition=name), plotting.colour_of(name), line)
        plotting.tick_all(axes, results.n_aux.values)
        plotting.chance(axes, 0.1)
        axes.set(xlabel="auxiliary logits, m", ylim=(0, 1), title=words)
    panels[0].set_ylabel("accuracy of the student")
    for label, line in IMITATED.values():
        panels[0].plot([], [], line, color=plotting.NEUTRAL, label=label)
    plotting.legend_above(
        drawn, panels[0], "Students of class and auxiliary logits: the classes in one softmax, or apart"
    )
    plotting.protocol_caption(drawn, results, summary, "Every network has m auxiliary logits.")
    return drawn
