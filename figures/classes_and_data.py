"""Transfer against the number of classes, on every data set, with m fixed and with m the number of classes."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval

LINES = {"student (aux. only)": "-o", "cross-model (aux. only)": "-^", "teacher": "--s"}


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw accuracy with the level of chance: m fixed above, m = K below, and a column for each data set."""
    classes, sets, most = results.n_class.values, results.data.values, results["student.n_imitated"].values[-1]
    both = np.intersect1d(classes, results["student.n_imitated"].values)
    equal = xr.DataArray(both, dims="n_class", coords={"n_class": both})
    chosen = {f"m = {most}": results.accuracy.sel({"student.n_imitated": most})}
    if len(both) > 0:
        chosen["m = K"] = results.accuracy.sel({"n_class": equal, "student.n_imitated": equal})
    drawn, panels = plotting.figure(
        len(sets), rows=len(chosen), width=3.6 * len(sets), height=2.8 * len(chosen), sharex=True, sharey=True,
        squeeze=False,
    )  # fmt: skip
    for row, (name, accuracy) in enumerate(chosen.items()):
        summary = mean_interval(accuracy)
        for axes, data in zip(panels[row], sets, strict=True):
            for condition, line in LINES.items():
                here = summary.sel(data=data, condition=condition)
                plotting.band(axes, here.n_class, here, plotting.colour_of(condition), line, condition)
            axes.plot(classes, 1 / classes, ":", color=plotting.NEUTRAL, linewidth=1, label="chance")
            axes.set_xticks(classes)
            axes.set_title(f"{data}, {name}")
        panels[row, 0].set_ylabel("accuracy")
    for axes in panels[-1]:
        axes.set_xlabel("classes, K")
    panels[0, 0].set_ylim(0, 1.04)
    drawn.legend(*panels[0, 0].get_legend_handles_labels(), fontsize=8, loc="outside upper left", ncols=4)
    plotting.protocol_caption(drawn, results, mean_interval(results.accuracy))
    return drawn
