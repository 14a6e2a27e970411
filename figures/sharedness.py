"""How shared is shared: rates over angle and eps, their collapse onto one curve, and which layers have to be shared."""

from typing import Any

import matplotlib
import numpy as np
import scipy.special
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from subsim import plotting
from subsim.engine.summary import rate_interval
from subsim.theory.rates import sign_rate

LOSSES = {"kl": "KL", "mse": "squared error"}
MARKS = {"kl": "o", "mse": "s"}


def rate(values: xr.DataArray) -> tuple[float, list[list[float]]]:
    """Share of positive values among the finite ones, and the exact 95% interval as error bars."""
    finite = values.values[np.isfinite(values.values)]
    share = float((finite > 0).mean()) if len(finite) else np.nan
    low, high = rate_interval(int((finite > 0).sum()), len(finite))
    return share, [[share - low], [high - share]]


def colour_of(number: int, of: int) -> tuple[float, ...]:
    """Colours from dark blue to yellow-green, in order of eps."""
    return matplotlib.colormaps["viridis"](0.9 * number / max(of - 1, 1))


def draw_rates(over_angle: Axes, collapse: Axes, turned: xr.Dataset) -> None:
    """P over the angle for every eps, with the predictions as lines; and all of it against signal over spread."""
    for number, eps in enumerate(turned.eps.values):
        colour = colour_of(number, turned.sizes["eps"])
        for loss, mark in MARKS.items():
            at = [turned.sel(eps=eps, loss=loss, angle=angle) for angle in turned.angle.values]
            predicted = [sign_rate(here.signal.values, here.offset.values) for here in at]
            for angle, here, prediction in zip(turned.angle.values, at, predicted, strict=True):
                share, bars = rate(here.inner_product)
                style: Any = {"fmt": mark, "color": colour, "markersize": 3.5, "elinewidth": 1}
                if loss == "kl":
                    over_angle.errorbar(angle, share, yerr=bars, **style)
                if np.isfinite(prediction.ratio):
                    collapse.errorbar(prediction.ratio, share, yerr=bars, **style)
            if loss == "kl":
                over_angle.plot(turned.angle, [one.predicted for one in predicted], color=colour, linewidth=1,
                                label=rf"$\epsilon$ = {eps:g}")  # fmt: skip


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """P(d_S . d_T > 0) over angle and eps; the collapse; and the factorial of shared layers at the largest angle."""
    for axis in ("angle", "eps"):
        if axis not in results.dims:
            results = results.expand_dims({axis: [results.attrs["hyper"][axis]]})
    drawn, (over_angle, collapse, layers) = plotting.figure(3, width=12.6, height=4.4)
    draw_rates(over_angle, collapse, results.sel(shared="none"))
    over_angle.set_xscale("symlog", linthresh=1e-3)
    over_angle.axhline(0.5, color=plotting.NEUTRAL, linestyle=":", linewidth=1, zorder=1)
    over_angle.set_xlabel(r"angle $\varphi$ between the inits (radians)")
    over_angle.set_ylabel(r"$P(d_S \cdot d_T > 0)$")
    over_angle.set_title("KL: measured (dots), predicted (lines)")
    over_angle.legend(fontsize=8)

    ratios = np.linspace(-0.5, 5, 200)
    collapse.plot(ratios, scipy.special.ndtr(ratios), color=plotting.NEUTRAL, linewidth=1, zorder=1,
                  label=r"normal approximation")  # fmt: skip
    collapse.set_xlim(-0.5, 5)  # beyond it the rate is 1
    collapse.set_xlabel(r"($\epsilon A$ + mean offset) / spread of the offset")
    collapse.set_title("One curve? (dots: KL, squares: squared error)")
    collapse.legend(loc="lower right", fontsize=8)

    far = results.isel(angle=int(np.argmax(results.angle.values)), eps=int(np.argmin(results.eps.values)))
    for row, shared in enumerate(results.shared.values):
        for loss, mark in MARKS.items():
            here = far.sel(shared=shared, loss=loss)
            shift = -0.1 if loss == "kl" else 0.1
            for values, colour in ((here.inner_product, plotting.SHARED), (-here.trait_change, plotting.CROSS)):
                share, bars = rate(values)
                layers.errorbar(share, row + shift, xerr=bars, fmt=mark, color=colour, markersize=3.5, capsize=2)
    for colour, words in ((plotting.SHARED, r"$d_S \cdot d_T > 0$"), (plotting.CROSS, "$L_T$ falls")):
        layers.plot([], [], "o", color=colour, label=words)
    layers.set_yticks(range(results.sizes["shared"]), results.shared.values, fontsize=8)
    layers.invert_yaxis()
    layers.axvline(0.5, color=plotting.NEUTRAL, linestyle=":", linewidth=1, zorder=1)
    layers.set_title(rf"shared layers; others at $\varphi$ = {float(far.angle):.2f}, $\epsilon$ = {float(far.eps):g}")
    layers.set_xlabel("rate")
    layers.legend(loc="lower center", fontsize=8)
    config = results.attrs["config"]
    plotting.caption(
        drawn,
        f"{results.sizes['seed']} seeds, {results.attrs['precision']}, hidden layers of "
        f"{'-'.join(map(str, config['widths']))} units, {config['init']} init, {config['n_aux']} auxiliary logits "
        "imitated; exact (Clopper-Pearson) 95% intervals.\nPredictions take eps A, and the mean and spread over seeds "
        "of the offset, the inner product at eps = 0, as normal.",
    )
    return drawn
