"""Print lines, tables, and the progress of a run on the terminal."""

import codecs
import contextlib
import io
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD, Box
from rich.console import Console, ConsoleOptions
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.table import Table as RichTable
from rich.text import Text

if TYPE_CHECKING:
    from subsim.engine.study import Table

NARROW, GAP = 80, 2  # columns of a screen, and between two columns of a table
PERIOD = 30.0  # seconds between two lines of progress if the output is not a terminal
# Declared as ASCII, so that rich does not replace it: our error handler substitutes lines that a stream lacks.
_HEAD = Box(str(SIMPLE_HEAD), ascii=True)
# In addition to Unicode's decompositions.
_SUBSTITUTES = {
    "±": "+-", "·": ".", "•": "*", "×": "x", "−": "-", "–": "-", "—": "-", "‘": "'", "’": "'", "“": '"', "”": '"',  # noqa: RUF001
    "≤": "<=", "≥": ">=", "→": "->", "²": "^2", "³": "^3", "µ": "u",
}  # fmt: skip


def survive_any_encoding() -> None:
    """Make stdout and stderr print a readable substitute, or "?", for characters that their encoding lacks."""
    codecs.register_error("subsim.readable", _substituted)
    for stream in (sys.stdout, sys.stderr):
        # Any other treatment of such characters is the user's choice.
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "backslashreplace", "surrogateescape"):
            stream.reconfigure(errors="subsim.readable")


def _substituted(error: UnicodeError) -> tuple[str, int]:
    """Handle an encoding error: return the substitute, and the position to continue from."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_substitute, error.object[error.start : error.end])), error.end


def _substitute(letter: str) -> str:
    """Return a substitute for one character in ASCII."""
    if letter in _SUBSTITUTES:
        return _SUBSTITUTES[letter]
    name = unicodedata.name(letter, "")
    if name.startswith("BOX DRAWINGS"):
        across, down = ({*name.split()} & {*words.split()} for words in ("HORIZONTAL LEFT RIGHT", "VERTICAL UP DOWN"))
        return "+" if across and down else "|" if down else "-"
    plain = unicodedata.normalize("NFKD", letter).replace("\N{FRACTION SLASH}", "/")  # ½ is 1/2, not 12
    return plain.encode("ascii", "ignore").decode() or "?"


def say(text: str) -> None:
    """Print one line without markup or wrapping."""
    Console(highlight=False, soft_wrap=True).print(text, markup=False)


def complain(sentence: str) -> None:
    """Print `sentence` to stderr with the prefix "subsim"; an earlier progress line stays above it."""
    # A file's name may contain any character, even a newline; the sentence stays on one line.
    printable = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in sentence)
    console = Console(stderr=True, soft_wrap=True)
    console.show_cursor()
    console.print(f"subsim: {printable}", markup=False, highlight=False)


def as_drawn(table: "Table") -> RichTable:
    """Return a table without its title, the first column aligned left and all others aligned right."""
    drawn = RichTable(box=_HEAD, collapse_padding=True, pad_edge=False, show_edge=False)
    for number, column in enumerate(_headings(table)):
        drawn.add_column(Text(column), justify="right" if number else "left", no_wrap=True, vertical="bottom")
    for row in table.rows:
        drawn.add_row(*map(Text, row))
    return drawn


def _widths(table: "Table", wrapped: bool) -> list[int]:
    """Return the width of each column of a table, with headings in one line, or `wrapped` except the first."""
    cells = [max(map(len, column), default=0) for column in zip(*table.rows, strict=True)] or [0] * len(table.columns)
    heads = [
        max(map(len, column.split()), default=0) if wrapped and number else len(column)
        for number, column in enumerate(table.columns)
    ]
    return list(map(max, cells, heads))


def _headings(table: "Table") -> list[str]:
    """Return the headings of a table, wrapped if the table would be wider than a screen."""
    if sum(_widths(table, wrapped=False)) + GAP * len(table.columns) <= NARROW:
        return list(table.columns)
    widths = _widths(table, wrapped=True)
    return [
        textwrap.fill(column, width, break_long_words=False, break_on_hyphens=False) if column else column
        for column, width in zip(table.columns, widths, strict=True)
    ]


def narrowed(table: "Table") -> list["Table"]:
    """Split a table into pieces that fit a screen of 80 columns, each with the columns that identify its rows."""
    widths = [width + GAP for width in _widths(table, wrapped=True)]
    if sum(widths) <= NARROW + GAP:
        return [table]
    last, keys = len(table.columns) - 1, keys_of(table)
    pieces, room = list[list[int]](), 0
    for number in range(keys, last + 1):
        if not pieces or widths[number] > room:
            pieces.append(list(range(keys)))
            room = NARROW + GAP - sum(widths[:keys])
        pieces[-1].append(number)
        room -= widths[number]
    return [
        table._replace(
            columns=tuple(table.columns[number] for number in piece),
            rows=tuple(tuple(row[number] for number in piece) for row in table.rows),
        )
        for piece in pieces
    ]


def keys_of(table: "Table") -> int:
    """How many of a table's first columns tell its rows apart."""
    count, last = len(table.rows), len(table.columns) - 1
    return next((n for n in range(1, last) if len({row[:n] for row in table.rows}) == count), 1)


def lines_of(table: "Table") -> int:
    """Return the number of lines that `print_table` prints for a table on a screen of 80 columns."""
    head = max(heading.count("\n") + 1 for heading in _headings(table))
    return -(-len(table.title) // NARROW) + head + len(table.rows) + 2


def print_catalogue(rows: Sequence[tuple[str, str, str, str]]) -> None:
    """Print name, sentences, cost and results of every study, sentences wrapped, in at most 100 columns."""
    drawn = RichTable(box=_HEAD, pad_edge=False, show_edge=False)
    for column in ("study", "question and finding", "cost", "results"):
        drawn.add_column(column, no_wrap=column == "study", max_width=24 if column == "cost" else None)
    for row in rows:
        drawn.add_row(*map(Text, row))
    width = min(100, Console().width) if sys.stdout.isatty() else 100
    Console(width=width).print(drawn)


def print_table(table: "Table") -> None:
    """Print one table at its full width: a narrower terminal breaks its lines, but hides no number."""
    console, drawn = Console(highlight=False), as_drawn(table)
    console.print(Text(table.title, style="italic"))
    needed = console.measure(drawn, options=console.options.update(max_width=1000)).maximum
    Console(width=needed).print(drawn)
    console.print()


class _Log:
    """Lines about running work: a live line on a terminal; elsewhere a line after some seconds, then every `PERIOD`."""

    def __init__(self, after: float = 0.0) -> None:
        self.console = Console(stderr=True, highlight=False)
        # A dumb terminal cannot overwrite a line, and forced colour does not make a file a terminal.
        self.live = self.console.is_interactive and sys.stderr.isatty()
        self._next = monotonic() + after

    def print(self, line: str, *, now: bool = False) -> None:
        """Print `line` if no line is live, and a line is due or wanted `now`."""
        if not self.live and (now or monotonic() >= self._next):
            self._next = monotonic() + PERIOD
            self.say(line)

    def say(self, line: str) -> None:
        """Print `line` above the live line."""
        self.console.print(line, markup=False, soft_wrap=True)


@contextlib.contextmanager
def working(after: float = 0.0) -> Iterator[Callable[[str], None]]:
    """Show the current work: yield a function that takes its description.

    If the output is not a terminal, work of less than `after` seconds prints nothing.
    """
    log = _Log(after)
    if not log.live:
        yield log.print
        return
    with log.console.status("", spinner="line") as status:
        yield lambda words: status.update(Text(words))


@contextlib.contextmanager
def progress_of(name: str) -> Iterator[tuple[Callable[[int, int], None], Callable[[str], None]]]:
    """Show the progress of the study `name`: yield the two functions that the engine's `simulate` calls.

    The first takes (seeds done, seeds in all). The second takes the plan in words, or another sentence, which is
    printed on a separate line.
    """
    log, line, printed = _Log(), _RunLine(name), set[str]()
    live = Live(line, console=log.console, vertical_overflow="visible") if log.live else None

    def note(words: str) -> None:
        if words.startswith("chunk "):
            line.plan = f" ({words})"
        elif words not in printed:
            printed.add(words)
            log.say(f"{name}: {words}.")

    def show(done: int, seeds: int) -> None:
        # Started by the first call: before it, options may be refused, or data may be downloaded under another bar.
        line.show(done, seeds)
        if live:
            live.start()
        log.print(f"{line.description}: {', '.join(line.facts)}", now=done == seeds)

    try:
        yield show, note
    finally:
        if live:
            live.stop()


class _RunLine:
    """The progress of a run in a line: a description, a bar, and (at every width) count, rate and time left."""

    def __init__(self, name: str):
        self._name, self.plan, self._calls = name, "", 0
        self._done, self._seeds, self._began, self._first = 0, 0, 0.0, 0
        self.facts: tuple[str, ...] = ()

    @property
    def description(self) -> str:
        """The study, and its plan or "compiling"."""
        return self._name + (" (compiling)" if self._calls == 1 and self._done < self._seeds else self.plan)

    def show(self, done: int, seeds: int) -> None:
        """Update the number of seeds done."""
        self._calls += 1
        if self._calls <= 2:  # the rate excludes compilation: the clock starts when the first program is compiled
            self._began, self._first = monotonic(), done
        self._done, self._seeds = done, seeds
        self.facts = (f"{done:,}/{seeds:,} seeds",)
        took, new = monotonic() - self._began, done - self._first
        if took > 0 and new > 0:
            speed = new / took
            rate = f"{speed:,.{speed < 100:d}f} seeds/s" if speed >= 1 else f"{1 / speed:,.1f} s/seed"
            self.facts += (rate, f"{_clock((seeds - done) / speed)} left" if done < seeds else f"in {_clock(took)}")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text | ProgressBar | Segment]:
        """Yield the parts of the line that fit the width."""
        facts = Text("  ".join(self.facts))
        if facts.cell_len > options.max_width:
            facts = Text(" ".join(self.facts).removesuffix(" left").replace(" seeds/s", "/s"))
        room = options.max_width - facts.cell_len - 1
        description = Text(self.description if room > 3 else "")
        description.truncate(max(0, room), overflow="ellipsis")
        bar = min(40, room - description.cell_len - 1)
        if description:
            yield Text.assemble(description, " ", end="")
        if bar >= 10:
            yield ProgressBar(max(1, self._seeds), self._done, width=bar)
            yield Segment(" ")
        yield facts


def _clock(seconds: float) -> str:
    """Return hours, minutes and seconds as text."""
    return str(timedelta(seconds=round(seconds)))
