"""The spread of accuracy over seeds, and what tells a seed that transfers from one that does not."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

STUDENT = "student (aux. only)"


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw the distribution of accuracy over seeds, rank correlations of all predictors, and the linear fit."""
    drawn, panels = plotting.mosaic(
        [["spread", "ranks"], ["fit", "ranks"]], width=10.5, height=6.6, height_ratios=[1, 1.3]
    )
    spread, ranks, fit = (panels[name] for name in ("spread", "ranks", "fit"))
    conditions = [str(name) for name in results.condition.values]
    accuracies = [values[np.isfinite(values)] for values in results.accuracy.transpose("condition", "seed").values]
    bodies: Any = spread.violinplot(accuracies, orientation="horizontal", showextrema=False, widths=0.9)["bodies"]
    for body, name in zip(bodies, conditions, strict=True):
        body.set_color(plotting.colour_of(name))
    spread.set_yticks(range(1, len(conditions) + 1), conditions)
    spread.invert_yaxis()
    spread.axvline(0.1, color=plotting.NEUTRAL, linestyle=":", linewidth=1, zorder=1)
    spread.set(xlim=(0, 1), xlabel="accuracy of a seed", title="accuracies of all seeds")
    summary = mean_interval(results.correlation)
    order = np.argsort(-np.abs(summary["mean"].values))
    plotting.rows(ranks, summary.isel(what=order), "what", plotting.SHARED)
    ranks.axvline(0, color=plotting.NEUTRAL, linewidth=0.8)
    ranks.set(xlabel="rank correlation with accuracy", title="known before training")
    fit.plot(results.fit, results.accuracy.sel(condition=STUDENT), ".", color=plotting.SHARED, markersize=3, alpha=0.4)
    fit.plot([0, 1], [0, 1], color=plotting.NEUTRAL, linewidth=0.8)
    fit.set(xlim=(0, 1), ylim=(0, 1), xlabel="fitted on the other half of the seeds", ylabel="accuracy of the student")
    fit.set_title("all predictors together, a dot a seed")
    ranks.tick_params(axis="y", labelsize=8.5)
    plotting.headline(drawn, f"How well the accuracy of {STUDENT} is known before its training")
    plotting.protocol_caption(drawn, results, summary, "Intervals of the correlations by the jackknife.")
    return drawn
