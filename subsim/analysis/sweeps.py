"""Draw a picture of any sweep: the mean of a variable against one dimension, lines and panels by two others."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from subsim.analysis import plotting
from subsim.analysis.picture import CONDITIONS, Picture, all_numbers, labels
from subsim.analysis.summary import mean_interval

PALETTE = (
    plotting.SHARED, plotting.CROSS, plotting.OTHER, plotting.PURPLE, plotting.AMBER, plotting.SKY, plotting.NEUTRAL,
)  # fmt: skip
STROKES = (("-", "o"), ("--", "s"), (":", "^"), ("-.", "D"))  # lines, and marks where there are no lines
WIDE = 8  # a horizontal axis whose values span more than this factor is logarithmic
WIDER = 1000  # the same for a vertical axis
MOST_TICKS = 8


@plotting.styled
def draw(what: Picture, title: str, width: float | None = None) -> Figure:
    """Draw the mean and its Student t 95% interval.

    The caption begins with `title`. `width`, in inches, decides the number of panels in a row.
    """
    panels = [None] if what.panels is None else labels(what.values, what.panels)
    drawn, grid = _panels(len(panels), width)
    columns, width = grid.shape[1], drawn.get_figwidth()
    summary = summary_of(what)
    for number, (axes, label) in enumerate(zip(grid.flat, panels, strict=False)):
        here = summary if what.panels is None else summary.isel({what.panels: number})
        _draw_panel(axes, here, what, width / columns)
        if what.panels is not None:
            axes.set_title(f"{what.panels} = {word(label)}")
        if number + columns >= len(panels):  # nothing is below it
            axes.set_xlabel(in_words(what.x))
            axes.tick_params(labelbottom=True)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    if spans(summary["mean"].values, WIDER):
        grid[0, 0].set_yscale("log")
    for axes in grid[:, 0]:
        axes.set_ylabel(textwrap.fill(named(what), 24))
    if what.lines is not None:
        beside: dict[str, Any] = {"loc": "outside right upper"}
        above: dict[str, Any] = {"loc": "outside upper left", "ncols": 2}
        where = beside if width > plotting.NARROW else above
        handles, names = grid[0, 0].get_legend_handles_labels()
        drawn.legend(handles, names, title=in_words(what.lines), alignment="left", fontsize="small", **where)
    plotting.caption(drawn, caption(what, summary, title))
    return drawn


def summary_of(what: Picture) -> xr.Dataset:
    """Return the `mean_interval` of what is drawn, over its axis, lines and panels."""
    return mean_interval(what.values.squeeze(list(what.single), drop=True))


def spans(values: np.ndarray, factor: int) -> bool:
    """Whether all finite `values` are positive and span more than this factor, so that their axis is logarithmic."""
    finite = values[np.isfinite(values)]
    return bool(finite.size and finite.min() > 0 and finite.max() / finite.min() > factor)


def named(what: Picture) -> str:
    """Return the name of the drawn variable, and its unit."""
    unit = what.values.attrs.get("units", "1")
    return in_words(str(what.values.name)) + ("" if unit == "1" else f" [{unit}]")


def _panels(count: int, width: float | None) -> tuple[Figure, Any]:
    """Return a figure of this width with axes for `count` panels, at most three in a row."""
    columns = min(count, 3 if width is None else max(1, min(3, int(width // 2.4))))
    if width is None:
        width = 7.0 if columns == 1 else 1.6 + 2.7 * columns
    rows = -(-count // columns)
    height = 0.7 + rows * (3.0 if columns == 1 and width > plotting.NARROW else 2.4)
    return plotting.figure(columns, rows=rows, width=width, height=height, sharex=True, sharey=True, squeeze=False)


def _draw_panel(axes: Axes, summary: xr.Dataset, what: Picture, width: float) -> None:
    """Draw every line of one panel, which is about `width` inches wide."""
    at = labels(what.values, what.x)
    names = [None] if what.lines is None else labels(what.values, what.lines)
    numeric = all_numbers(at)
    for number, (label, (colour, stroke)) in enumerate(zip(names, strokes(names, what.lines), strict=True)):
        here = summary if what.lines is None else summary.isel({what.lines: number})
        text = None if label is None else word(label)
        if numeric:
            plotting.band(axes, at, here, colour, stroke[0], text)
            axes.plot(at, here["mean"], "o", color=colour, markersize=3)
            continue
        shift = 0.6 * ((number + 0.5) / len(names) - 0.5)
        mean = here["mean"].values
        axes.errorbar(
            np.arange(len(at)) + shift, mean, yerr=[mean - here.low.values, here.high.values - mean], fmt=stroke[1],
            color=colour, label=text, markersize=4, capsize=2, elinewidth=1.3,
        )  # fmt: skip
    if numeric:
        _tick(axes, np.array(at, float))
        return
    words = [word(label) for label in at]
    # An inch has room for about a dozen letters, or fifteen small ones.
    room = int(15 * width * 0.7 / len(at))
    wrapped = [textwrap.fill(word, max(room, 6), break_long_words=False, break_on_hyphens=False) for word in words]
    fits = max(len(line) for word in wrapped for line in word.splitlines()) <= max(room, 3)
    rotated: dict[str, Any] = {} if fits else {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xlim(-0.5, len(at) - 0.5)
    axes.set_xticks(range(len(at)), wrapped if fits else words, fontsize="small", **rotated)


def _tick(axes: Axes, at: np.ndarray) -> None:
    """Set the ticks of a horizontal axis of numbers: logarithmic for a wide range, one per number if there is room."""
    logarithmic = spans(at, WIDE)
    if logarithmic:
        axes.set_xscale("log")
    places = np.sort(np.log(at) if logarithmic else at)
    gaps = np.diff(places) / max(np.ptp(places), 1e-300)
    if len(at) <= MOST_TICKS and (gaps > 0.08).all():
        axes.set_xticks(at, [f"{value:g}" for value in at])
        axes.minorticks_off()


def strokes(names: Sequence[Any], dim: str | None) -> list[tuple[str, tuple[str, str]]]:
    """Return colour and stroke of each line: numbers from dark to bright, conditions by their init, others in turn."""
    if len(names) > 1 and all_numbers(names):
        return [(shade, STROKES[0]) for shade in plotting.shades(len(names))]
    colours = [plotting.colour_of(str(name)) for name in names]
    if dim not in CONDITIONS or max(map(colours.count, colours)) > len(STROKES):
        return [(PALETTE[n % len(PALETTE)], STROKES[n // len(PALETTE) % len(STROKES)]) for n in range(len(names))]
    return [(colour, STROKES[colours[:n].count(colour)]) for n, colour in enumerate(colours)]


def word(label: Any) -> str:
    """A label as it is printed."""
    return f"{label:g}" if isinstance(label, float) else str(label)


def in_words(name: str) -> str:
    """A name without its underscores."""
    return name.replace("_", " ")


def caption(what: Picture, summary: xr.Dataset, title: str) -> str:
    """Say what is drawn, over how many seeds, and at which labels of the dimensions that have one."""
    fewest, n, dropped = int(summary.n.min()), int(summary.n.max()), int(summary.dropped.max())
    counted = f"{n}" if n == fewest else f"{fewest} to {n}"
    lost = f", up to {dropped} dropped" if dropped else ""
    described = f"{title}: {what.values.attrs.get('description', what.values.name)}."
    fixed = f" {', '.join(f'{in_words(dim)} = {label}' for dim, label in what.single.items())}." if what.single else ""
    return f"{described} Mean over n = {counted} seeds{lost}, with its Student t 95% interval.{fixed}"
