"""Transfer against m, a line for each number of classes: over m, and over m / (K - 1)."""

import xarray as xr
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.summary import mean_interval


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Draw a column for each kind of student: over m with K - 1 marked (above), and over m / (K - 1) (below)."""
    kinds = results.sizes["kind"]
    drawn, panels = plotting.figure(kinds, rows=2, width=3.8 * kinds, height=6.4, sharey=True, squeeze=False)
    m = results["student.n_imitated"].values
    for column, kind in zip(panels.T, results.kind.values, strict=True):
        for classes, colour in zip(results.n_class.values, plotting.shades(results.sizes["n_class"]), strict=True):
            summary = mean_interval(results.share.sel(kind=kind, n_class=classes))
            plotting.band(column[0], m, summary, colour, "-o", f"K = {classes}")
            column[0].axvline(classes - 1, color=colour, linestyle=":", linewidth=1)
            plotting.band(column[1], m / (classes - 1), summary, colour, "-o")
        column[0].set_title(str(kind))
        column[0].set_xlabel("imitated logits, m (dotted: K - 1)")
        column[1].set_xlabel("m / (K - 1)")
        plotting.tick_all(column[0], m)
        column[1].set_xscale("log", base=2)
    for axes in panels[:, 0]:
        axes.set_ylabel("share of the teacher's accuracy")
    panels[0, 0].legend(fontsize=8)
    plotting.protocol_caption(drawn, results, mean_interval(results.share), "Shares are of accuracy beyond chance.")
    return drawn
