"""Accuracy against how far, and in which layers, a student's init is its teacher's."""

import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

COLOURS = {"kl": plotting.SHARED, "mse": plotting.OTHER}
KINDS = {
    "rotated": ("init rotated", "angle to the teacher's init / rad"),
    "perturbed": ("init with noise", "noise / standard deviation of the init"),
    "scaled": ("init scaled", "student's init / teacher's init"),
}


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw rotation, perturbation, scale and shared layers, in a panel each."""
    summary = mean_interval(results.accuracy)
    names = [str(name) for name in results.condition.values]
    drawn, panels = plotting.mosaic([[*KINDS], ["layers"] * len(KINDS)], width=9.5, height=6.6)
    last = panels["layers"]
    for kind, (title, label) in KINDS.items():
        axes = panels[kind]
        places = {float(name.split()[1]): name for name in names if name.startswith(kind)}
        places[1.0 if kind == "scaled" else 0.0] = "shared"
        if kind == "rotated":
            places[1.5708] = "independent"
        at = sorted(places)
        for loss in results["student.loss"].values:
            here = summary.sel({"student.loss": loss, "condition": [places[x] for x in at]})
            plotting.band(axes, at, here, COLOURS[str(loss)], "-o", plotting.LOSSES[str(loss)])
        axes.set(xlabel=label, ylim=(0, 1), title=title)
        plotting.chance(axes, 0.1)
    panels["rotated"].set_ylabel("accuracy of student (aux. only)")
    title = "Accuracy by how far, and in which layers, a student's init is its teacher's"
    plotting.legend_above(drawn, panels["rotated"], title)
    layers = ["shared", *[name for name in names if "hidden" in name or "head" in name], "independent"]
    for shift, loss in zip((-0.13, 0.13), results["student.loss"].values, strict=False):
        here = summary.sel({"student.loss": loss, "condition": layers})
        plotting.rows(last, here, "condition", COLOURS[str(loss)], shift)
    words = {"shared": "all", "independent": "none"}
    last.set_yticks(range(len(layers)), [words.get(name, name.replace("_", " ")) for name in layers])
    last.axvline(0.1, color=plotting.NEUTRAL, linestyle=":", linewidth=1, zorder=1)
    last.set(xlim=(0, 1), xlabel="accuracy of student (aux. only)", title="layers that share the teacher's init")
    plotting.protocol_caption(drawn, results, summary)
    return drawn
