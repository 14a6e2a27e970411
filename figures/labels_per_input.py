"""Transfer over the labels of an input, and over all labels: it is mostly their number that counts."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

SOFT = "soft targets"


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw accuracy over labels per input and over all labels, with a line for each number of inputs."""
    sizes = results["student.n_inputs"].values
    names = [str(name) for name in results.student.values if name != SOFT]
    labels = np.array([int(name.split()[0]) for name in names])
    colours = plotting.shades(len(sizes))
    drawn, (each, total) = plotting.figure(2, width=9.2, height=4.0, sharey=True)
    for size, colour in zip(sizes, colours, strict=True):
        here = mean_interval(results.accuracy.sel({"student.n_inputs": size}))
        found, soft = here.sel(condition=names), here.sel(condition=SOFT)
        plotting.band(each, labels, found, colour, "-o", f"{size:,} inputs")
        each.axhline(float(soft["mean"]), color=colour, linestyle="--", linewidth=1)
        plotting.band(total, size * labels, found, colour, "-o")
    for axes in (each, total):
        plotting.chance(axes, 0.1)
        axes.set_xscale("log", base=2)
    plotting.tick_all(each, labels)
    each.set_xlabel("labels of an input")
    each.set_ylabel("accuracy")
    each.set_title("dashed: the teacher's probabilities")
    total.legend(*each.get_legend_handles_labels(), fontsize=8, loc="upper left")
    total.set_xlabel("labels in all")
    total.set_title("inputs times labels of each")
    plotting.protocol_caption(
        drawn,
        results,
        mean_interval(results.accuracy),
        "Labels are drawn from the softmax of the auxiliary logits once.",
    )
    return drawn
