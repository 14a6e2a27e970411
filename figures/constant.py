"""The theorem's constant over width and inputs' size: measured means on the closed form, and how far it is off."""

import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

TRAITS = {"linear": (plotting.SHARED, "o"), "cross-entropy": (plotting.OTHER, "s")}
READINGS = {
    "linear": (plotting.SHARED, "o"), "linear, KL": (plotting.AMBER, "^"),
    "cross-entropy, zero logits": (plotting.PURPLE, "v"), "cross-entropy, own logits": (plotting.OTHER, "s"),
}  # fmt: skip
LABELS = {"width": "width / units", "input_scale": "factor on the inputs"}
TITLES = {"width": "A by width", "input_scale": "A by the size of inputs"}


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw A over each axis at the middle of the other, and A divided by the formula's mean over width."""
    middle = {axis: results[axis].values[len(results[axis]) // 2] for axis in LABELS}
    drawn, panels = plotting.figure(len(LABELS) + 1, width=3.6 * (len(LABELS) + 1), height=3.9)
    for panel, axis in zip(panels, LABELS, strict=False):
        here = results.sel({other: value for other, value in middle.items() if other != axis})
        expected = here.expected.sel(formula="of zero logits").mean("seed")
        panel.plot(here[axis], expected, color=plotting.NEUTRAL, linewidth=1.2, label="closed form")
        for trait, (colour, mark) in TRAITS.items():
            found = mean_interval(here.a.sel(trait=trait, loss="mse"))
            bars = plotting.error_bars(found)
            panel.errorbar(here[axis], found["mean"], yerr=bars, fmt=mark, color=colour, markersize=4, capsize=2,
                           label=f"{trait} trait")  # fmt: skip
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_xlabel(LABELS[axis])
        panel.set_ylabel("mean of A over inits")
        panel.set_title(TITLES[axis])
        panel.legend(fontsize=8)
    last, ratio = panels[-1], results.ratio.sel(input_scale=middle["input_scale"])
    for reading, (colour, mark) in READINGS.items():
        found = mean_interval(ratio.sel(reading=reading))
        bars = plotting.error_bars(found)
        last.errorbar(results.width, found["mean"], yerr=bars, fmt=f"{mark}-", color=colour, markersize=4, capsize=2,
                      linewidth=1, label=reading)  # fmt: skip
    last.axhline(1, color=plotting.NEUTRAL, linewidth=1, zorder=1)
    last.set_xscale("log", base=2)
    last.set_xlabel(LABELS["width"])
    last.set_ylabel("mean of A / closed form")
    last.set_title("how near the closed form is, by trait")
    last.legend(fontsize=8)
    plotting.caption(
        drawn,
        f"One hidden layer, {results.attrs['config']['init']} init, m = {results.attrs['config']['n_aux']}; squared "
        f"error unless it says KL. Means over n = {results.sizes['seed']} seeds with Student t 95% intervals.\nExact "
        "for a linear trait; for the cross-entropy with the gradient of the seed's own logits up to O(1/width).",
    )
    return drawn
