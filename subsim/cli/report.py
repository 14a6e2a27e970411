"""What a run says of itself: the tables of its study, its figure, the command that makes it; and a page of all runs."""

import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import xarray as xr

from subsim.analysis import tables as means
from subsim.analysis.picture import picture, suggested
from subsim.cli import catalogue, page, plots
from subsim.cli.repeating import Made, nearest_default, repeating
from subsim.cli.terminal import lines_of, narrowed
from subsim.engine import store
from subsim.engine.declaration import meaning
from subsim.engine.identity import differences
from subsim.engine.integrity import DIVERGED
from subsim.engine.store import load_results
from subsim.engine.study import Study, Table
from subsim.options import LARGER, UserError, require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

T = TypeVar("T")
MOST_LINES = 40  # of a study's tables on a screen


def known_axes(study: Study) -> set[str]:
    """The axes that the study's report and figure know, at whatever size."""
    return set(study.axes).union(*(study.at_size(size).axes for size in LARGER if size in study.sizes))


def has_axes_of(study: Study, results: xr.Dataset) -> bool:
    """Whether the results have no axes but those that the study's report and figure know."""
    return set(results.attrs["sweep"]) <= known_axes(study)


def completed(study: Study, results: xr.Dataset) -> xr.Dataset:
    """The results with what the study derives of them, where it knows their axes."""
    if study.derived is None or not has_axes_of(study, results):
        return results
    found = study.derived(results)
    for name, values in found.items():
        for dim in values.dims:  # xarray would keep the record's labels alone, and say nothing
            labels = list(results.indexes.get(dim, values.indexes.get(dim, ())))
            lost = [str(label) for label in values.indexes.get(dim, ()) if label not in labels]
            require(
                not lost,
                f"derived: {name} has {', '.join(lost)} along {dim}, where the record has other labels; "
                "give the dimension another name.",
            )
    return results.assign(found)


def tables(study: Study, results: xr.Dataset) -> list[Table]:
    """The study's report; of another sweep, mean and interval of every variable at every value."""
    report = means.report if study.report is None or not has_axes_of(study, results) else study.report
    return list(report(results))


def on_a_screen(tables: Sequence[Table]) -> tuple[list[Table], str]:
    """The first of the tables, as many as a screen shows, and in words what else there is; wide tables are in pieces.

    Of a table that is longer than the screen by itself the first rows are shown.
    """
    tables = [piece for table in tables for piece in narrowed(table)]
    shown, room, more = list[Table](), MOST_LINES, list[str]()
    for table in tables:
        room -= lines_of(table)
        if room < 0 and shown:
            break
        if room < 0:
            more.append(f"{-room} more rows of this table")
            table = table._replace(rows=table.rows[:room])
        shown.append(table)
    others = [re.split("[:;,]", table.title)[0] for table in tables[len(shown) :]]
    if others:
        names = list(dict.fromkeys(others))
        some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        more.append(f"{len(others)} more table{'s' * (len(others) > 1)} ({some})")
    return shown, " and ".join(more)


def whole_page(root: Path, progress: Callable[[str], None]) -> tuple[str, list[str]]:
    """The page of all runs in and below the folder `root`, and why others are not on it.

    `progress` is told the folder of each run before it is read. Raises `UserError` where there is no run to show.
    """
    folders = store.stores(root)
    require_results(root, bool(folders))
    entries, passed_over = [], []
    for folder in folders:
        progress(str(folder))
        try:
            entries.append(entry(folder))
        except UserError as reason:
            passed_over.append(str(reason))
    require(bool(entries), passed_over[0] if passed_over else "")
    return page.page(root.as_posix(), entries, passed_over), passed_over


def require_results(root: Path, there: bool) -> None:
    """Raise `UserError` unless results are `there`, in and below the folder `root`."""
    require(there, f"results: {root} holds no results; run a study first, or name a folder that holds some.")


def entry(folder: Path) -> page.Entry:
    """The run in `folder`, as it stands on the page; raises `UserError` where it cannot be read.

    A study that is gone, or whose code does not fit the results any more, leaves a note in place of what it would show.
    """
    from subsim.analysis import plotting

    results, notes = load_results(folder), list[str]()
    where, made = _where(results.attrs), Made.of(folder, results.attrs)
    study = _attempt(notes, "study", lambda: _named(str(results.attrs["study"]), where))
    drawn, its_tables, command, still, size, usual = None, None, None, False, "", None
    if study is not None:
        more = _attempt(notes, "derived values", functools.partial(completed, study, results))
        results = results if more is None else more
        meant = meaning(study)
        if all(differences(program, meant, ["sources"]) for program in results.attrs["programs"].values()):
            notes.append("The code that makes the run has changed since.")
        draw: Callable[[], Figure] | None = None
        if catalogue.has_figure(where) and has_axes_of(study, results):
            draw = plotting.styled(lambda: catalogue.load_figure(where)(results))
        elif options := suggested(results):
            draw, still = functools.partial(_draw_sweep, study.name, results, options), True
        if draw is not None:
            drawn = _attempt(notes, "figure", lambda: plotting.as_png(draw()))
        if study.report is not None and has_axes_of(study, results):
            its_tables = _attempt(notes, "tables", lambda: tables(study, results))
        size, default = nearest_default(study, made, where)
        usual = default.options()
        command = repeating(study, made, where)
        if command is None:
            notes.append("No command repeats it: the study has other options today.")
    if its_tables is None:
        its_tables = means.report(results)
    found = _attempt(notes, "plots", lambda: plots.plots(results)) or []
    return page.Entry(
        folder.as_posix(), results.attrs, _seeds(folder, results), its_tables, made.options(), usual, size,
        own={} if study is None else study.own, figure=drawn, still=still and bool(found), plots=found,
        command=command, notes=notes,
    )  # fmt: skip


def _draw_sweep(title: str, results: xr.Dataset, options: Mapping[str, Any]) -> "Figure":
    """The picture of results that no figure file draws."""
    from subsim.analysis import sweeps

    return sweeps.draw(picture(results, **options), title)


def _where(attributes: Mapping[str, Any]) -> str:
    """The name of a run's study; the path of its file where no study at hand has this name, and the file is there."""
    name, file = str(attributes["study"]), str(attributes.get("study_file", ""))
    if catalogue.has_study(name) or not os.path.isfile(file):
        return name
    return os.path.relpath(file) if Path(file).is_relative_to(Path.cwd()) else file


def _named(name: str, where: str | None = None) -> Study:
    """The study with the name or path `where`, by default its name; raises `UserError` where it has another name."""
    study = catalogue.load_study(where or name)
    require(study.name == name, f"The study {where or name!r} here is named {study.name!r} in its file.")
    return study


def _attempt(notes: list[str], what: str, call: Callable[[], T]) -> T | None:
    """What `call` gives. Where it fails, None, and a note of it: today's code may not fit yesterday's results."""
    try:
        return call()
    except UserError as error:
        notes.append(str(error))
    except Exception as error:  # of a study's own code, which can be anything
        notes.append(f"The {what} cannot be made from these results ({type(error).__name__}: {error}).")
    return None


def _seeds(folder: Path, results: xr.Dataset) -> str:
    """Seeds finished, asked for and diverged."""
    finished, asked = results.sizes["seed"], store.finished(folder)[1]
    words = f"{finished:,}" if finished == asked else f"{finished:,} of {asked:,} finished"
    lost = len(diverged(results))
    return f"{words}, {lost:,} diverged" if lost else words


def diverged(results: xr.Dataset) -> np.ndarray:
    """The numbers of the seeds whose record is not all finite."""
    return results.seed.values[(results.status == DIVERGED).any(set(results.status.dims) - {"seed"}).values]
