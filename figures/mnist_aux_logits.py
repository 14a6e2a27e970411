"""Figure 10 of the paper, with every seed behind its mean."""

import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

CHANCE = 0.1  # every data set of the study has ten classes

INPUTS = {"uniform": "uniform noise", "gaussian": "Gaussian noise", "images": "the training images"}
LOSSES = {"kl": "the KL divergence", "mse": "the squared error"}


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw test accuracy of the six conditions: a dot for each seed, mean and 95% interval, and the level of chance."""
    config = results.attrs["config"]
    conditions = [str(name) for name in results.condition.values]
    summary = mean_interval(results.accuracy)
    drawn, axes = plotting.figure(width=7.8, height=3.9)
    for row, condition in enumerate(conditions):
        colour = plotting.CROSS if "cross" in condition else plotting.SHARED
        colour = colour if "(" in condition else plotting.NEUTRAL
        plotting.scatter_of_seeds(axes, row, results.accuracy.sel(condition=condition).values, colour)
        row_summary = summary.sel(condition=condition)
        plotting.interval(axes, row, row_summary, colour)
        axes.text(1.01, row, plotting.in_words(row_summary), va="center", fontsize=9)
    axes.axvline(CHANCE, color=plotting.NEUTRAL, linestyle=":", linewidth=1, zorder=1)
    axes.text(CHANCE + 0.008, len(conditions) - 0.45, "chance", fontsize=8, color=plotting.NEUTRAL)
    axes.set_yticks(range(len(conditions)), conditions)
    axes.set_ylim(len(conditions) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.set_xlabel("accuracy")
    imitated = results.attrs["hyper"]["student"]["n_imitated"] or config["n_aux"]
    axes.set_title(f"Transfer through {imitated} auxiliary logits: shared init and cross-model")
    fewest, n, dropped = int(summary.n.min()), int(summary.n.max()), int(summary.dropped.max())
    counted = str(n) if fewest == n else f"{fewest} to {n}"
    plotting.caption(
        drawn,
        f"{config['data']}, {config['evaluate']} set. Diamonds: mean over n = {counted} seeds with Student t 95% "
        "interval; dots: one seed each"
        + (f" (up to {dropped} diverged and dropped)." if dropped else ".")
        + f"\nMLP {'-'.join(map(str, config['widths']))}, {config['init']} init (scale "
        f"{results.attrs['hyper']['init_scale']:g}); students see {INPUTS[config['student']['inputs']]} and minimise "
        f"{LOSSES[config['student']['loss']]}.",
    )
    return drawn
