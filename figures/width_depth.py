"""Accuracy against width for every depth: after the last step, at matched imitation loss, and linearised."""

import xarray as xr
from matplotlib.figure import Figure

from subsim import plotting
from subsim.engine.summary import matched, mean_interval

LINES = {
    "student": (plotting.SHARED, "-o"),
    "linearised student": (plotting.OTHER, "--s"),
    "cross-model": (plotting.CROSS, ":^"),
}
LEVEL = 4e-3  # nat, the study's


@plotting.styled
def draw(results: xr.Dataset) -> Figure:
    """Above, accuracy after the last step; below, when the imitation loss first fell to a level; a column a depth."""
    shapes = [str(shape) for shape in results.widths.values]
    depths = sorted({shape.count("-") + 1 for shape in shapes})
    last = mean_interval(results.accuracy.sel(condition=list(LINES)).rename(condition="student"))
    equal = mean_interval(matched(results.accuracy_along, results.imitation_loss_along, "moment", LEVEL))
    drawn, panels = plotting.figure(
        len(depths), rows=2, width=3.6 * len(depths), height=5.6, sharex=True, sharey=True, squeeze=False
    )
    for column, depth in enumerate(depths):
        here = [shape for shape in shapes if shape.count("-") + 1 == depth]
        widths = [int(shape.split("-")[0]) for shape in here]
        for row, summary in enumerate((last, equal)):
            axes = panels[row, column]
            for student, (colour, line) in LINES.items():
                plotting.band(axes, widths, summary.sel(widths=here, student=student), colour, line, student)
            plotting.chance(axes, 0.1)
            plotting.tick_all(axes, widths)
        panels[0, column].set_title(f"{depth} hidden layer{'s' if depth > 1 else ''}")
        panels[1, column].set_xlabel("width")
    panels[0, 0].set_ylabel("accuracy, last step")
    panels[1, 0].set_ylabel(f"accuracy at {LEVEL:g} nat")
    panels[0, 0].set_ylim(0, 1)
    panels[0, -1].legend(fontsize=8)
    words = f"Below: where the imitation loss first falls to {LEVEL:g} nat, of the n seeds in which it does."
    plotting.protocol_caption(drawn, results, last, words)
    return drawn
