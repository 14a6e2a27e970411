"""Accuracy against how far, and in which layers, a student's init is its teacher's."""

import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

LOSSES = {"kl": (plotting.SHARED, "KL"), "mse": (plotting.OTHER, "squared error")}
KINDS = {
    "rotated": "angle to the teacher's init / rad",
    "perturbed": "added noise / std of the init",
    "scaled": "student's scale / teacher's",
}


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw rotation, perturbation, scale and shared layers, in a panel each."""
    summary = mean_interval(results.accuracy)
    names = [str(name) for name in results.condition.values]
    drawn, panels = plotting.figure(4, width=13.0, height=3.6, width_ratios=[1, 1, 1, 1.7])
    for axes, (kind, label) in zip(panels[:3], KINDS.items(), strict=True):
        places = {float(name.split()[1]): name for name in names if name.startswith(kind)}
        places[1.0 if kind == "scaled" else 0.0] = "shared"
        if kind == "rotated":
            places[1.5708] = "independent"
        at = sorted(places)
        for loss in results["student.loss"].values:
            here = summary.sel({"student.loss": loss, "condition": [places[x] for x in at]})
            plotting.band(axes, at, here, LOSSES[str(loss)][0], "-o", LOSSES[str(loss)][1])
        axes.set_xlabel(label)
        axes.set_ylim(0, 1)
        plotting.chance(axes, 0.1)
    panels[0].set_ylabel("accuracy of student (aux. only)")
    panels[0].legend(fontsize=8)
    layers = ["shared", *[name for name in names if "hidden" in name or "head" in name], "independent"]
    for shift, loss in zip((-0.13, 0.13), results["student.loss"].values, strict=False):
        here = summary.sel({"student.loss": loss, "condition": layers})
        plotting.rows(panels[3], here, "condition", LOSSES[str(loss)][0], shift)
    panels[3].set_xlim(0, 1)
    panels[3].axvline(0.1, color=plotting.NEUTRAL, linestyle=":", linewidth=1)
    panels[3].set_xlabel("accuracy")
    panels[3].set_title("layers that share the teacher's init")
    plotting.protocol_caption(drawn, results, summary)
    return drawn
