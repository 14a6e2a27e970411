"""Accuracy against the bits that a student is told of an input, and against the number of inputs."""

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

# Family -> its words, colour and marker; a condition is of the family that its last words are.
FAMILIES = {
    "sampled": ("labels drawn from the softmax", plotting.SHARED, "o-"),
    "bits": ("few bits a logit", plotting.OTHER, "s-"),
    "noise": ("noise on the logits", plotting.CROSS, "^-"),
    "top": ("the largest logits, with their values", plotting.NEUTRAL, "v-"),
}
ALONE = {
    "soft": "all as they are",
    "argmax": "the largest, without its value",
    "1 sampled, anew": "a new label at each visit",
}


def of_family(names: list[str], family: str) -> list[str]:
    """Return the conditions of a family, those of another init and those that draw anew left out."""
    return [name for name in names if family in name.split() and "," not in name]


def draw_bits(axes: Axes, summary: xr.Dataset, bits: xr.DataArray) -> None:
    """Draw accuracy over the bits of an input, a line for each family."""
    names = [str(name) for name in bits.student.values]
    for family, (words, colour, line) in FAMILIES.items():
        its = sorted(of_family(names, family), key=lambda name: float(bits.sel(student=name)))
        plotting.band(axes, bits.sel(student=its), summary.sel(condition=its), colour, line, words)
    for (name, words), marker in zip(ALONE.items(), "*PX", strict=True):
        one = summary.sel(condition=[name])
        axes.errorbar(
            [float(bits.sel(student=name))], one["mean"], yerr=plotting.error_bars(one), fmt=marker, color="black",
            markersize=8, label=words,
        )  # fmt: skip
    axes.set(xlabel="bits of an input, at most", ylabel="accuracy of student (aux. only)")
    plotting.tick_all(axes, (3, 10, 30, 100, 300))


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Accuracy over bits on as many inputs; over inputs, for some channels; and over all labels that were drawn."""
    sizes, names = results["student.n_inputs"].values, [str(name) for name in results.student.values]
    summary, bits = mean_interval(results.accuracy), results.bits.mean("seed")
    middle = sizes[len(sizes) // 2]
    drawn, (first, second, third) = plotting.figure(3, width=13.5, height=4.4, sharey=True)
    draw_bits(first, summary.sel({"student.n_inputs": middle}), bits)
    first.set_title(f"{middle:,} inputs")
    shown = ["soft", "6 bits", "3 bits", "1 bits", "64 sampled", "1 sampled", "argmax", "noise 3"]
    shades = [to_hex(colour) for colour in colormaps["viridis"](np.linspace(0, 0.9, len(shown)))]
    for name, colour in zip(shown, shades, strict=True):
        plotting.band(second, sizes, summary.sel(condition=name), colour, "o-", "1 bit" if name == "1 bits" else name)
    plotting.tick_all(second, sizes)
    second.set(xlabel="inputs", title="some of the channels")
    drawn_labels = of_family(names, "sampled")
    shades = [to_hex(colour) for colour in colormaps["viridis"](np.linspace(0, 0.85, len(sizes)))]
    for size, colour in zip(sizes, shades, strict=True):
        here = summary.sel({"student.n_inputs": size})
        counts = [int(size) * int(name.split()[0]) for name in drawn_labels]
        plotting.band(third, counts, here.sel(condition=drawn_labels), colour, "o-", f"{size:,} inputs")
        third.axhline(float(here["mean"].sel(condition="soft")), color=colour, linestyle="--", linewidth=1)
    third.set_xscale("log")
    third.set(xlabel="labels in all", title="labels drawn; dashed: all logits as they are")
    for axes in (first, second, third):
        plotting.chance(axes, 0.1)
        axes.set_ylim(0, 0.8)
        axes.legend(fontsize=7.5, loc="upper left", ncols=2 if axes is second else 1)
    plotting.protocol_caption(drawn, results, summary, "Cross-model students of three channels are in the table.")
    return drawn
