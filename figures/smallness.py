"""Where Theorem 1 stops holding: the critical eps over widths and depths, predicted and measured."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import median_interval

LOSSES = {
    "kl": ("KL", plotting.SHARED),
    "mse": ("squared error", plotting.OTHER),
    "kl, all logits": ("KL, all logits", plotting.PURPLE),
}
SHOWN = "mse"  # the loss of the left panel, whose crossings mostly lie on the scan
WORDS = {"pade": "Padé"}


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw critical eps over width and depth, measured against predicted by seed, and the error of each prediction."""
    quadratic, both = (values.sel(predictor="quadratic") for values in (results.predicted, results.met))
    drawn, (networks, scatter, ratios) = plotting.figure(3, width=11.5, height=4.6)

    for number, depth in enumerate(results.depth.values):
        colour = plotting.shades(results.sizes["depth"])[number]
        places = results.width.values * 1.09 ** (number - (results.sizes["depth"] - 1) / 2)
        for values, mark, line in ((results.measured, "o", "-"), (quadratic, "D", ":")):
            here = values.sel(depth=depth, loss=SHOWN)
            summary = median_interval(here)
            bars = plotting.error_bars(summary, "median")
            networks.errorbar(
                places, summary["median"], yerr=np.where(np.isfinite(bars), bars, 0), fmt=mark + line, color=colour,
                markersize=4, linewidth=1, capsize=2, markerfacecolor=colour if mark == "o" else "white",
                label=f"{depth} hidden layer" + "s" * int(depth > 1) if mark == "o" else None, zorder=3,
            )  # fmt: skip
        for place, width in zip(places, results.width.values, strict=True):
            seeds = results.measured.sel(depth=depth, loss=SHOWN, width=width)
            networks.plot(np.full(seeds.size, place), seeds, "o", color=colour, alpha=0.15, markersize=2.5,
                          markeredgewidth=0)  # fmt: skip
    networks.set_xscale("log", base=2)
    networks.set_yscale("log")
    networks.set_xlabel("width / units")
    networks.set_ylabel(r"critical $\epsilon$")
    networks.set_title(f"{LOSSES[SHOWN][0]}; open: second order")
    networks.legend(fontsize=8)

    for loss, (words, colour) in LOSSES.items():
        x, y, met = (values.sel(loss=loss).values.ravel() for values in (quadratic, results.measured, both))
        scatter.loglog(x[met], y[met], "o", color=colour, alpha=0.3, markersize=3, markeredgewidth=0,
                       label=f"{words}: {met.sum()} of {met.size} met")  # fmt: skip
    ends = scatter.get_xlim()
    scatter.plot(ends, ends, color=plotting.NEUTRAL, linewidth=1, zorder=1)
    scatter.set_xlabel(r"second-order prediction  $-2\varphi'(0)/\varphi''(0)$")
    scatter.set_ylabel(r"measured critical $\epsilon$")
    scatter.set_title("all networks, a dot a seed")
    scatter.legend(fontsize=8, markerscale=2)

    predictors = [str(name) for name in results.predictor.values]
    for row, predictor in enumerate(predictors):
        for number, (loss, (_, colour)) in enumerate(LOSSES.items()):
            here = results.sel(predictor=predictor, loss=loss)
            ratio = xr.DataArray((here.measured / here.predicted).values[here.met.values], dims="seed")
            place = row + 0.22 * (number - 1)
            low, middle, high = np.nanquantile(ratio, (0.1, 0.5, 0.9)) if ratio.size else (np.nan,) * 3
            ratios.plot([low, high], [place, place], color=colour, linewidth=4, alpha=0.3, solid_capstyle="butt")
            summary = median_interval(ratio)
            ends = [[middle - float(summary.low)], [float(summary.high) - middle]]
            ratios.errorbar(middle, place, xerr=np.where(np.isfinite(ends), ends, 0), fmt="D", color=colour,
                            markersize=4, capsize=3)  # fmt: skip
            ratios.text(
                1.01, place, f"n = {ratio.size}", va="center", fontsize=7, transform=ratios.get_yaxis_transform()
            )
    ratios.axvline(1, color=plotting.NEUTRAL, linewidth=1, zorder=1)
    ratios.set_xscale("log")
    ratios.set_xticks([0.1, 1 / 3, 1, 3, 10], ["0.1", "1/3", "1", "3", "10"])
    ratios.minorticks_off()
    ratios.set_yticks(range(len(predictors)), [WORDS.get(name, name) for name in predictors])
    ratios.invert_yaxis()
    ratios.set_xlabel("measured / predicted")
    ratios.set_title("median, 95% interval, and 80% of the seeds")

    config, hyper = results.attrs["config"], results.attrs["hyper"]
    plotting.caption(
        drawn,
        f"{results.sizes['seed']} seeds a network, {results.attrs['precision']}, {config['init']} init, "
        rf"$\alpha$ = {hyper['alpha']:g}; left: medians with distribution-free 95% intervals. Met: both crossings lie "
        rf"below the farthest $\epsilon$ scanned, {hyper['farthest']:g}."
        "\nLinear teacher: outputs to first order in $\\epsilon$. "
        "Quadratic trait: $L_T$ to second order in the student's step. Both are measured on the simpler "
        "ray. Right: all networks together.",
    )
    return drawn
