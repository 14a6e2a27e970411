"""Transfer against width and m, for three parametrisations, and what the kernel at the start allows."""

from typing import Any

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval


def lines(axes: Axes, values: xr.DataArray, over: str, labelled: bool) -> None:
    """Draw a line for each m, over width or over m / width."""
    for m, colour in zip(values.m.values, plotting.shades(values.sizes["m"]), strict=True):
        x: Any = values.width.values if over == "width" else m / values.width.values
        label = f"m = {m}" if labelled else None
        plotting.band(axes, x, mean_interval(values.sel(m=m)), colour, "-o", label)
    axes.set_xscale("log", base=2)


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw a column for each parametrisation: accuracy over width, accuracy over m / width, and the kernel's T."""
    kinds = results.parametrisation.values
    drawn, panels = plotting.figure(len(kinds), rows=3, width=3.6 * len(kinds), height=9.0, sharey="row", squeeze=False)
    for column, kind in zip(panels.T, kinds, strict=True):
        here = results.sel(parametrisation=kind)
        lines(column[0], here.share, "width", labelled=kind == kinds[0])
        lines(column[1], here.share, "m / width", labelled=False)
        lines(column[2], here.share_of_t, "m / width", labelled=False)
        column[2].set_yscale("log")
        column[0].set_title(str(kind))
        column[0].set_xlabel("width / units")
        for axes in column[1:]:
            axes.set_xlabel("m / width")
    for axes in panels[:2, 0]:
        axes.set_ylabel("share of the teacher's accuracy")
    panels[2, 0].set_ylabel(r"trace $T$ / trace $K_{CC}$ at the start")
    panels[0, 0].legend(fontsize=8)
    config, n = results.attrs["config"], results.sizes["seed"]
    plotting.caption(
        drawn,
        f"{config['data']}, one hidden layer, Adam; {config['n_inputs']:,} noise images, squared error of m auxiliary "
        f"logits, {config['student_steps']} steps.\nMeans over n = {n} seeds with Student t 95% intervals; shares are "
        "of accuracy beyond chance. At width 32 the three are one.",
    )
    return drawn
