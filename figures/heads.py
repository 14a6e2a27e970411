"""Accuracy along training by kind of heads, with redrawn and restored heads, and against what the heads predict."""

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

HEADS = ("trained", "frozen", "orthogonal", "orthogonal, frozen")
STARTS = {"shared init": plotting.SHARED, "shared heads": plotting.OTHER, "other init": plotting.CROSS}
LINES = {"auxiliary logits": "-", "all logits": "--"}
MARKERS = dict(zip(HEADS, ("o", "s", "^", "D"), strict=True))
# Rows of the panel about single heads: condition -> its label and colour.
SINGLE = {
    "trained: shared init, auxiliary logits": ("no head", plotting.SHARED),
    "auxiliary head redrawn in both": ("aux. head of both", plotting.SHARED),
    "auxiliary head redrawn in the teacher": ("aux. head of teacher", plotting.OTHER),
    "auxiliary head redrawn in the student": ("aux. head of student", plotting.OTHER),
    "class head put back: shared init, all logits": ("class head", plotting.SHARED),
    "class head put back: other init, all logits": ("class head, other init", plotting.CROSS),
    "trained: other init, all logits": ("no head, other init", plotting.CROSS),
}


def draw_along(axes: Axes, along: xr.Dataset, heads: str) -> None:
    """Draw accuracy along training for one kind of heads: a colour for each start, a line for the imitated logits."""
    for start, colour in STARTS.items():
        for words, line in LINES.items():
            here = along.sel(student=f"{heads}: {start}, {words}")
            plotting.band(axes, along.step, here, colour, line, f"{start}, {words}")
    plotting.chance(axes, 0.1)
    axes.set(xlabel="steps of the student", ylim=(0, 1), title=f"{heads} heads")


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw a panel for each kind of heads at the largest m, single heads that were changed, and predictions."""
    m = "student.n_imitated"
    largest = {m: results[m].values.max()}
    along = mean_interval(results.accuracy_along.sel(largest))
    measured, predicted = mean_interval(results.accuracy), mean_interval(results.predicted)
    drawn, panels = plotting.mosaic(
        [[*HEADS], ["single", "single", "predicted", "predicted"]], width=10.5, height=6.6, height_ratios=[1.15, 1]
    )
    for heads in HEADS:
        draw_along(panels[heads], along, heads)
        if heads != HEADS[0]:
            panels[heads].set_yticklabels([])
    panels[HEADS[0]].set_ylabel("accuracy")
    rows = measured.sel(largest).sel(condition=list(SINGLE))
    plotting.rows(panels["single"], rows, "condition", lambda name: SINGLE[name][1])
    panels["single"].set_yticks(range(len(SINGLE)), [words for words, _ in SINGLE.values()], fontsize=8)
    panels["single"].axvline(0.1, color=plotting.NEUTRAL, linestyle=":", linewidth=1, zorder=1)
    panels["single"].set(
        xlim=(0, 1),
        xlabel="accuracy of the student",
        title="auxiliary head redrawn, or the teacher's class head put back",
    )
    for heads, marker in MARKERS.items():
        for start, colour in STARTS.items():
            name = f"{heads}: {start}, auxiliary logits"
            x, y = predicted.sel(student=name), measured.sel(condition=name)
            panels["predicted"].errorbar(
                x["mean"], y["mean"], plotting.error_bars(y), plotting.error_bars(x), marker, color=colour, markersize=5
            )
        panels["predicted"].plot([], [], marker, color="0.3", markersize=5, label=f"{heads} heads")
    panels["predicted"].axline((0, 0), slope=1, color=plotting.NEUTRAL, linewidth=0.8)
    counts = ", ".join(str(each) for each in results[m].values)
    panels["predicted"].set(
        xlim=(0, 1), ylim=(0, 1), xlabel="accuracy that the heads predict", ylabel="accuracy measured",
        title=f"auxiliary logits, m = {counts}",
    )  # fmt: skip
    panels["predicted"].legend(fontsize=8, loc=(0.6, 0.0))
    title = "Accuracy of students by kind of heads of teacher and student"
    plotting.legend_above(drawn, panels[HEADS[0]], title)
    words = f"Upper row and left: m = {largest[m]}. Line: measured as predicted."
    plotting.protocol_caption(drawn, results, measured, words)
    return drawn
