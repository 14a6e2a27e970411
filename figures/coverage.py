"""Accuracy against the cosine of the first step, over settings; and how well that ranks settings, and seeds of one."""

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

UNSEEN = ("cross-model, all logits", "own class head", "a fifth of the steps")
# First words of a predictor -> the label of its row.
SHORT = {"coverage": "first update", "cosine": "first gradient", "the": "A of the lemma", "accuracy": "class head"}
MARKERS = {"all settings": "o", "what a first step can tell": "D"}
# Offset of each setting's name from its marker, in points, so that names do not overlap: (right, up, alignment).
PLACES = {
    "usual": (-6, 2, "right"), "rotated by 0.2": (-6, 4, "right"), "pixels times .1": (-6, -1, "right"),
    "m = 5": (6, -8, "left"), "rotated by 0.4": (-6, 0, "right"), "m = 3": (6, -3, "left"), "m = 2": (0, -11, "center"),
    "noise of half an init": (-6, 2, "right"), "largest logit alone": (4, -9, "left"), "momentum": (6, -3, "left"),
    "pixels shifted by 1": (-6, 2, "right"), "one label each": (6, -3, "left"), "rotated by 0.8": (6, -1, "left"),
    "own auxiliary head": (-6, 2, "right"), "own hidden layers": (5, -7, "left"), "m = 1": (2, -10, "left"),
    "cross-model": (-6, -9, "right"), "cross-model, all logits": (0, 7, "center"),
}  # fmt: skip


def draw_settings(axes: Axes, results: xr.Dataset) -> None:
    """Draw a point for each setting: its mean accuracy against the mean cosine of its first step."""
    known, reached = (mean_interval(values) for values in (results.known.isel(predictor=0), results.accuracy))
    for name in map(str, results.student.values):
        x, y = known.sel(student=name), reached.sel(condition=name)
        colour = plotting.colour_of(name)
        axes.errorbar(
            float(x["mean"]), float(y["mean"]), plotting.error_bars(y), plotting.error_bars(x), "o", color=colour,
            markersize=4.5, markerfacecolor="white" if name in UNSEEN else colour,
        )  # fmt: skip
        right, up, side = PLACES.get(name, (6, 1, "left"))
        axes.annotate(
            name, (float(x["mean"]), float(y["mean"])), (right, up), textcoords="offset points", fontsize=8, ha=side
        )
    for fill, words in (("0.3", "a first step can tell"), ("white", "a first step cannot tell")):
        axes.plot([], [], "o", color="0.3", markerfacecolor=fill, markersize=4.5, label=words)
    axes.legend(fontsize=8.5, loc="upper left")
    plotting.chance(axes, 0.1)
    axes.set(xlabel="coverage: cosine of first update and teacher", ylabel="accuracy of the student", ylim=(0, 1))
    axes.margins(x=0.16)
    axes.set_title("settings, means over seeds")


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw means of settings, and rank correlations over settings and over the seeds of each setting."""
    drawn, panels = plotting.mosaic(
        [["settings", "within"], ["over", "within"]],
        width=10.5, height=7.4, width_ratios=[1.5, 1], height_ratios=[1.9, 1],
    )  # fmt: skip
    settings, over, within = (panels[name] for name in ("settings", "over", "within"))
    draw_settings(settings, results)
    ranked = results.over_settings.assign_coords(
        predictor=[SHORT[str(name).split()[0].strip(":")] for name in results.predictor.values]
    )
    for place, (kind, marker) in enumerate(MARKERS.items()):
        plotting.rows(
            over, mean_interval(ranked.sel(settings=kind)), "predictor", plotting.SHARED, 0.2 * (place - 0.5), marker
        )
    over.axvline(0, color=plotting.NEUTRAL, linewidth=0.8)
    over.set(
        xlim=(-0.3, 1),
        xlabel="rank correlation with accuracy",
        title="over settings in one seed; diamonds: what a first step can tell",
    )
    plotting.rows(within, mean_interval(results.within.isel(predictor=0)), "student", plotting.colour_of)
    within.axvline(0, color=plotting.NEUTRAL, linewidth=0.8)
    within.tick_params(axis="y", labelsize=8.5)
    within.set(xlim=(-0.3, 1), xlabel="rank correlation with accuracy", title="coverage, over seeds of a setting")
    plotting.headline(drawn, "What a student's first step tells of its accuracy, over settings and over seeds")
    plotting.protocol_caption(
        drawn,
        results,
        mean_interval(results.accuracy),
        "Each setting differs in one thing from the usual one; orange: cross-model.",
    )
    return drawn
