"""Accuracy along distillation by weight decay, coupled and decoupled, and what is left of the class head."""

import textwrap

import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

OPTIMISERS = {"adam_l2": ("coupled with Adam", plotting.CROSS), "adamw": ("decoupled (AdamW)", plotting.SHARED)}


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw a row for each loss: accuracy along training under both decays, and at the end the class head's effect."""
    decays, losses = results["student.weight_decay"].values, results["student.loss"].values
    along, measured = (
        mean_interval(values.squeeze("student")) for values in (results.accuracy_along, results.measured)
    )
    colours = plotting.shades(len(decays))
    optimisers = {
        name: OPTIMISERS.get(name, (name, plotting.NEUTRAL)) for name in map(str, results["student.optimiser"].values)
    }
    places, names = range(len(decays)), [f"{decay:g}" for decay in decays]
    n = len(optimisers) + results.sizes["measure"]
    drawn, panels = plotting.figure(n, rows=len(losses), width=2.8 * n, height=2.9 * len(losses) + 0.6, squeeze=False)
    for row, loss in zip(panels, losses, strict=True):
        for axes, (optimiser, (words, _)) in zip(row, optimisers.items(), strict=False):
            for shade, decay in zip(colours, decays, strict=True):
                here = {"student.loss": loss, "student.optimiser": optimiser, "student.weight_decay": decay}
                plotting.band(axes, results.step, along.sel(here), shade, "-", f"decay {decay:g}")
            axes.set(xlabel="step of the student", ylim=(0, 1), title=f"{plotting.LOSSES[str(loss)]},\n{words}")
            plotting.chance(axes, 0.1)
        for axes, name in zip(row[len(optimisers) :], results.measure.values, strict=True):
            for optimiser, (words, colour) in optimisers.items():
                one = measured.sel({"student.loss": loss, "student.optimiser": optimiser, "measure": name})
                plotting.band(axes, places, one, colour, "-o", words)
            axes.set_xticks(places, names)
            axes.set(xlabel="weight decay", ylim=(0, 1.05), title=textwrap.fill(str(name), 26))
        row[0].set_ylabel("accuracy of student (aux. only)")
    panels[0, 0].legend(fontsize=8)
    panels[0, len(optimisers)].legend(fontsize=8)
    plotting.protocol_caption(drawn, results, along, "Last column and the one before: after the last step.")
    return drawn
