"""The command that draws: a study's figure from its results."""

import os
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

import tyro

from subsim.cli import catalogue
from subsim.cli.arguments import RESULTS, results_folder
from subsim.cli.terminal import say
from subsim.cli.writing import require_writable, write_refusals
from subsim.options import Size, UserError, require

if TYPE_CHECKING:
    import xarray as xr


def import_plotting() -> ModuleType:
    """Import what figures are drawn with: into memory, so that neither a display nor MPLBACKEND is of importance."""
    asked = os.environ.pop("MPLBACKEND", None)
    os.environ["MPLBACKEND"] = "agg"
    try:
        from subsim.analysis import plotting
    finally:
        os.environ.pop("MPLBACKEND")
        os.environ |= {"MPLBACKEND": asked} if asked is not None else {}
    return plotting


def draw(study: str, results: "xr.Dataset", folder: Path) -> None:
    """Draw the study's figure and write its table of means into `folder`, and say where they are."""
    from subsim.analysis import tidy

    plotting = import_plotting()
    figure = plotting.styled(catalogue.load_figure(study))(results)
    table, too_long = tidy.summary_csv(results)
    means = folder / f"{Path(study).stem}.csv"
    with write_refusals("to", folder):
        folder.mkdir(parents=True, exist_ok=True)
        paths = plotting.save(figure, folder, Path(study).stem)
        means.write_text(table, encoding="utf-8", newline="")
    for path in paths:
        say(f"Figure: {path}")
    say(f"Means: {means}" + (f" (too long for it: {', '.join(too_long)})" if too_long else ""))


def figure(
    study: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="STUDY")],
    out: Path | None = None,
    to: Path | None = None,
    size: Size = "laptop",
) -> None:
    """Draw the figure of a study from its results, as PNG and PDF, and write its means beside it, as CSV.

    Args:
        study: a name that `subsim list` shows, the path of a .py file, or all: of every study that has results.
        out: folder that holds the results (default: results/STUDY).
        to: folder for the figure (default: beside the results).
        size: of the results; paper: those in results/STUDY-paper.
    """
    if to is not None:
        require_writable("to", to, folder=True)
    if study != "all":
        figure_of(study, out or results_folder(study, size), to)
        return
    require(out is None, "out: it names the results of one study; leave it out to draw all.")
    drawn = 0
    for name in catalogue.available():
        try:
            figure_of(name, results_folder(name, size), to)
            drawn += 1
        except UserError as reason:
            say(f"Passed over {name}: {reason}")
    require(drawn > 0, f"There is nothing to draw in {RESULTS}; run a study first.")


def figure_of(study: str, folder: Path, to: Path | None) -> None:
    """Draw the results of the study in `folder` into the folder `to`, or beside them.

    Raises `UserError` where there are none, or none that the figure of the study draws.
    """
    from subsim.cli.report import completed, known_axes
    from subsim.engine.store import load_results

    catalogue.study_file(study)
    require(os.path.isdir(folder), f"{folder} holds no results; run the study first, or name its folder with --out.")
    if to is None:
        require_writable("to", folder, folder=True)
    results = load_results(folder)
    its_study = catalogue.load_study(study)
    if results.attrs.get("study") != its_study.name:
        held = results.attrs.get("study")
        raise UserError(f"{folder} holds results of {held}, not of {its_study.name}; choose with --out.")
    swept, known = results.attrs["sweep"], known_axes(its_study)
    if not set(swept) <= known:
        drawn = f"one over {', '.join(sorted(known))} alone" if known else "no sweep"
        raise UserError(
            f"{folder} holds a sweep over {', '.join(swept)}, and the figure of {its_study.name} draws "
            f"{drawn}; run the study without the other axes, or choose other results with --out."
        )
    draw(study, completed(its_study, results), to or folder)
