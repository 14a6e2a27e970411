"""A folder of results as one page of HTML that needs nothing else: figures inside, no script, no link to elsewhere."""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from string import Template
from typing import Any, NamedTuple

from subsim.engine.identity import flat
from subsim.engine.study import Table

DOCUMENT = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>$title</title>
<style>
:root { color-scheme: light dark;
  --ink: #1b1b1b; --paper: #ffffff; --quiet: #5c5c5c; --line: #d4d4d4; --wash: #f4f4f4; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e4e4; --paper: #16181b; --quiet: #a0a0a0; --line: #3b3f45; --wash: #22262b; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.5 system-ui, sans-serif; }
h1, h2, h3 { line-height: 1.25; }
h2 { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); }
a { color: inherit; }
.quiet { color: var(--quiet); }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem; }
th, td { padding: .2rem .9rem .2rem 0; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child, .words th, .words td { text-align: left; }
.words td { white-space: normal; overflow-wrap: anywhere; }
pre { padding: .8rem; background: var(--wash); white-space: pre-wrap; overflow-wrap: anywhere; }
img { display: block; max-width: 100%; height: auto; background: #ffffff; }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; }
  .wide { overflow: visible; }
  th, td { white-space: normal; }
  img, tr, pre { break-inside: avoid; }
  h2, h3, caption { break-after: avoid; }
}
</style>
</head>
<body>
$body
</body>
</html>
""")
_VOID = ("img",)  # elements without an end


class Entry(NamedTuple):
    """One run on the page: its folder, its store's attributes, seeds in words, and what is shown of it.

    `notes` say what is not shown, and why; `command` is None where none of today's makes the run.
    """

    folder: str
    attributes: Mapping[str, Any]
    seeds: str
    tables: Sequence[Table]
    figure: bytes | None = None
    command: str | None = None
    notes: Sequence[str] = ()


class Html(str):
    """Text that is HTML already."""


def element(name: str, *content: Any, **attributes: str) -> Html:
    """The element `name`, its attributes (`class_` is class) and all content that is not `Html` escaped."""
    words = "".join(f' {key.rstrip("_")}="{html.escape(value)}"' for key, value in attributes.items())
    inside = "".join(part if isinstance(part, Html) else html.escape(str(part)) for part in content)
    return Html(f"<{name}{words}>" if name in _VOID else f"<{name}{words}>{inside}</{name}>\n")


def page(place: str, entries: Sequence[Entry], passed_over: Sequence[str] = ()) -> str:
    """The page of the runs in the folder `place`, and the reasons why others are not on it; the same for the same."""
    title = f"subsim: {len(entries)} {'run' if len(entries) == 1 else 'runs'} in {place}"
    links = [
        element("li", element("a", heading(entry), href=f"#run-{number}"), ": ", entry.attributes["title"])
        for number, entry in enumerate(entries, 1)
    ]
    lead = "Intervals are at 95%, over n seeds; values that are not finite are dropped, and counted."
    body = [element("h1", title), element("p", lead, class_="quiet"), element("nav", element("ul", *links))]
    body += [element("p", f"Not on this page: {reason}", class_="quiet") for reason in passed_over]
    body.append(element("main", *(section(entry, f"run-{number}") for number, entry in enumerate(entries, 1))))
    return DOCUMENT.substitute(title=html.escape(title), body="".join(body))


def heading(entry: Entry) -> str:
    """The name of a run's study, and the folder where that does not say it."""
    study = str(entry.attributes["study"])
    return study if entry.folder.replace("\\", "/").split("/")[-1] == study else f"{study} ({entry.folder})"


def section(entry: Entry, anchor: str) -> Html:
    """One run: its figure and tables, how it was run, and what made it."""
    parts = [element("h2", heading(entry)), element("p", entry.attributes["title"])]
    parts += [element("p", note, class_="quiet") for note in entry.notes]
    if entry.figure:
        source = "data:image/png;base64," + base64.b64encode(entry.figure).decode()
        parts.append(element("img", src=source, alt=f"Figure of {heading(entry)}: {entry.attributes['title']}"))
    parts += map(drawn, entry.tables)
    parts.append(element("h3", "How it was run"))
    if entry.command:
        parts.append(element("pre", element("code", entry.command)))
    parts.append(pairs(settings(entry)))
    parts += [element("h3", "What made it"), pairs(origins(entry.attributes))]
    return element("section", *parts, id=anchor)


def drawn(table: Table) -> Html:
    """A study's table."""
    head = element("thead", element("tr", *(element("th", column, scope="col") for column in table.columns)))
    rows = (element("tr", *(element("td", cell) for cell in row)) for row in table.rows)
    whole = element("table", element("caption", table.title), head, element("tbody", *rows))
    return element("div", whole, class_="wide")


def pairs(rows: Iterable[tuple[str, Any]]) -> Html:
    """A table of names and values."""
    lines = (element("tr", element("th", name, scope="row"), element("td", in_words(value))) for name, value in rows)
    return element("div", element("table", element("tbody", *lines), class_="words"), class_="wide")


def settings(entry: Entry) -> list[tuple[str, Any]]:
    """All that the values of a run depend on, each option by its dotted name."""
    attributes = entry.attributes
    rows = [("folder", entry.folder), ("seeds", entry.seeds)]
    rows += [(f"axis {name}", values) for name, values in attributes["sweep"].items()]
    rows += [(name.replace("_", " "), attributes[name]) for name in ("root_seed", "precision")]
    for part in ("config", "hyper"):
        rows += flat(attributes[part] or {}).items()
    data = {program["data_sha256"] for program in attributes["programs"].values()}
    return [*rows, ("sha256 of the data", sorted(data))]


def origins(attributes: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Versions, device, commit and time of the runs that filled the store, the first one first."""
    rows = []
    runs = sorted(attributes["origins"].values(), key=lambda run: run["created"])
    for number, run in enumerate(runs):
        versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
        made = [("versions", f"{versions}, Python {run['python']}")]
        made += [("device", f"{run['devices']} x {run['device']}, {run['cores']} CPU cores")]
        made += [(name.replace("_", " "), run[name]) for name in ("xla_flags", "commit", "created") if run[name]]
        rows += [(f"continued: {name}" if number else name, value) for name, value in made]
    return rows


def in_words(value: Any) -> str:
    """A value of JSON as a reader writes it."""
    if isinstance(value, list | tuple):
        return ", ".join("-".join(map(str, item)) if isinstance(item, list) else str(item) for item in value)
    return "none" if value is None else str(value)
