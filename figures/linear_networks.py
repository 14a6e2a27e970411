"""The student's share of the teacher's change in linear networks, by depth and heads, over the size of that change."""

import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

COLOURS = {"fixed": plotting.SHARED, "trained": plotting.OTHER}


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw a panel for each depth; lines are linearised students, and dotted lines are the product of ranks."""
    depths = results.depth.values
    drawn, panels = plotting.figure(len(depths), width=3.6 * len(depths), height=3.8, sharey=True, squeeze=False)
    eps = results.eps.values
    for axes, depth in zip(panels.ravel(), depths, strict=True):
        here = results.sel(depth=depth)
        for heads, colour in COLOURS.items():
            linearised, trained = (mean_interval(each.sel(heads=heads)) for each in (here.linearised, here.overlap))
            plotting.band(axes, eps, linearised, colour, "-")
            axes.errorbar(
                eps, trained["mean"].values, yerr=plotting.error_bars(trained), fmt="o", color=colour, markersize=5,
                capsize=2, label=f"{heads} heads",
            )  # fmt: skip
        axes.set_title(f"{depth} hidden layer" + ("s" if depth > 1 else ""))
        axes.set_xscale("log")
        axes.set_xlabel(r"teacher's change / layer, $\epsilon$")
        if depth == 1:
            level = float(mean_interval(here.ranks)["mean"].mean())
            axes.axhline(level, color=plotting.NEUTRAL, linestyle=":", linewidth=1.3, label="product of ranks")
            axes.legend(fontsize=8)
        axes.set_ylim(bottom=0)
    panels[0, 0].set_ylabel("share of the teacher's change")
    config, n = results.attrs["config"], results.sizes["seed"]
    plotting.caption(
        drawn,
        f"Linear networks {config['n_pixels']}-{config['width']}-{config['n_aux']}, {config['n_inputs']} normal "
        f"inputs, {config['steps']:,} full-batch steps of squared error; isotropic teachers.\nDots: students "
        f"as trained, means over n = {n} seeds with Student t 95% intervals. Lines: linearised students at their end.",
    )
    return drawn
