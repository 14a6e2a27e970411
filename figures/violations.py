"""What breaks Lemma 1: rates of a wrong sign, and how the step lies to the teacher's."""

import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval, positive_rate


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw P(d_S . d_T < 0) with exact intervals (left), and cosines, a dot for each seed, with their mean (right)."""
    names = [str(name) for name in results.setting.values]
    drawn, (left, right) = plotting.figure(2, width=9.0, height=0.34 * len(names) + 1.6, sharey=True)
    for place, name in enumerate(names):
        colour = plotting.CROSS if "independent" in name else plotting.OTHER
        colour = plotting.SHARED if place == 0 else colour
        here = results.sel(setting=name)
        wrong = positive_rate(-here.inner_product)
        left.errorbar(wrong.rate, place, xerr=wrong.bars, fmt="D", color=colour, markersize=4, capsize=3)
        left.annotate(f"{wrong.rate:.1%}", (wrong.rate, place), (6, 4), textcoords="offset points", fontsize=8)
        plotting.scatter_of_seeds(right, place, here.cosine.values[:300], colour)
        plotting.interval(right, place, mean_interval(here.cosine), colour)
    left.set_yticks(range(len(names)), [name.replace("a large eps", r"a large $\epsilon$") for name in names])
    left.axvline(0.5, color=plotting.NEUTRAL, linestyle=":", linewidth=1, zorder=1)
    left.invert_yaxis()
    left.set_xlim(-0.02, max(0.75, left.get_xlim()[1]))
    left.set_xlabel(r"$P(d_S \cdot d_T < 0)$")
    left.set_title("How often the step points away from the teacher")
    right.axvline(0, color=plotting.NEUTRAL, linestyle=":", linewidth=1)
    right.set_xlabel(r"cosine of the student's step and $d_T$")
    right.set_title("How the step lies to the teacher's")
    seeds, eps = results.sizes["seed"], results.attrs["hyper"]["eps"]
    plotting.caption(
        drawn,
        f"{seeds:,} seeds of a 16-8-8-(4+3) network, {results.attrs['precision']}, "
        rf"$\epsilon$ = {eps:g}; exact (Clopper-Pearson) 95% intervals. Dots: the first 300 seeds; "
        "diamonds: mean over all.\nBlue: the lemma left whole; green: one condition broken; orange: another init.",
    )
    return drawn
