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
# Labels below their points, because above them they would overlap with other labels.
BELOW = ("m = 3", "m = 1", "one label each", "rotated by 0.8", "cross-model", "m = 5", "largest logit alone")


def draw_settings(axes: Axes, results: xr.Dataset) -> None:
    """Draw a point for each setting: its mean accuracy against the mean cosine of its first step."""
    known, reached = (mean_interval(values) for values in (results.known.isel(predictor=0), results.accuracy))
    for name in map(str, results.student.values):
        x, y = known.sel(student=name), reached.sel(condition=name)
        colour = plotting.CROSS if name in UNSEEN else plotting.SHARED
        axes.errorbar(
            float(x["mean"]), float(y["mean"]), plotting.error_bars(y), plotting.error_bars(x), "o", color=colour,
            markersize=4,
        )  # fmt: skip
        shift = (5, -9) if name in BELOW else (5, 3)
        axes.annotate(name, (float(x["mean"]), float(y["mean"])), shift, textcoords="offset points", fontsize=7)
    plotting.chance(axes, 0.1)
    axes.set(xlabel="coverage: cosine of first update and teacher", ylabel="accuracy of the student", ylim=(0, 1))
    axes.set_xlim(right=0.31)
    axes.set_title("settings; orange: a first step cannot tell")


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw means of settings, and rank correlations over settings and over the seeds of each setting."""
    drawn, (settings, over, within) = plotting.figure(3, width=15.0, height=5.2, width_ratios=[1.25, 0.7, 0.8])
    draw_settings(settings, results)
    ranked = results.over_settings.assign_coords(
        predictor=[SHORT[str(name).split()[0].strip(":")] for name in results.predictor.values]
    )
    for place, (kind, marker) in enumerate(MARKERS.items()):
        over.plot([], [], marker, color=plotting.SHARED, label=kind)
        plotting.rows(
            over, mean_interval(ranked.sel(settings=kind)), "predictor", plotting.SHARED, 0.2 * (place - 0.5), marker
        )
    over.axvline(0, color=plotting.NEUTRAL, linewidth=0.8)
    over.set(xlim=(-0.1, 1), xlabel="rank correlation with accuracy", title="over settings, in one seed")
    over.legend(fontsize=8, loc="lower left")
    plotting.rows(within, mean_interval(results.within.isel(predictor=0)), "student", plotting.SHARED)
    within.axvline(0, color=plotting.NEUTRAL, linewidth=0.8)
    within.tick_params(axis="y", labelsize=8)
    within.set(xlim=(-0.3, 1), xlabel="rank correlation with accuracy", title="coverage, over seeds of a setting")
    drawn.suptitle("A first step tells settings apart, and hardly the seeds of one", fontsize=11)
    plotting.protocol_caption(
        drawn, results, mean_interval(results.accuracy), "Each setting differs in one thing from the first."
    )
    return drawn
