"""Over width: the student against the linearised one, what either recovers of d_T, and what it transfers."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, StrMethodFormatter

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

TEACHERS = {"momentum": ("teacher by momentum", plotting.OTHER), "adam": ("teacher by Adam", plotting.SHARED)}
SIDE = 1.06
# Label, marker, line, and whether the marker is filled (trained networks) or open (linearised networks).
NETWORKS = {
    "student": ("student", "o", "-", True),
    "linearised student": ("linearised student", "o", "--", False),
    "limit": ("where that ends", "^", ":", False),
    "projection": (r"$P\,d_T$", "v", ":", False),
}


def over_width(axes: Axes, values: xr.DataArray, colour: str, network: str = "student") -> None:
    """Draw the mean over seeds with its interval, for each width."""
    _, marker, line, filled = NETWORKS[network]
    summary = mean_interval(values)
    ends = plotting.error_bars(summary)
    aside = SIDE if colour == plotting.SHARED else 1 / SIDE  # so that intervals do not hide each other
    axes.errorbar(
        values.widths * aside, summary["mean"], yerr=ends, color=colour, marker=marker, linestyle=line, markersize=5,
        markerfacecolor=colour if filled else "white", capsize=2, linewidth=1.2,
    )  # fmt: skip


def by_displacement(axes: Axes, here: xr.Dataset, colour: str, label: str) -> None:
    """Draw the distance from the linearised student over the teacher's displacement: seeds, and means by width."""
    axes.plot(here.displaced.values.ravel(), here.gap.values.ravel(), "o", color=colour, alpha=0.35, markersize=3,
              markeredgewidth=0)  # fmt: skip
    x, y = mean_interval(here.displaced), mean_interval(here.gap)
    axes.errorbar(
        x["mean"], y["mean"], yerr=plotting.error_bars(y),
        xerr=plotting.error_bars(x), fmt="D", color=colour, markersize=5, capsize=2, label=label, zorder=4,
        markeredgecolor="white",
    )  # fmt: skip
    above = 6 if colour == plotting.SHARED else -14
    for end in (0, -1):  # the narrowest and the widest; the others lie between them in order
        place = float(x["mean"][end]), float(y["mean"][end])
        axes.annotate(
            f"{here.widths.values[end]}",
            place,
            (4, above),
            textcoords="offset points",
            fontsize=9,
            zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
        )


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw mean and 95% interval at every width, for teachers trained with momentum and with Adam."""
    config, hyper = results.attrs["config"], results.attrs["hyper"]
    layers = [str(label).split("-") for label in results.widths.values]
    results = results.assign_coords(widths=[int(widths[-1]) for widths in layers])
    drawn, panels = plotting.figure(2, rows=2, width=9.4, height=7.8)
    apart, recovered, accuracy, excess = panels.ravel()
    for teacher, (name, colour) in TEACHERS.items():
        here = results.sel(teacher=teacher)
        by_displacement(apart, here, colour, name)
        over_width(excess, here.accuracy_excess, colour)
        for network in NETWORKS:
            over_width(recovered, here.recovered.sel(network=network), colour, network)
        for network in ("student", "linearised student"):
            over_width(accuracy, here.accuracy.sel(network=network), colour, network)
    for label, marker, line, filled in NETWORKS.values():
        recovered.plot([], [], color=plotting.NEUTRAL, marker=marker, linestyle=line, label=label,
                       markerfacecolor=plotting.NEUTRAL if filled else "white")  # fmt: skip
    ends = np.array([float(results.displaced.min()), float(results.displaced.max())])
    apart.plot(ends, np.sqrt(ends), color=plotting.NEUTRAL, linewidth=1, zorder=1, label="square root")
    apart.set_title("Distance from linearised student")
    apart.set_xlabel(r"teacher's displacement  $|d_T|\,/\,|\theta_0|$")
    apart.set_ylabel(r"$|d_S - d_{lin}|\,/\,|d_{lin}|$")
    apart.set_xscale("log")
    apart.set_yscale("log")
    for axis in (apart.xaxis, apart.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_locator(LogLocator(subs=(2, 5)))
        axis.set_minor_formatter(StrMethodFormatter("{x:g}"))
    recovered.set_title("Share of displacement recovered")
    recovered.set_ylabel(r"$d \cdot d_T\,/\,|d_T|^2$")
    recovered.set_ylim(0, 1)
    accuracy.set_title("Accuracy")
    accuracy.set_ylim(0, None)
    accuracy.axhline(0.1, color=plotting.NEUTRAL, linestyle=":", linewidth=1)  # level of chance
    excess.set_title("Accuracy, student less linearised")
    excess.axhline(0, color=plotting.NEUTRAL, linestyle=":", linewidth=1)
    apart.legend(fontsize=8)
    recovered.legend(fontsize=8)
    for axes in (recovered, accuracy, excess):
        axes.set_xscale("log", base=2)
        axes.set_xticks(results.widths.values)
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.set_xlabel(f"width, {len(layers[0])} hidden layers")
    summary = mean_interval(results.gap)
    plotting.caption(
        drawn,
        f"{config['data']}; MLP, {config['init']} init. Markers: mean over n = {int(summary.n.min())} seeds "
        f"({int(summary.dropped.max())} dropped) with Student t 95% interval, differences seed by seed; in the "
        "first panel dots are seeds and numbers widths.\n"
        f"Students imitate {config['n_aux']} auxiliary logits by squared error on {config['n_inputs']} images of "
        f"uniform noise, {config['student_steps']} full-batch steps of {hyper['student_share']:g} of the largest "
        f"stable one with momentum {hyper['momentum']:g}; teachers take {config['teacher_steps']} steps.\n"
        "Where that ends: the least-squares limit for the real teacher's outputs. P: projection onto the span of the "
        "imitated logits' gradients, the limit for a linearised teacher.",
    )
    return drawn
