"""The change of the trait at the end by a change halfway: measured against predicted, and the relative error."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval, median_interval

SHOWN = 300  # seeds drawn as dots
COLOURS = (plotting.SHARED, plotting.AMBER, plotting.OTHER, plotting.PURPLE)
WORDS = {"relu": "ReLU"}


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw a row for each activation: a panel for each kind of change at one tenth, and the error over its share."""
    activations, kinds, shares = results.activation.values, results.kind.values, results.share.values
    columns = len(kinds) + 1
    drawn, panels = plotting.figure(
        columns, rows=len(activations), width=2.3 * columns, height=1.5 + 2.8 * len(activations), squeeze=False
    )
    at = float(shares[np.argmin(np.abs(np.log(shares / 0.1)))])
    for row, activation in zip(panels, activations, strict=True):
        of = results.sel(activation=activation)
        for axes, kind, colour in zip(row, kinds, COLOURS, strict=False):
            here = of.sel(kind=kind, share=at)
            few = here.isel(seed=slice(SHOWN))
            ends = np.nanquantile(few.predicted.values, [0.01, 0.99])
            ends += 0.3 * (ends[1] - ends[0]) * np.array([-1, 1])  # a few seeds lie outside
            power = int(np.floor(np.log10(np.abs(ends).max()))) if np.abs(ends).max() > 0 else 0
            ends *= 10.0**-power
            dots = few.predicted.values * 10.0**-power, few.measured.values * 10.0**-power
            axes.plot(*dots, "o", color=colour, alpha=0.35, markersize=3, markeredgewidth=0)
            axes.plot(ends, ends, color=plotting.NEUTRAL, linewidth=1)
            axes.set_xlim(*ends)
            axes.set_ylim(*ends)
            axes.set_xlabel(rf"predicted $/\,10^{{{power}}}$")
            rank = mean_interval(here["rank"])
            words = f"rank corr. {float(rank['mean']):.2f} ± {float(rank.high - rank['mean']):.2f}"
            axes.set_title(f"{kind}\n{WORDS.get(str(activation), activation)}, {words}", fontsize=9)
            off = median_interval(of.off.sel(kind=kind))
            row[-1].errorbar(
                shares, off["median"].values, yerr=plotting.error_bars(off, "median"), fmt="-o", color=colour,
                markersize=4, capsize=2, label=str(kind), linewidth=1.3,
            )  # fmt: skip
        row[0].set_ylabel(r"measured change of $L_T$")
        row[-1].set_xscale("log")
        row[-1].set_yscale("log")
        row[-1].set_title("relative error, median", fontsize=9)
    panels[-1, -1].set_xlabel("share of the change made")
    title = "How a change halfway alters the trait at the end: measured, and predicted by one pass backwards"
    plotting.legend_above(drawn, panels[0, -1], title)
    config, n = results.attrs["config"], results.sizes["seed"]
    plotting.caption(
        drawn,
        f"{config['data']}, MLP {'-'.join(map(str, config['widths']))}, {config['n_inputs']} noise images, KL on "
        f"{config['n_aux']} auxiliary logits, Adam; changed after {config['steps_before']} steps, measured "
        f"after {config['steps_after']} more.\nDots: changes of $L_T$, nat, at {at:g} of the change; n = {n} seeds, "
        f"{min(n, SHOWN)} shown; 95% intervals. Measured changes are in units of predicted ones.",
    )
    return drawn
