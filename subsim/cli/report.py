"""Report runs: the tables of a study on the screen, and a page with the figure, tables and command of every run."""

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
from subsim.cli.repeating import Made, claim, nearest_default, repeating
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
MOST_LINES = 40  # of tables on a screen


def known_axes(study: Study) -> set[str]:
    """Return the axes that the study's report and figure expect, at any of its sizes."""
    return set(study.axes).union(*(study.at_size(size).axes for size in LARGER if size in study.sizes))


def has_axes_of(study: Study, results: xr.Dataset) -> bool:
    """Return whether the results have only axes that the study's report and figure expect."""
    return set(results.attrs["sweep"]) <= known_axes(study)


def completed(study: Study, results: xr.Dataset) -> xr.Dataset:
    """Add the study's derived variables to the results, if their axes are those that the study expects."""
    if study.derived is None or not has_axes_of(study, results):
        return results
    found = study.derived(results)
    for name, values in found.items():
        for dim in values.dims:  # xarray would drop other labels than the record's without a word
            labels = list(results.indexes.get(dim, values.indexes.get(dim, ())))
            lost = [str(label) for label in values.indexes.get(dim, ()) if label not in labels]
            require(
                not lost,
                f"derived: {name} has {', '.join(lost)} along {dim}, where the record has other labels; "
                "give the dimension another name.",
            )
    return results.assign(found)


def tables(study: Study, results: xr.Dataset) -> list[Table]:
    """Return the tables of the study's report. For another sweep: mean and interval of every variable."""
    report = means.report if study.report is None or not has_axes_of(study, results) else study.report
    return list(report(results))


def on_a_screen(tables: Sequence[Table]) -> tuple[list[Table], str]:
    """Return as many of the first tables as fit on a screen, and a sentence about the others.

    Wide tables come in pieces. Of a table that is longer than a screen, the first rows are shown.
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
    """Return the page of all runs in and below the folder `root`, and the reasons why others are left out.

    `progress` is called with the folder of each run before it is read. Raises `UserError` where there is no run.
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
    """Raise `UserError` unless `there` are results in or below the folder `root`."""
    require(there, f"results: {root} holds no results; run a study first, or name a folder that holds some.")


def entry(folder: Path) -> page.Entry:
    """Return the entry of the run in `folder`; raises `UserError` where it cannot be read.

    If the study is gone, or its code no longer fits the results, a note stands in place of its tables and figure.
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
            shown = claim(study, results)
            draw = plotting.styled(lambda: plotting.titled(catalogue.load_figure(where)(results), shown))
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
    """Draw results for which there is no figure file."""
    from subsim.analysis import sweeps

    return sweeps.draw(picture(results, **options), title)


def _where(attributes: Mapping[str, Any]) -> str:
    """Return the name of a run's study, or the path of its file if no study has this name and the file exists."""
    name, file = str(attributes["study"]), str(attributes.get("study_file", ""))
    if catalogue.has_study(name) or not os.path.isfile(file):
        return name
    return os.path.relpath(file) if Path(file).is_relative_to(Path.cwd()) else file


def _named(name: str, where: str | None = None) -> Study:
    """Load the study with the name or path `where`; raises `UserError` where it has another name."""
    study = catalogue.load_study(where or name)
    require(study.name == name, f"The study {where or name!r} here is named {study.name!r} in its file.")
    return study


def _attempt(notes: list[str], what: str, call: Callable[[], T]) -> T | None:
    """Return the result of `call`; None and a note if it fails, because the code may be newer than the results."""
    try:
        return call()
    except UserError as error:
        notes.append(str(error))
    except Exception as error:  # of a study's own code, which can be anything
        notes.append(f"The {what} cannot be made from these results ({type(error).__name__}: {error}).")
    return None


def _seeds(folder: Path, results: xr.Dataset) -> str:
    """Return the numbers of seeds finished, asked for and diverged, in words."""
    finished, asked = results.sizes["seed"], store.finished(folder)[1]
    words = f"{finished:,}" if finished == asked else f"{finished:,} of {asked:,} finished"
    lost = len(diverged(results))
    return f"{words}, {lost:,} diverged" if lost else words


def diverged(results: xr.Dataset) -> np.ndarray:
    """Return the seeds whose record has a value that is not finite."""
    return results.seed.values[(results.status == DIVERGED).any(set(results.status.dims) - {"seed"}).values]
