"""The data of a run's plots: means and intervals that the static picture of a sweep draws, as JSON for the page."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from subsim.analysis.picture import Picture, all_numbers, averaged, labels, picture, suggested

MOST_PLOTS = 12  # of a run
MOST_POINTS = 2000  # of a plot: a page of many runs stays within some megabytes
MOST_PANELS = 24
MOST_LABELS = 100  # of a plot's axis


class Plot(NamedTuple):
    """One plot: its title, what it shows in a sentence, and the JSON of each of its panels."""

    title: str
    caption: str
    panels: Sequence[str]


def plots(results: xr.Dataset) -> list[Plot]:
    """Return a plot for each variable along its swept option or its numbers, a line for each condition.

    Left out are variables that have neither, and those with too many lines or panels to be drawn.
    """
    found = list[Plot]()
    swept = results.attrs.get("sweep", {})
    for name in averaged(results):
        alone = results[[name]]
        options = suggested(alone)
        if options is None:
            continue
        what = picture(alone, **options)
        if what.x in swept or all_numbers(labels(what.values, what.x)):
            found += _plot(what)
    return found[:MOST_PLOTS]


def _plot(what: Picture) -> list[Plot]:
    """The plot of `what`, with labels of its axis evenly spaced where there are too many; none of too many lines."""
    from subsim.analysis import sweeps  # imports matplotlib

    lines = int(np.prod([what.values.sizes[dim] for dim in (what.lines, what.panels) if dim is not None]))
    size, most = what.values.sizes[what.x], min(MOST_LABELS, MOST_POINTS // lines)
    if most < 2 or (what.panels is not None and what.values.sizes[what.panels] > MOST_PANELS):
        return []
    note = ""
    if size > most:
        note = f" {most} of {size} labels of {what.x}."
        named = what.values.assign_coords({what.x: labels(what.values, what.x)})
        what = what._replace(values=named.isel({what.x: np.linspace(0, size - 1, most).round().astype(int)}))
    summary = sweeps.summary_of(what)
    title = f"{what.values.name} by {sweeps.in_words(what.x)}"
    panels = [None] if what.panels is None else labels(what.values, what.panels)
    shared = _shared(what, summary)
    drawn = []
    for number, label in enumerate(panels):
        here = summary if what.panels is None else summary.isel({what.panels: number})
        panel = "" if label is None else f"{what.panels} = {sweeps.word(label)}"
        drawn.append(_as_json(shared | {"title": panel, "lines": _lines(what, here)}))
    return [Plot(title, sweeps.caption(what, summary, str(what.values.name)) + note, drawn)]


def _shared(what: Picture, summary: xr.Dataset) -> dict[str, Any]:
    """What all panels have in common: the axes."""
    from subsim.analysis import sweeps

    at = labels(what.values, what.x)
    numeric = all_numbers(at)
    logarithmic = sweeps.spans(summary["mean"].values, sweeps.WIDER)
    ends = np.concatenate([summary[name].values.ravel() for name in ("mean", "low", "high")])
    ends = ends[np.isfinite(ends) & ((ends > 0) | (not logarithmic))]
    return {
        "x": sweeps.in_words(what.x),
        "y": sweeps.named(what),
        "by": "" if what.lines is None else sweeps.in_words(what.lines),
        "numeric": numeric,
        "at": [float(value) for value in at] if numeric else list(range(len(at))),
        "words": [sweeps.word(label) for label in at],
        "log_x": numeric and sweeps.spans(np.array(at, float), sweeps.WIDE),
        "log_y": logarithmic,
        "range": [float(ends.min()), float(ends.max())] if ends.size else [],
    }


def _lines(what: Picture, summary: xr.Dataset) -> list[dict[str, Any]]:
    """Every line of one panel: its label, colour and stroke, and mean, interval and n along the axis."""
    from subsim.analysis import sweeps

    names = [None] if what.lines is None else labels(what.values, what.lines)
    lines = []
    for number, (label, (colour, stroke)) in enumerate(zip(names, sweeps.strokes(names, what.lines), strict=True)):
        here = summary if what.lines is None else summary.isel({what.lines: number})
        line = {"label": "" if label is None else sweeps.word(label), "colour": colour, "stroke": stroke[0]}
        n = [int(count) for count in here.n.values]
        lines.append(line | {name: _numbers(here[name].values) for name in ("mean", "low", "high")} | {"n": n})
    return lines


def _numbers(values: np.ndarray) -> list[float | None]:
    """Six significant digits of each value; None where there is none."""
    return [float(f"{value:.6g}") if np.isfinite(value) else None for value in values.tolist()]


def _as_json(panel: dict[str, Any]) -> str:
    return json.dumps(panel, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
