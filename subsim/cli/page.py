"""Make one page of HTML of a folder of results: a summary, and a section for each run."""

import base64
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from subsim.cli.document import document
from subsim.cli.markup import Html, drawn, element, escaped, folded, head, in_words, is_number, named_rows, pairs, wide
from subsim.cli.plots import Plot
from subsim.cli.terminal import keys_of
from subsim.engine.study import Table
from subsim.options import SMALLEST

MOST_VALUES, MOST_ROWS, MOST_COLUMNS = 20, 6, 6  # of a run in the summary
OPEN_PLOTS = 2  # of a run; the others are folded


class Entry(NamedTuple):
    """One run on the page: its folder, the attributes of its store, its seeds in words, tables, plots and figure.

    `usual` holds the study's default options at `size`; None where the study cannot be loaded. `own` holds the options
    that the study sets itself. `still` says that the first plot shows the same as the figure. `notes` says what is
    missing, and why. `command` is None where no command of this version makes the run.
    """

    folder: str
    attributes: Mapping[str, Any]
    seeds: str
    tables: Sequence[Table]
    options: Mapping[str, Any]
    usual: Mapping[str, Any] | None = None
    size: str = ""
    figure: bytes | None = None
    still: bool = False
    plots: Sequence[Plot] = ()
    command: str | None = None
    own: Mapping[str, str] = MappingProxyType({})
    notes: Sequence[str] = ()


def page(place: str, entries: Sequence[Entry], passed_over: Sequence[str] = ()) -> str:
    """Return the page of the runs in the folder `place`, with the reasons why others are left out. Deterministic."""
    title = f"subsim: {len(entries)} {'run' if len(entries) == 1 else 'runs'} in {place}"
    lead = "Intervals are at 95%, over n seeds; values that are not finite are dropped, and counted."
    body = [element("h1", title), element("p", lead, class_="quiet"), summary(entries)]
    body += [element("p", f"Not on this page: {reason}", class_="quiet") for reason in passed_over]
    body.append(element("main", *(section(entry, f"run-{number}") for number, entry in enumerate(entries, 1))))
    return document(title, Html("".join(body)), plots=any(entry.plots for entry in entries))


def summary(entries: Sequence[Entry]) -> Html:
    """Return the summary: for each run its study, question, seeds, data, day and the first numbers of its table."""
    columns = ("study", "seeds", "data", "headline", "run")
    rows = []
    for number, entry in enumerate(entries, 1):
        link = element("a", heading(entry), href=f"#run-{number}")
        asks = element("p", entry.attributes["title"], class_="quiet")
        cells = (Html(link + asks), entry.seeds, world(entry), headline(entry.tables), when(entry))
        named = (element("td", cell, data_label=column) for column, cell in zip(columns, cells, strict=True))
        rows.append(element("tr", *named))
    whole = element("table", head(columns), element("tbody", *rows), class_="sortable summary")
    return element("nav", wide(whole))


def heading(entry: Entry) -> str:
    """Return the name of a run's study, and its folder where that has another name."""
    study = str(entry.attributes["study"])
    return study if entry.folder.replace("\\", "/").split("/")[-1] == study else f"{study} ({entry.folder})"


def world(entry: Entry) -> str:
    """Return the data of a run, and the size of its study unless it is the smallest."""
    swept, config = entry.attributes["sweep"], entry.attributes["config"]
    data = swept.get("data", config.get("data") if isinstance(config, Mapping) else None)
    words = [] if data is None else [in_words(data)]
    return ", ".join(words + ([f"size {entry.size}"] if entry.size not in ("", SMALLEST) else []))


def when(entry: Entry) -> str:
    """Return the day on which the last run that filled the store began."""
    return max(str(run["created"]) for run in entry.attributes["origins"].values())[:10]


def headline(tables: Sequence[Table]) -> Html:
    """Return evenly spaced rows of a run's first table, one a line: the columns that differ, and the values."""
    if not tables:
        return Html()
    table = tables[0]
    keys, count = keys_of(table), len(table.rows)
    values_each = max(1, min(len(table.columns) - keys - ("95% interval" in table.columns), MOST_COLUMNS))
    most = min(count, MOST_ROWS, max(2, MOST_VALUES // values_each))
    title = table.title if most == count else f"{table.title}; {most} of {count} rows"
    lines = [element("strong", title)]
    for place in range(most):
        row = table.rows[round(place * (count - 1) / max(most - 1, 1))]
        cells = list(zip(table.columns, row, strict=True))
        parts = [element("b", *(_named(*cell) if is_number(cell[1]) else f"{cell[1]} " for cell in cells[:keys]))]
        values = list[list[Any]]()
        for column, cell in cells[keys : keys + MOST_COLUMNS]:
            if column == "95% interval" and values:
                values[-1].append(f" {cell}")
            elif (column, cell) != ("dropped", "0"):
                values.append([_named(column, cell)])
        parts += [element("span", *value) for value in values]
        lines.append(element("div", *parts))
    return Html("".join(lines))


def _named(column: str, cell: str) -> Html:
    """Return a cell after the name of its column in muted colour."""
    return Html(element("i", f"{column} ") + escaped(cell))


def section(entry: Entry, anchor: str) -> Html:
    """Return the section of one run: its figure, plots, tables, options, command, and the versions that made it."""
    parts = [element("h2", heading(entry)), element("p", entry.attributes["title"])]
    parts += [element("p", note, class_="quiet") for note in entry.notes]
    if entry.figure:
        source = "data:image/png;base64," + base64.b64encode(entry.figure).decode()
        words = {"alt": f"Figure of {heading(entry)}: {entry.attributes['title']}"}
        parts.append(element("img", src=source, **words | ({"class_": "still"} if entry.still else {})))
    parts += map(plotted, entry.plots[:OPEN_PLOTS])
    if more := entry.plots[OPEN_PLOTS:]:
        parts.append(
            element("div", folded(f"{len(more)} more plot{'s' * (len(more) > 1)}", *map(plotted, more)), class_="live")
        )
    parts += map(drawn, entry.tables)
    parts.append(element("h3", "How it was run"))
    if entry.command:
        parts.append(element("pre", element("code", entry.command)))
    parts += [pairs([("folder", entry.folder), ("seeds", entry.seeds)]), *options(entry)]
    parts += [element("h3", "What made it"), pairs(origins(entry.attributes))]
    return element("section", *parts, id=anchor)


def plotted(plot: Plot) -> Html:
    """Return the element of a plot, with the data that the script draws."""
    panels = (element("div", data_plot=panel, class_="panel") for panel in plot.panels)
    grid = element("div", *panels, class_="panels" if len(plot.panels) > 1 else "panels one")
    return element(
        "figure", element("h3", plot.title), grid, element("figcaption", plot.caption, class_="quiet"), class_="live"
    )


def options(entry: Entry) -> list[Html]:
    """Return the options that differ from the study's defaults, with these beside them, and all others folded."""
    names = [name for name in dict.fromkeys([*entry.options, *(entry.usual or {})]) if name not in entry.own]
    ours, usual = ({name: in_words(held[name]) for name in held} for held in (entry.options, entry.usual or {}))
    changed = [name for name in names if entry.usual is not None and ours.get(name) != usual.get(name)]
    parts = []
    if changed:
        rows = ((name, [ours.get(name, "-"), usual.get(name, "-")]) for name in changed)
        size = f" of size {entry.size}" if entry.size not in ("", SMALLEST) else ""
        parts.append(named_rows(rows, ["differs", "here", f"default{size}"]))
    if entry.own:
        parts.append(named_rows(((name, [words]) for name, words in entry.own.items()), ["of the study itself", ""]))
    rest = [(name, ours[name]) for name in names if name in ours and name not in changed]
    data = {program["data_sha256"] for program in entry.attributes["programs"].values()}
    words = "options" if entry.usual is None else "options at their default"
    return [*parts, folded(f"{len(rest)} {words}", pairs([*rest, ("sha256 of the data", sorted(data))]))]


def origins(attributes: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return versions, device, commit and time of the runs that filled the store, the oldest first."""
    rows = []
    runs = sorted(attributes["origins"].values(), key=lambda run: run["created"])
    for number, run in enumerate(runs):
        versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
        made = [("versions", f"{versions}, Python {run['python']}")]
        made += [("device", f"{run['devices']} x {run['device']}, {run['cores']} CPU cores")]
        made += [(name.replace("_", " "), run[name]) for name in ("xla_flags", "commit", "created") if run[name]]
        rows += [(f"continued: {name}" if number else name, value) for name, value in made]
    return rows
