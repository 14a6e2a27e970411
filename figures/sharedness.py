"""How shared is shared: rates over angle and eps, their collapse onto one curve, and which layers have to be shared."""

import itertools
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import positive_rate
from subsim.theory.rates import conditional_sign_rate, sign_rate

MARKS = {"kl": "o", "mse": "s"}
SMALL = 0.1  # radians


def draw_rates(over_angle: Axes, collapse: Axes, turned: xr.Dataset) -> None:
    """Draw P over the angle for every eps, with the prediction as a line, and all of it against signal over spread."""
    for number, (eps, (loss, mark)) in enumerate(itertools.product(turned.eps.values, MARKS.items())):
        colour = plotting.shades(turned.sizes["eps"])[number // 2]
        at = [turned.sel(eps=eps, loss=loss, angle=angle) for angle in turned.angle.values]
        for angle, here in zip(turned.angle.values, at, strict=True):
            found = positive_rate(here.inner_product)
            fill = colour if angle <= SMALL else "white"
            style: Any = {"fmt": mark, "color": colour, "markersize": 4, "elinewidth": 1, "markerfacecolor": fill}
            if loss == "kl":
                over_angle.errorbar(angle, found.rate, yerr=found.bars, **style)
            if angle > 0:
                collapse.errorbar(float((here.signal / here.spread).median()), found.rate, yerr=found.bars, **style)
        if loss == "kl":
            predicted = [conditional_sign_rate(here.signal.values, here.spread.values) for here in at]
            over_angle.plot(turned.angle, predicted, color=colour, linewidth=1, label=rf"$\epsilon$ = {eps:g}")
            wide = [here for here in at if here.angle >= SMALL]
            normal = [sign_rate(here.signal.values, here.offset.values).predicted for here in wide]
            over_angle.plot([here.angle for here in wide], normal, "--", color=colour, linewidth=1)


def draw_curve(collapse: Axes, turned: xr.Dataset) -> None:
    """Draw the prediction at small angles, which depends only on signal over spread."""
    smallest = turned.isel(eps=0, angle=int(np.flatnonzero(turned.angle.values > 0)[0]))
    ratios = np.geomspace(1e-4, 1e2, 150)
    for loss, line in (("kl", "-"), ("mse", "--")):
        here = smallest.sel(loss=loss)
        unit = (here.signal / here.spread).values
        rates = [conditional_sign_rate(ratio * unit / np.nanmedian(unit), np.ones_like(unit)) for ratio in ratios]
        collapse.plot(ratios, rates, line, color=plotting.NEUTRAL, linewidth=1, zorder=1, label=plotting.LOSSES[loss])


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw P(d_S . d_T > 0) over angle and eps, the collapse, and the shared layers at the largest angle."""
    drawn, (over_angle, collapse, layers) = plotting.figure(3, width=11.5, height=4.6)
    draw_rates(over_angle, collapse, results.sel(shared="none"))
    over_angle.set_xscale("symlog", linthresh=1e-3)
    over_angle.axhline(0.5, color=plotting.NEUTRAL, linestyle=":", linewidth=1, zorder=1)
    over_angle.set_xlabel(r"angle $\varphi$ between the inits / rad")
    over_angle.set_ylabel(r"$P(d_S \cdot d_T > 0)$")
    over_angle.set_title("KL: measured (dots), predicted (lines)")
    plotting.legend_above(
        drawn, over_angle, "How often the student's step follows its teacher's, by the angle between their inits"
    )

    if (results.angle > 0).any():
        draw_curve(collapse, results.sel(shared="none"))
        collapse.legend(loc=(0.67, 0.2), fontsize=8, handlelength=1.2)
    collapse.axhline(0.5, color=plotting.NEUTRAL, linestyle=":", linewidth=1, zorder=1)
    collapse.set_xscale("log")
    collapse.set_xlim(1e-4, 1e2)
    collapse.set_xlabel(r"$\epsilon A\,/\,$spread of the offset at small angles")
    collapse.set_title(rf"squares: squared error; open: $\varphi$ > {SMALL:g}")

    far = results.isel(angle=int(np.argmax(results.angle.values)), eps=int(np.argmin(results.eps.values)))
    for row, shared in enumerate(results.shared.values):
        for loss, mark in MARKS.items():
            here = far.sel(shared=shared, loss=loss)
            shift = -0.1 if loss == "kl" else 0.1
            for values, colour in ((here.inner_product, plotting.PURPLE), (-here.trait_change, plotting.OTHER)):
                found = positive_rate(values)
                layers.errorbar(
                    found.rate, row + shift, xerr=found.bars, fmt=mark, color=colour, markersize=3.5, capsize=2
                )
    for colour, words in ((plotting.PURPLE, r"$d_S \cdot d_T > 0$"), (plotting.OTHER, "$L_T$ falls")):
        layers.plot([], [], "o", color=colour, label=words)
    layers.set_yticks(range(results.sizes["shared"]), results.shared.values, fontsize=8)
    layers.invert_yaxis()
    layers.axvline(0.5, color=plotting.NEUTRAL, linestyle=":", linewidth=1, zorder=1)
    layers.set_title(rf"other layers at $\varphi$ = {float(far.angle):.2f}, $\epsilon$ = {float(far.eps):g}")
    layers.set_xlabel("share of seeds")
    layers.set_ylabel("shared layers")
    layers.legend(loc="upper right", fontsize=8)
    config = results.attrs["config"]
    plotting.caption(
        drawn,
        f"{results.sizes['seed']} seeds, {results.attrs['precision']}, hidden layers of "
        f"{'-'.join(map(str, config['widths']))} units, {config['init']} init, {config['n_aux']} auxiliary logits "
        "imitated; exact (Clopper-Pearson) 95% intervals.\nLines: $\\epsilon A$ of each seed against the spread of the "
        "offset (the inner product at $\\epsilon$ = 0) over independent inits, to first order in the angle; nothing is "
        "fitted. Dashed: an offset that is normal over seeds, of the measured mean and spread.",
    )
    return drawn
