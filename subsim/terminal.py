"""What the terminal shows: lines, tables, and the progress of a run."""

import contextlib
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table as RichTable
from rich.text import Text

if TYPE_CHECKING:
    from subsim.engine.study import Table


def say(text: str) -> None:
    """Print one line as it is."""
    Console(highlight=False, soft_wrap=True).print(text, markup=False)


def complain(sentence: str) -> None:
    """Print `sentence` as this program's own, where errors go; a progress bar that stands there is left behind."""
    console = Console(stderr=True, soft_wrap=True)
    console.show_cursor()
    console.print(f"subsim: {sentence}", markup=False, highlight=False)


def as_drawn(table: "Table") -> RichTable:
    """One table without its title, its first column to the left and its numbers to the right."""
    drawn = RichTable(box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for number, column in enumerate(table.columns):
        drawn.add_column(Text(column), justify="right" if number else "left", no_wrap=True)
    for row in table.rows:
        drawn.add_row(*map(Text, row))
    return drawn


def print_catalogue(rows: Sequence[tuple[str, str, str, str]]) -> None:
    """Print name, sentence, cost and results of every study, sentences wrapped, in at most 100 columns."""
    drawn = RichTable(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in ("study", "what it asks", "cost", "results"):
        drawn.add_column(column, no_wrap=column == "study", max_width=24 if column == "cost" else None)
    for row in rows:
        drawn.add_row(*map(Text, row))
    width = min(100, Console().width) if sys.stdout.isatty() else 100
    Console(width=width).print(drawn)


def print_table(table: "Table") -> None:
    """Print one table, as wide as it needs to be: a terminal that is narrower breaks its lines, and hides no number."""
    console, drawn = Console(highlight=False), as_drawn(table)
    console.print(Text(table.title, style="italic"))
    needed = console.measure(drawn, options=console.options.update(max_width=1000)).maximum
    Console(width=needed).print(drawn)


@contextlib.contextmanager
def progress_of(name: str) -> Iterator[tuple[Callable[[int, int], None], Callable[[str], None]]]:
    """A progress bar for the run of the study `name`, as the two functions that the engine's `simulate` calls: with
    (seeds done, seeds asked for), and with the plan in words."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("seeds"), _Rate(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )  # fmt: skip
    bar = Progress(*columns, console=Console(stderr=True), speed_estimate_period=3600)
    task = bar.add_task(name)
    calls, plan = itertools.count(), ""

    def note(words: str) -> None:
        nonlocal plan
        plan = f" ({words})"

    def show(done: int, seeds: int) -> None:
        # Started by the first call: until then options may still be refused, or data be fetched under a bar of its own.
        call = next(calls)
        doing = ": compiling" if call == 0 and done < seeds else ""
        if call == 1:
            bar.reset(task)  # the rate is of seeds alone: the clock starts when the first program is compiled
        bar.update(task, description=name + (doing or plan), completed=done, total=seeds)
        bar.start()

    try:
        yield show, note
    finally:
        if bar.live.is_started:
            bar.stop()


class _Rate(ProgressColumn):
    """Seeds a second, or seconds a seed, whichever is the larger number."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:,.1f} seeds/s" if speed >= 1 else f"{1 / speed:.1f} s/seed")
