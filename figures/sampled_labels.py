"""How often a step on sampled labels follows the teacher: one curve for every eps, every m and every temperature."""

import numpy as np
import scipy.special
import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

FEWEST = 20  # seeds with steps in a bin
WORDS = {"eps": "teacher's step", "n_imitated": "imitated logits", "temperature": "temperature"}
SYMBOLS = {"eps": r"$\epsilon$", "n_imitated": "m", "temperature": r"$\tau$"}


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw a panel for each axis: measured shares with their intervals on the predicted curve."""
    axes_of: dict[str, list[str]] = {}
    for family in map(str, results.family.values):
        axes_of.setdefault(family.partition(" = ")[0], []).append(family)
    drawn, panels = plotting.figure(len(axes_of), width=3.7 * len(axes_of), height=3.9, sharey=True, squeeze=False)
    line = np.linspace(0, 3, 200)
    for panel, (axis, families) in zip(panels.ravel(), axes_of.items(), strict=True):
        panel.plot(line, scipy.special.ndtr(line), color=plotting.NEUTRAL, linewidth=1.2, label=r"$\Phi$")
        for number, family in enumerate(families):
            here = results.binned.sel(family=family)
            places, found = here.sel(of="signal").mean("seed"), mean_interval(here.sel(of="follows"))
            found = found.where(found.n >= FEWEST)
            bars = plotting.error_bars(found)
            shift = 0.02 * (number - (len(families) - 1) / 2)
            label = f"{SYMBOLS[axis]} = {family.partition(' = ')[2]}"
            panel.errorbar(
                places + shift, found["mean"], yerr=bars, fmt="o", color=plotting.shades(len(families))[number],
                markersize=3.5, capsize=2, linewidth=1, label=label,
            )  # fmt: skip
        panel.set_xlabel(r"$\epsilon\,\sqrt{n A}$")
        panel.set_title(f"by {WORDS[axis]}")
        panel.legend(fontsize=8, loc="lower right")
    panels[0, 0].set_ylabel(r"P($d_S \cdot d_T > 0$)")
    config = results.attrs["config"]
    plotting.caption(
        drawn,
        f"One gradient step on n = {results.n_labels.values[0]} .. {results.n_labels.values[-1]:,} labels drawn from "
        f"the teacher's softmax over its auxiliary logits; {config['n_pixels']}-{'-'.join(map(str, config['widths']))} "
        f"network, {results.sizes['seed']} seeds.\nBars: Student t 95% intervals over seeds. Nothing is fitted: A is "
        "Lemma 1's coefficient of each seed. "
        f"Bins in which fewer than {FEWEST} seeds have steps are left out.",
    )
    return drawn
