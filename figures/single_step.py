"""One imitation step against its prediction: on the diagonal for a shared initialisation, anywhere for another."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import rate_interval


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw d_S . d_T over its prediction eps A, a dot for each seed and loss, for shared and independent inits."""
    eps = results.attrs["hyper"]["eps"]
    drawn, panels = plotting.figure(2, width=7.8, height=3.9, sharex=True)
    for axes, init in zip(panels, results.init.values, strict=True):
        rates = []
        for loss, colour in zip(results.loss.values, (plotting.PURPLE, plotting.OTHER), strict=True):
            step = results.sel(init=init, loss=loss)
            n = int(np.isfinite(step.inner_product).sum())
            axes.plot(step.predicted, step.inner_product, "o", color=colour, alpha=0.4, markersize=3,
                      markeredgewidth=0, label=plotting.LOSSES[str(loss)])  # fmt: skip
            positive = int((step.inner_product > 0).sum())
            low, high = rate_interval(positive, n)
            rates.append(f"{plotting.LOSSES[str(loss)]}: {positive}/{n} positive [{low:.3f}, {high:.3f}]")
        ends = np.array([float(results.predicted.min()), float(results.predicted.max())])
        axes.plot(ends, ends, color=plotting.NEUTRAL, linewidth=1, zorder=1, label=r"$\epsilon A$")
        axes.set_title(f"{init} initialisation\n" + "\n".join(rates), fontsize=9)
        axes.set_xscale("log")
        axes.set_xlabel(r"predicted  $\epsilon A$")
    # Symmetric log scale, so that every sign is visible; ticks every second decade above the smallest prediction.
    smallest = 10 ** np.floor(np.log10(float(results.predicted.where(results.predicted > 0).min())))
    for axes, init in zip(panels, results.init.values, strict=True):
        step = results.inner_product.sel(init=init)
        largest = 2 * float(abs(step).max())
        ticks = [decade for decade in 10 * smallest * 100.0 ** np.arange(8) if decade < largest]
        axes.set_yscale("symlog", linthresh=smallest)
        axes.set_yticks([*(-tick for tick in ticks), 0, *ticks])
        axes.set_ylim(-largest if float(step.min()) < 0 else 0, largest)
        axes.axhline(0, color=plotting.NEUTRAL, linestyle=":", linewidth=1)
    panels[0].set_ylabel(r"measured  $d_S \cdot d_T$")
    panels[0].legend(loc="upper left", markerscale=2)
    seeds, precision = results.sizes["seed"], results.attrs["precision"]
    plotting.caption(
        drawn,
        rf"{seeds} seeds, {precision}, $\epsilon$ = {eps:g}; rates with exact (Clopper-Pearson) 95% intervals."
        "\nThe line is the theorem's prediction for a shared initialisation; for another it promises nothing.",
    )
    return drawn
