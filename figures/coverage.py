"""Accuracy against the first step's cosine, over settings; and how well each predictor ranks settings and seeds."""

import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw a point for each setting; rank correlations over settings; and over the seeds of each setting."""
    drawn, (settings, over, within) = plotting.figure(3, width=15.5, height=5.4, width_ratios=[1, 0.8, 0.9])
    cover = str(results.predictor.values[0])
    summary = mean_interval(results.accuracy)
    known = mean_interval(results.known.sel(predictor=cover))
    for name in map(str, results.student.values):
        x, y = known.sel(student=name), summary.sel(condition=name)
        colour = plotting.colour_of(name)
        settings.errorbar(
            float(x["mean"]), float(y["mean"]), plotting.error_bars(y), plotting.error_bars(x), "o", color=colour,
            markersize=4,
        )  # fmt: skip
        settings.annotate(
            name, (float(x["mean"]), float(y["mean"])), (4, 3), textcoords="offset points", fontsize=6.5, color=colour
        )
    plotting.chance(settings, 0.1)
    settings.set(xlabel=cover, ylabel="accuracy of the student", ylim=(0, 1), title="means of settings")
    kinds = {
        "of_means": ("over settings, of means", plotting.SHARED, "D"),
        "over_settings": ("over settings, in one seed", plotting.OTHER, "o"),
        "transfers": ("area under ROC, transfers or not", plotting.CROSS, "s"),
    }
    for place, (name, (words, colour, marker)) in enumerate(kinds.items()):
        over.plot([], [], marker, color=colour, label=words)
        plotting.rows(over, mean_interval(results[name]), "predictor", colour, 0.24 * (place - 1), marker)
    over.axvline(0, color=plotting.NEUTRAL, linewidth=0.8)
    over.set(xlim=(-0.1, 1.05), xlabel="rank correlation with accuracy, or area")
    over.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1))
    plotting.rows(within, mean_interval(results.within.sel(predictor=cover)), "student", plotting.NEUTRAL)
    within.axvline(0, color=plotting.NEUTRAL, linewidth=0.8)
    within.set(xlim=(-0.5, 1), xlabel="rank correlation of coverage with accuracy over seeds", title="within a setting")
    plotting.protocol_caption(drawn, results, summary, "Each setting differs in one thing from the first.")
    return drawn
