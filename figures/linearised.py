"""Over width: the student against the linearised one, what either recovers of d_T, and what it transfers."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from subsim import plotting
from subsim.engine.summary import mean_interval

TEACHERS = {"momentum": ("momentum", plotting.SHARED), "adam": ("Adam", plotting.CROSS)}
# Filled: what was trained. Open: the same, linearised.
NETWORKS = {
    "teacher": ("teacher", "s", "-", True),
    "student": ("student", "o", "-", True),
    "linearised student": ("linearised student", "o", "--", False),
    "limit": ("where that ends", "^", ":", False),
    "projection": (r"$P d_T$: linearised teacher", "v", ":", False),
}


def over_width(
    axes: Axes, values: xr.DataArray, colour: str, marker: str, line: str, filled: bool, label: str = ""
) -> None:
    """Mean over the seeds with its interval, for each width."""
    summary = mean_interval(values)
    below, above = summary["mean"] - summary.low, summary.high - summary["mean"]
    axes.errorbar(
        values.widths, summary["mean"], yerr=[below, above], color=colour, marker=marker, linestyle=line, markersize=5,
        markerfacecolor=colour if filled else "white", capsize=2, linewidth=1.2, label=label,
    )  # fmt: skip


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Mean and 95% interval at every width, for the teacher trained with momentum and the one trained with Adam."""
    config, hyper = results.attrs["config"], results.attrs["hyper"]
    if "widths" not in results.dims:
        results = results.expand_dims(widths=["-".join(map(str, config["widths"]))])
    depth = len(str(results.widths.values[0]).split("-"))
    results = results.assign_coords(widths=[int(str(label).split("-")[-1]) for label in results.widths.values])
    drawn, (left, middle, right) = plotting.figure(3, width=11.0, height=4.2)
    for teacher, (name, colour) in TEACHERS.items():
        here = results.sel(teacher=teacher)
        over_width(left, here.gap, colour, "o", "-", True, label=f"teacher by {name}")
        for panel, variable, shown in (
            (middle, "recovered", ("student", "linearised student", "limit", "projection")),
            (right, "accuracy", ("teacher", "student", "linearised student", "limit")),
        ):
            for network in shown:
                over_width(panel, here[variable].sel(network=network), colour, *NETWORKS[network][1:])
    left.set_yscale("log")
    left.set_title("Student from linearised student")
    left.set_ylabel(r"$|d_S - d_{lin}|\,/\,|d_{lin}|$")
    middle.set_title("Recovered of the teacher's displacement")
    middle.set_ylabel(r"$d \cdot d_T\,/\,|d_T|^2$")
    right.set_title("Accuracy")
    right.set_ylim(0, 1)
    right.axhline(0.1, color=plotting.NEUTRAL, linestyle=":", linewidth=1)
    for network, (label, marker, line, filled) in NETWORKS.items():
        middle.plot([], [], color=plotting.NEUTRAL, marker=marker, linestyle=line, label=label,
                    markerfacecolor=plotting.NEUTRAL if filled else "white")  # fmt: skip
    left.legend(fontsize=8)
    middle.legend(fontsize=8)
    for axes in (left, middle, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(results.widths.values)
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.set_xlabel(f"width of {depth} hidden layers")
    plotting.caption(
        drawn,
        f"{config['data']}. Mean over n = {results.sizes['seed']} seeds with Student t 95% interval. MLP, {config['init']} init, {config['n_aux']} auxiliary logits, imitated on "
        f"{config['n_inputs']} images of uniform noise:\nsquared error, all images in every one of {config['student_steps']} steps of "
        f"{hyper['student_rate']:g} of the largest stable one, momentum {hyper['momentum']:g}. The teachers take "
        f"{config['teacher_steps']} steps.",
    )
    return drawn
