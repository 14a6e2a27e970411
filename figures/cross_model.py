"""What decides whether imitating a stranger follows the teacher's step: rates over labels, output scale and biases."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import positive_rate

IMITATED = {"aux. only": "auxiliary logits imitated", "all logits": "all logits imitated"}
COLOURS = {"kl": plotting.CROSS, "mse": plotting.OTHER}
# Axis -> words for zero, and for any other value.
WORDS = {
    "structure": ("random labels", "clustered labels ({:g})"),
    "output_scale": ("no outputs", "outputs x {:g}"),
    "bias_scale": ("no biases", "biases of {:g}"),
}


def in_words(dim: str, value: float | str) -> str:
    """Words for one value of a swept option."""
    if dim not in WORDS:
        return f"{dim.replace('.', ' ').replace('_', ' ')} = {value}"
    return WORDS[dim][bool(value)].format(value)


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw P(d_S . d_T > 0) at every point of the sweep, with a row each; left and right by the imitated logits."""
    swept = [str(dim) for dim in results.inner_product.dims if dim not in ("seed", "loss", "imitated")]
    places = list(np.ndindex(*(results.sizes[dim] for dim in swept)))
    drawn, panels = plotting.figure(2, width=8.6, height=1.9 + 0.36 * len(places), sharex=True, sharey=True)
    for axes, imitated in zip(panels, results.imitated.values, strict=True):
        for row, place in enumerate(places):
            for (loss, colour), shift in zip(COLOURS.items(), (-0.14, 0.14), strict=True):
                here = results.inner_product.isel(dict(zip(swept, place, strict=True)))
                found = positive_rate(here.sel(loss=loss, imitated=imitated))
                axes.errorbar(found.rate, row + shift, xerr=found.bars, fmt="o", color=colour,
                              markersize=4, capsize=3, label=plotting.LOSSES[loss] if row == 0 else None)  # fmt: skip
        axes.axvline(0.5, color=plotting.NEUTRAL, linestyle=":", linewidth=1, zorder=1)
        axes.set_title(IMITATED.get(str(imitated), str(imitated)))
        axes.set_xlabel(r"$P(d_S \cdot d_T > 0)$")
    labels = [
        ", ".join(in_words(dim, results[dim].values[number]) for dim, number in zip(swept, place, strict=True))
        for place in places
    ]
    panels[0].set_yticks(range(len(places)), labels)
    panels[0].set_ylim(len(places) - 0.5, -0.5)
    panels[0].set_xlim(0, 1)
    title = "How often an independent student's step follows its teacher's"
    plotting.legend_above(drawn, panels[0], title)
    config, eps = results.attrs["config"], results.attrs["hyper"]["eps"]
    plotting.caption(
        drawn,
        f"{results.sizes['seed']} seeds, {results.attrs['precision']}, {config['init']} init, $\\epsilon$ = {eps:g}, "
        "student's init independent of its teacher's; exact 95% intervals.\nHidden layers: "
        f"{'-'.join(map(str, config['widths']))} units. Clustered labels: the share of an input that its label "
        "explains. Biases: their standard deviation.",
    )
    return drawn
