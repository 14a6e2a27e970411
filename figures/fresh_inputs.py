"""The share of the teacher's displacement down a chain on fresh inputs: measured, and predicted by the spectrum."""

import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

WORDS = {"relu": "ReLU"}


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw a row for each activation, a column for each m, and a colour for each number of inputs."""
    activations = results.activation.values
    drawn, panels = plotting.figure(
        results.sizes["m"], rows=len(activations), width=4.2 * results.sizes["m"],
        height=1.0 + 3.0 * len(activations), squeeze=False, sharex=True, sharey=True,
    )  # fmt: skip
    for row, activation in zip(panels, activations, strict=True):
        here = results.sel(activation=activation)
        for axes, m in zip(row, here.m.values, strict=True):
            for n, colour in zip(here.n_inputs.values, plotting.shades(here.sizes["n_inputs"]), strict=True):
                measured, line = (mean_interval(values.sel(m=m, n_inputs=n)) for values in (here.share, here.predicted))
                axes.plot(here.hop.values, line["mean"].values, color=colour, linewidth=1.3)
                axes.errorbar(
                    here.hop.values, measured["mean"].values, yerr=plotting.error_bars(measured), fmt="o", color=colour,
                    markersize=5, capsize=2, label=f"{n} inputs",
                )  # fmt: skip
            axes.set_yscale("log")
            axes.set_ylim(3e-5, 1.2)
            axes.set_xticks(here.hop.values)
            axes.set_title(f"{WORDS.get(str(activation), activation)}, m = {m}")
        row[0].set_ylabel("share of the teacher's displacement")
    for axes in panels[-1]:
        axes.set_xlabel("hop")
    panels[0, 0].legend(fontsize=8)
    config = results.attrs["config"]
    plotting.caption(
        drawn,
        f"{config['data']}, MLP {'-'.join(map(str, config['widths']))}, linearised students at their ridge solutions, "
        f"fresh noise images in every hop.\nDots: means over n = {results.sizes['seed']} seeds with Student t 95% "
        "intervals. Lines: the law of independent rows, from the spectrum alone.",
    )
    return drawn
