"""The command `subsim figure`: draw a study's figure, or a picture of any sweep, from results."""

import dataclasses
import os
import re
import shlex
import warnings
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from subsim.cli import catalogue
from subsim.cli.arguments import RESULTS, results_folder, stem_of
from subsim.cli.terminal import say
from subsim.cli.writing import require_writable, write_refusals
from subsim.options import SMALLEST, Size, UserError, require

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

UNITS = {"in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4}


@dataclasses.dataclass(frozen=True)
class Axes:
    """The content of a picture of a sweep, in place of the study's figure."""

    x: str | None = None
    """Dimension of the horizontal axis, such as a swept option; without it the study's figure is drawn."""
    lines: str | None = None
    """Dimension with a line for each label (default: condition or student, if there is one)."""
    panels: str | None = None
    """Dimension with a panel for each label."""
    only: tuple[str, ...] = ()
    """The only labels to draw, as LABEL or DIM=LABEL."""
    y: str | None = None
    """Variable whose mean over seeds is drawn (default: accuracy, or the first variable of floats)."""


@dataclasses.dataclass(frozen=True)
class Look:
    """The look of a figure in a paper."""

    width: str | None = None
    """Width, such as 3.25in, 8cm or 80mm; text does not shrink below 8 points."""
    style: Path | None = None
    """A matplotlib style file (.mplstyle); its settings override subsim's."""
    caption: bool = True
    """Print n, interval and setting below the figure."""

    @property
    def inches(self) -> float | None:
        """The width in inches; raises `UserError` if it is not a width."""
        if self.width is None:
            return None
        found = re.fullmatch(rf"(\d+\.?\d*|\.\d+) ?({'|'.join(UNITS)})", self.width.strip())
        inches = float(found[1]) * UNITS[found[2]] if found else 0.0
        require(1 <= inches <= 40, f"width is {self.width!r}; write it as 3.25in, 8cm or 80mm, from 1 to 40 inches.")
        return inches

    def settings(self, plotting: ModuleType) -> dict[str, Any]:
        """Return the settings that override the house style; raise `UserError` if the style file cannot be read."""
        small = plotting.SMALL if (self.inches or plotting.NARROW) < plotting.NARROW else {}
        try:
            return dict(small) | (plotting.read_style(self.style) if self.style else {})
        except OSError as error:
            raise UserError(f"style: {self.style} cannot be read ({error.strerror}); name a .mplstyle file.") from None
        except ValueError as error:
            raise UserError(f"style: {self.style} is not a matplotlib style ({error}); correct the file.") from None


def import_plotting() -> ModuleType:
    """Import `plotting` with matplotlib's in-memory backend, so that neither a display nor MPLBACKEND matters."""
    asked = os.environ.pop("MPLBACKEND", None)
    os.environ["MPLBACKEND"] = "agg"
    try:
        from subsim.analysis import plotting
    finally:
        os.environ.pop("MPLBACKEND")
        os.environ |= {"MPLBACKEND": asked} if asked is not None else {}
    return plotting


def draw(
    study: str,
    results: "xr.Dataset",
    folder: Path,
    axes: Axes | None = None,
    look: Look | None = None,
    size: Size = SMALLEST,
    claim: str = "",
) -> None:
    """Draw the study's figure, or a picture with `axes`, and write its means; print the paths in `folder`.

    `claim` is the title of the study's figure, in place of its topic; "" leaves the topic.
    """
    from subsim.analysis import tidy

    plotting, look = import_plotting(), look or Look()
    name = stem_of(study, size)
    with plotting.changed(look.settings(plotting)):
        if axes is None:
            figure = plotting.titled(plotting.styled(catalogue.load_figure(study))(results), claim)
        else:
            figure, name, results = _sweep(name, results, axes, look)
        figure = plotting.fitted(figure, look.inches, captioned=look.caption)
        table, too_long = tidy.summary_csv(results)
        means = folder / f"{name}.csv"
        with write_refusals("to", folder):
            folder.mkdir(parents=True, exist_ok=True)
            paths = _saved(plotting, figure, folder, name, look)
            means.write_text(table, encoding="utf-8", newline="")
    for path in paths:
        say(f"Figure: {path}")
    say(f"Means: {means}" + (f" (too long for it: {', '.join(too_long)})" if too_long else ""))


def _sweep(name: str, results: "xr.Dataset", axes: Axes, look: Look) -> "tuple[Figure, str, xr.Dataset]":
    """Return the picture with `axes`, the name of its file, and its values."""
    from subsim.analysis import sweeps
    from subsim.analysis.picture import picture

    what = picture(results, str(axes.x), axes.lines, axes.panels, axes.only, axes.y)
    drawn = sweeps.draw(what, str(results.attrs["study"]), look.inches)
    return drawn, f"{name}-{what.name}", what.values.to_dataset()


def _saved(plotting: ModuleType, figure: "Figure", folder: Path, name: str, look: Look) -> list[Path]:
    """Save the figure and return its paths; raise `UserError` if the width is too small for its content."""
    with warnings.catch_warnings():
        if look.width:
            warnings.filterwarnings("error", "constrained_layout not applied")
        try:
            for _ in range(2 if look.width else 0):  # refuse before writing a file; the layout needs two passes
                figure.draw_without_rendering()
            paths: list[Path] = plotting.save(figure, folder, name)
        except UserWarning:
            raise UserError(f"width: {look.width} is too narrow for this figure; choose a wider one.") from None
    return paths


def figure(
    study: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="STUDY")],
    axes: Annotated[Axes, tyro.conf.arg(name="")] = Axes(),
    look: Annotated[Look, tyro.conf.arg(name="")] = Look(),
    out: Path | None = None,
    to: Path | None = None,
    size: Size = SMALLEST,
) -> None:
    """Draw a study's figure, or with --x any sweep, as PNG and PDF, and write its means to a CSV file beside it.

    Args:
        study: a name that `subsim list` shows, the path of a .py file, or all (every study that has results).
        axes: the content of a picture.
        look: the look of the figure in a paper.
        out: folder of the results (default: results/STUDY).
        to: folder for the figure (default: the folder of the results).
        size: size of the results; mnist and paper have results in results/STUDY-mnist and results/STUDY-paper, and
            figures with the same names.
    """
    placed = None if axes.x is None else axes
    for name in ("lines", "panels", "only", "y"):
        require(bool(placed) or not getattr(axes, name), f"{name}: it needs --x; name the horizontal axis, too.")
    if look.width or look.style:
        look.settings(import_plotting())  # refuse bad options before reading anything
    if to is not None:
        require_writable("to", to, folder=True)
    if study != "all":
        figure_of(study, out or results_folder(study, size), to, placed, look, size)
        return
    require(out is None, "out: it names the results of one study; leave it out to draw all.")
    require(placed is None, "x: it names a dimension of one study's results; leave it out to draw all.")
    drawn = 0
    for name in catalogue.available():
        try:
            figure_of(name, results_folder(name, size), to, look=look, size=size)
            drawn += 1
        except UserError as reason:
            say(f"Passed over {name}: {reason}")
    require(drawn > 0, f"There is nothing to draw in {RESULTS}; run a study first.")


def figure_of(
    study: str,
    folder: Path,
    to: Path | None,
    axes: Axes | None = None,
    look: Look | None = None,
    size: Size = SMALLEST,
) -> None:
    """Draw the results of the study in `folder` into the folder `to`, or into `folder`.

    Raises `UserError` if there are no results, or if the study's figure cannot draw them.
    """
    from subsim.cli.repeating import claim
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
    if axes is None and not set(swept) <= known:
        drawn = f"only a sweep over {', '.join(sorted(known))}" if known else "no sweep"
        raise UserError(
            f"{folder} holds a sweep over {', '.join(swept)}, but the figure of {its_study.name} draws "
            f"{drawn}; draw it with {drawing_flags(results)}, or choose other results with --out."
        )
    shown = claim(its_study, results)
    draw(study, completed(its_study, results), to or folder, axes, look, size, shown)


def drawing_flags(results: "xr.Dataset") -> str:
    """Return the flags of `subsim figure` that draw any results; "" if these have no dimension except the seed."""
    from subsim.analysis.picture import suggested

    options = suggested(results) or {}
    words = [
        word for option in ("x", "lines", "panels") if option in options for word in (f"--{option}", options[option])
    ]
    return shlex.join(words + (["--only", *options["only"]] if "only" in options else []))
