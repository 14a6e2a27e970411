"""The figure style, and the drawing functions of all figures."""

import contextlib
import functools
import io
import logging
import textwrap
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib
import matplotlib.style
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text

# Okabe and Ito's palette, distinguishable under every common colour blindness. A shared init is blue, an independent
# init vermillion, reference and teacher are grey; everything else has the other colours.
SHARED, CROSS, NEUTRAL, OTHER = "#0072B2", "#D55E00", "#555555", "#009E73"
PURPLE, AMBER, SKY = "#CC79A7", "#E69F00", "#56B4E9"
LOSSES = {"kl": "KL", "mse": "squared error"}
STYLE: Any = {
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "pdf.fonttype": 42,  # text stays text
    "mathtext.fontset": "stix",
}
NARROW = 5.0  # inches; a narrower figure has smaller text
ABOVE = "above"  # the name of a legend that stands above all panels
SMALL: Any = {"font.size": 8, "axes.titlesize": 8}
_CHANGES: ContextVar[Any] = ContextVar("changes to the house style", default={})  # noqa: B039

P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Return `draw` in the house style with its `changed` settings; matplotlib's global settings stay as they are."""

    @functools.wraps(draw)
    def drawn(*arguments: P.args, **options: P.kwargs) -> R:
        with matplotlib.style.context(["default", STYLE]), matplotlib.rc_context(_CHANGES.get()):
            return draw(*arguments, **options)

    return drawn


@contextlib.contextmanager
def changed(settings: Any) -> Iterator[None]:
    """Change these settings of the house style for every figure inside the block."""
    before = _CHANGES.set(settings)
    try:
        yield
    finally:
        _CHANGES.reset(before)


def read_style(path: Path) -> dict[str, Any]:
    """Return the settings in a matplotlib style file; raise `ValueError` with the first line that it refuses."""
    refused: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: refused.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("matplotlib")
    log.addHandler(handler)
    log.propagate, before = False, log.propagate
    try:
        settings: Any = dict(matplotlib.rc_params_from_file(path, use_default_template=False))
    finally:
        log.removeHandler(handler)
        log.propagate = before
    if refused:
        raise ValueError(" ".join(refused[0].strip().split("\n")[0].split()).strip(" .:"))
    return settings


@styled
def fitted(drawn: Figure, width: float | None, *, captioned: bool = True) -> Figure:
    """Return the figure with this width in inches, and without its caption unless it is `captioned`.

    Text does not shrink with the width. Text larger than the style's font size is reduced to it, titles are wrapped,
    and the height changes by the root of the width's factor.
    """
    if width is not None:
        before, height = drawn.get_size_inches()
        drawn.set_size_inches(width, height * (width / before) ** 0.5)
        titles = {axes.get_title(loc) for axes in drawn.axes for loc in ("left", "center", "right")}
        titles.add(drawn.get_suptitle())
        for text in drawn.findobj(Text):
            assert isinstance(text, Text)
            text.set_fontsize(min(text.get_fontsize(), matplotlib.rcParams["font.size"]))
            text.set_wrap(text.get_wrap() or text.get_text() in titles)
        for legend in [legend for legend in drawn.legends if legend.get_gid() == ABOVE]:
            lines = _again(drawn, legend, " ".join(legend.get_title().get_text().split()))
            drawn.set_figheight(drawn.get_figheight() + 0.17 * lines)
    if not captioned and drawn.get_supxlabel():
        drawn.supxlabel("").set_in_layout(False)
    return drawn


class Drawn(Figure):
    """A figure made without pyplot that a notebook can show."""

    def _repr_png_(self) -> bytes:
        return as_png(self)


def figure(
    columns: int = 1, *, rows: int = 1, width: float = 7.0, height: float = 3.6, **options: Any
) -> tuple[Figure, Any]:
    """Return a figure with `rows` x `columns` axes; sizes in inches.

    It is made without pyplot, so that drawing needs no display and leaves no figure open.
    """
    drawn = Drawn(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(drawn)
    return drawn, drawn.subplots(rows, columns, **options)


def mosaic(layout: list[list[str]], *, width: float, height: float, **options: Any) -> tuple[Figure, dict[str, Axes]]:
    """Make a figure with axes by name, each as large as its name's part of `layout`; sizes in inches."""
    drawn = Drawn(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(drawn)
    parts: Any = layout
    return drawn, drawn.subplot_mosaic(parts, **options)


def headline(drawn: Figure, text: str) -> None:
    """Draw a title of the whole figure; it must be true for the results of every run."""
    drawn.suptitle(text, fontsize=11, ha="left", x=0.01)


@styled
def titled(drawn: Figure, claim: str) -> Figure:
    """Return the figure with what its results show as its title, in place of its topic; "" leaves the topic."""
    above = [legend for legend in drawn.legends if legend.get_gid() == ABOVE]
    if claim and above:
        _again(drawn, above[0], claim)
    elif claim:
        headline(drawn, "\n".join(textwrap.wrap(claim, int(11 * drawn.get_figwidth()))))
    return drawn


def legend_above(drawn: Figure, axes: Axes, title: str | None = None) -> None:
    """Draw the legend of `axes` above all panels, where it covers no data; its title is the figure's `headline`."""
    _above(drawn, *axes.get_legend_handles_labels(), title)


def _above(drawn: Figure, handles: list[Any], labels: list[str], title: str | None) -> int:
    """Draw the legend in as many columns as fit into the figure; return its number of lines, title included."""
    width = drawn.get_figwidth()
    each = 0.065 * max(map(len, labels), default=0) + 0.7  # inches, about, of a line with its mark
    columns = max(1, min(len(labels), int(width // each)))
    lines = textwrap.wrap(title or "", int(11 * width))
    size = min(8.5, matplotlib.rcParams["font.size"])
    drawn.legend(
        handles, labels, loc="outside upper left", ncols=columns, fontsize=size,
        title="\n".join(lines) or None, title_fontsize=min(11, size + 2.5), alignment="left", borderpad=0.1,
        columnspacing=1.5,
    ).set_gid(ABOVE)  # fmt: skip
    return len(lines) - (-len(labels) // columns)


def _again(drawn: Figure, legend: Legend, title: str) -> int:
    """Draw a legend above all panels again, with this title, for the figure's width; return its number of lines."""
    labels = [text.get_text() for text in legend.get_texts()]
    legend.remove()
    return _above(drawn, list(legend.legend_handles), labels, title or None)


def scatter_of_seeds(axes: Axes, place: float | int, values: np.ndarray, colour: str) -> None:
    """Draw one dot per seed at height `place`, spread evenly so that equal values stay visible."""
    values = values[np.isfinite(values)]
    spread = 0.26 * (2 * ((np.arange(len(values)) * 0.618034) % 1) - 1)  # golden ratio: even and deterministic
    axes.plot(values, place + spread, "o", color=colour, alpha=0.35, markersize=3, markeredgewidth=0, zorder=2)


def interval(
    axes: Axes, place: float | int, summary: xr.Dataset, colour: str, marker: str = "D", edge: str = "white"
) -> None:
    """Draw mean and interval, a `summary` of `mean_interval`, at height `place`.

    A white edge sets the marker off from dots below it, and hides a short interval.
    """
    low, mean, high = (float(summary[name]) for name in ("low", "mean", "high"))
    axes.errorbar(
        mean, place, xerr=[[mean - low], [high - mean]], fmt=marker, color=colour, markersize=4, capsize=4,
        markeredgecolor=edge, elinewidth=1.6, zorder=3,
    )  # fmt: skip


def rows(
    axes: Axes, summary: xr.Dataset, dim: str, colour: str | Callable[[str], str], shift: float = 0.0, marker: str = "D"
) -> None:
    """Draw mean and interval of every label of `dim`, one below the other, each moved down by `shift` of a row.

    `colour` is one colour, or a function from a label to its colour.
    """
    labels = [str(label) for label in summary[dim].values]
    for place, label in enumerate(labels):
        its_own = colour if isinstance(colour, str) else colour(label)
        interval(axes, place + shift, summary.isel({dim: place}), its_own, marker, edge=its_own)
    axes.set_yticks(range(len(labels)), [label.replace("_", " ") for label in labels])
    axes.set_ylim(len(labels) - 0.5, -0.5)


def error_bars(summary: xr.Dataset, centre: str = "mean") -> np.ndarray:
    """Return the interval about `centre` as error bars, shape (2, n), in NumPy for all versions of matplotlib."""
    return np.stack([np.atleast_1d(part) for part in (summary[centre] - summary.low, summary.high - summary[centre])])


def band(axes: Axes, x: Any, summary: xr.Dataset, colour: str, line: str, label: str | None = None) -> None:
    """Draw the means along `x` as a line and their intervals as a band, from a `summary` of `mean_interval`."""
    axes.plot(x, summary["mean"], line, color=colour, label=label, linewidth=1.3)
    axes.fill_between(x, summary.low, summary.high, color=colour, alpha=0.2, linewidth=0)


def colour_of(condition: str) -> str:
    """Return the colour of a condition by its name: cross-model, student, or reference and teacher."""
    if "cross" in condition or condition == "independent":
        return CROSS
    return NEUTRAL if condition in ("reference", "teacher") else SHARED


def shades(count: int) -> list[str]:
    """Return colours for so many numbers in their order, from dark to bright."""
    return [to_hex(colour) for colour in matplotlib.colormaps["viridis"](np.linspace(0, 0.85, count))]


def chance(axes: Axes, level: float) -> None:
    """Draw a dotted line at the accuracy of guessing."""
    axes.axhline(level, color=NEUTRAL, linestyle=":", linewidth=1, zorder=1)


def tick_all(axes: Axes, values: Any) -> None:
    """Make the x axis logarithmic, with ticks at `values` only."""
    axes.set_xscale("log")
    axes.set_xticks(list(values), [f"{value:g}" for value in values])
    axes.minorticks_off()


def in_words(summary: xr.Dataset) -> str:
    """Return mean and half-width of a `summary` of `mean_interval` as text; without a half-width if there is none."""
    mean, high = float(summary["mean"]), float(summary["high"])
    if int(summary.n) == 0:
        return f"all {int(summary.dropped)} dropped"
    return f"{mean:.4f} ± {high - mean:.4f}" if np.isfinite(high) else f"{mean:.4f}"


def caption(drawn: Figure, text: str) -> None:
    """Write text below the axes: the content, the kind of interval, and n."""
    drawn.supxlabel(text, fontsize=8, color="#333333", ha="left", x=0.01, wrap=True)


def protocol_caption(drawn: Figure, results: xr.Dataset, summary: xr.Dataset, words: str = "") -> None:
    """Write the caption of a study of the protocol: data, intervals, n, the network, its students, and then `words`.

    Options on the run's axes are left out.
    """
    config, swept = results.attrs["config"], results.attrs["sweep"]
    student, fewest, n = config["student"], int(summary.n.min()), int(summary.n.max())
    data = " and ".join(swept.get("data", [config["data"]]))
    shape = "" if "widths" in swept else f"MLP {'-'.join(map(str, config['widths']))}, "
    init = "" if "init" in swept else f"{config['init']} init; "
    loss = "" if "student.loss" in swept else f"loss {LOSSES.get(student['loss'], student['loss'])}; "
    imitated = results.attrs["hyper"]["student"]["n_imitated"] or config["n_aux"]
    m = "" if {"student.n_imitated", "n_aux"} & set(swept) else f"m = {imitated}; "
    batch = "" if "student.batch" in swept else f" in batches of {student['batch']}"
    length = f"{student['steps']} steps" if student["steps"] else f"{student['epochs']} epochs"
    counted = f"{n}" if n == fewest else f"{fewest} to {n}"
    caption(
        drawn,
        f"{data}, {config['evaluate']} set. Means over n = {counted} seeds with Student t 95% intervals; "
        f"{int(summary.dropped.max())} dropped at most.\n{shape}{init}{loss}{m}students make {length}{batch}. " + words,
    )


@styled
def as_png(drawn: Figure) -> bytes:
    """Return the figure as a PNG; its bytes are deterministic."""
    image = io.BytesIO()
    drawn.savefig(image, format="png", metadata={"Software": None})
    return image.getvalue()


@styled
def save(drawn: Figure, folder: Path, name: str) -> list[Path]:
    """Write NAME.png and NAME.pdf into `folder`, with deterministic bytes, and return their paths."""
    paths = [folder / f"{name}.png", folder / f"{name}.pdf"]
    paths[0].write_bytes(as_png(drawn))
    drawn.savefig(paths[1], metadata={"CreationDate": None})
    return paths
