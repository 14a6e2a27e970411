"""Elements of HTML whose every text is escaped."""

import html
from collections.abc import Iterable, Mapping
from typing import Any

from subsim.engine.study import Table

_VOID = ("img",)  # elements without an end
_INLINE = ("a", "b", "i", "code", "span")  # space after them would be seen


class Html(str):
    """Text that is HTML already."""


def element(name: str, *content: Any, **attributes: str) -> Html:
    """The element `name`, its attributes (`class_` is class, `data_plot` is data-plot) and all content that is not
    `Html` escaped."""
    words = "".join(f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"' for key, value in attributes.items())
    inside = "".join(map(escaped, content))
    end = "" if name in _INLINE else "\n"
    return Html(f"<{name}{words}>" if name in _VOID else f"<{name}{words}>{inside}</{name}>{end}")


def escaped(content: Any) -> Html:
    """The content as HTML; what is `Html` already stays as it is."""
    return content if isinstance(content, Html) else Html(html.escape(str(content)))


def wide(table: Html) -> Html:
    """A table in a box that scrolls, by touch, wheel or keys."""
    return element("div", table, class_="wide", tabindex="0")


def drawn(table: Table) -> Html:
    """A study's table; its headings sort it."""
    body = element("tbody", *(element("tr", *(element("td", cell) for cell in row)) for row in table.rows))
    whole = element(
        "table", element("caption", element("span", table.title)), head(table.columns), body, class_="sortable"
    )
    return wide(whole)


def head(columns: Iterable[str]) -> Html:
    """The headings of a table."""
    return element("thead", element("tr", *(element("th", column, scope="col") for column in columns)))


def pairs(rows: Iterable[tuple[str, Any]]) -> Html:
    """A table of names and values."""
    return named_rows((name, [in_words(value)]) for name, value in rows)


def named_rows(rows: Iterable[tuple[str, Iterable[str]]], columns: Iterable[str] = ()) -> Html:
    """A table whose first column names the row."""
    lines = [
        element("tr", element("th", name, scope="row"), *(element("td", cell) for cell in cells))
        for name, cells in rows
    ]
    columns = list(columns)
    parts = [head(columns)] if columns else []
    return wide(element("table", *parts, element("tbody", *lines), class_="words"))


def folded(summary: str, *content: Html) -> Html:
    """Content that a click on the `summary` unfolds."""
    return element("details", element("summary", summary), *content)


def is_number(cell: str) -> bool:
    """Whether a cell is a number and nothing else."""
    try:
        return float(cell.replace(",", "")) is not None
    except ValueError:
        return False


def in_words(value: Any) -> str:
    """A value of JSON as a reader writes it."""
    if isinstance(value, list | tuple):
        return ", ".join("-".join(map(str, item)) if isinstance(item, list) else str(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {in_words(item)}" for name, item in value.items()) or "none"
    return "none" if value is None else str(value)
