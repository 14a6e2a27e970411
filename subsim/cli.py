"""The command line: parse, call, print."""

import dataclasses
import functools
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import tyro
from rich.console import Console

from subsim import catalogue
from subsim.arguments import (
    RESULTS,
    CompileOptions,
    RunOptions,
    asked_size,
    one_sentence,
    parse_options,
    parse_sweep,
    results_folder,
)
from subsim.engine import glance
from subsim.options import Size, UserError, require
from subsim.terminal import complain, print_catalogue, print_table, progress_of, say

if TYPE_CHECKING:
    import xarray as xr

    from subsim.engine.study import Study

IN_MEMORY = 2**25  # bytes of results that a run holds when it reports; of more it reads part after part


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a run as Ctrl-C does: what is being written is finished first."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command in `arguments` (those of the process by default); a mistake of the user's exits with status 2."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        of_a_study = {"run": run, "compile": compile_ahead}
        if len(words) > 1 and words[0] in of_a_study and not words[1].startswith("-"):
            of_a_study[words[0]](words[1], words[2:])
            return
        commands: dict[str, Callable[..., None]] = {
            "demo": demo, "run": run_anything, "figure": figure, "list": list_studies, "data": data,
            "verify": verify, "compile": compile_anything, "report": report_page,
        }  # fmt: skip
        with one_sentence():
            chosen = tyro.extras.subcommand_cli_from_dict(
                {name: _deferred(command) for name, command in commands.items()},
                prog="subsim",
                description="A toy-scale laboratory for subliminal learning in JAX.",
                args=words or ["--help"],
            )
        chosen()
    except UserError as error:
        complain(str(error))
        sys.exit(2)
    except BrokenPipeError:
        # The reader (head, less) has seen enough; what is still buffered must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt as stop:
        Console(stderr=True).print("\nStopped; what is finished is on disk. Repeat the command to go on.")
        sys.exit(128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT))
    except Exception as error:
        from subsim.engine.errors import own_traceback

        frames = own_traceback(error)
        if frames is None:
            raise
        traceback.print_exception(type(error), error, frames)
        sys.exit(1)


def _terminate(_number: int, _frame: Any) -> None:
    raise Terminated


def _deferred(command: Callable[..., None]) -> Callable[..., Any]:
    """`command` as its parser sees it, but giving back the call instead of making it, out of reach of the parser."""

    @functools.wraps(command)
    def prepare(*args: Any, **options: Any) -> Callable[[], None]:
        return lambda: command(*args, **options)

    return prepare


def run_anything(study: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="STUDY")]) -> None:
    """Run a study over its seeds; `subsim run STUDY --help` shows every option of that study.

    Args:
        study: a name that `subsim list` shows, or the path of a .py file.
    """
    run(study, [])


def run(name: str, words: Sequence[str]) -> None:
    """Run the study with this name or path, with the options in `words`."""
    from subsim.engine.hosts import joined
    from subsim.report import completed, has_axes_of

    size = asked_size(words)
    study = catalogue.load_study(name).at_size(size)
    own = {"size": size, "out": results_folder(name, size)}
    options, config, hyper = parse_options(study, words, f"subsim run {name}", RunOptions, **own)
    sweep = parse_sweep(options.sweep)
    one_of_several = (options.hosts, options.coordinator, options.processes, options.process)
    with joined(options.out, *one_of_several, complain) as team:
        results = simulate(
            study,
            config,
            hyper,
            seeds=options.seeds,
            root_seed=options.root_seed,
            precision=options.precision,
            sweep=sweep,
            out=options.out,
            chunk=options.chunk,
            repair=options.repair,
            team=team,
        )
    if team and not team.first:
        say(f"Process {team.process} of {team.processes} has done its part; process 0 reports.")
        return
    print_report(study, completed(study, results))
    say(f"Results: {options.out}")
    if catalogue.has_figure(name) and has_axes_of(study, results):
        elsewhere = "" if options.out == results_folder(name) else f" --out {options.out}"
        say(f"Draw them: subsim figure {name}{elsewhere}")


def compile_anything(study: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="STUDY")]) -> None:
    """Compile a study for TPUs that are not here; `subsim compile STUDY --help` shows every option of that study.

    Args:
        study: a name that `subsim list` shows, or the path of a .py file.
    """
    compile_ahead(study, [])


def compile_ahead(name: str, words: Sequence[str]) -> None:
    """Compile the study with this name or path, with the options in `words`, and print what it takes of a device."""
    from subsim.engine import ahead

    ahead.use_no_device()
    size = asked_size(words)
    study = catalogue.load_study(name).at_size(size)
    own = {"size": size, "topology": tyro.MISSING}
    options, config, hyper = parse_options(study, words, f"subsim compile {name}", CompileOptions, **own)
    mesh = ahead.topology_mesh(options.topology)
    with Console(stderr=True).status(f"{study.name}: compiling") as status:
        for label, program in ahead.compile_ahead(
            study,
            config,
            hyper,
            mesh=mesh,
            seeds=options.seeds,
            precision=options.precision,
            sweep=parse_sweep(options.sweep),
            chunk=options.chunk,
            lanes=options.lanes,
            notice=lambda plan: status.update(f"{study.name}: compiling ({plan})"),
        ):
            print_table(ahead.table(f"{label} for {options.topology}", program, mesh))


def simulate(study: "Study", config: Any, hyper: Any, **options: Any) -> "xr.Dataset":
    """The engine's `simulate` under a progress bar, with the programs that it compiles kept for the next time."""
    from subsim.datasets import cache_folder
    from subsim.engine import devices, sweep

    devices.share_arena()
    devices.keep_programs(cache_folder("programs"))
    with progress_of(study.name) as (show, note):
        return sweep.simulate(study, config, hyper, progress=show, notice=note, in_memory=IN_MEMORY, **options)


def print_report(study: "Study", results: "xr.Dataset") -> None:
    """Print the study's tables, and which seeds diverged."""
    from subsim import report

    for table in report.tables(study, results):
        print_table(table)
    lost = report.diverged(results)
    if len(lost):
        some = ", ".join(map(str, lost[:5])) + (", ..." if len(lost) > 5 else "")
        count = f"{len(lost)} of {results.sizes['seed']} seeds diverged ({some})"
        say(f"{count}: numbers that are not finite are left out.")


def draw(study: str, results: "xr.Dataset", folder: Path) -> None:
    """Draw the study's figure and write its table of means into `folder`, and say where they are."""
    from subsim import plotting, tidy

    figure = catalogue.load_figure(study)(results)
    table, too_long = tidy.summary_csv(results)
    means = folder / f"{Path(study).stem}.csv"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = plotting.save(figure, folder, Path(study).stem)
        means.write_text(table)
    except OSError as error:
        raise UserError(f"to: cannot write to {folder} ({error.strerror}); choose another folder.") from None
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
    from subsim.engine.store import load_results
    from subsim.report import completed, has_axes_of

    catalogue.study_file(study)
    results = load_results(folder)
    its_study = catalogue.load_study(study)
    if results.attrs.get("study") != its_study.name:
        held = results.attrs.get("study")
        raise UserError(f"{folder} holds results of {held}, not of {its_study.name}; choose with --out.")
    if not has_axes_of(its_study, results):
        held, drawn = (", ".join(axes) or "nothing" for axes in (results.attrs["sweep"], its_study.axes))
        raise UserError(f"{folder} holds a sweep over {held}, and the figure draws {drawn}; choose with --out.")
    draw(study, completed(its_study, results), to or folder)


def report_page(
    results: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="[RESULTS]")] = RESULTS, to: Path | None = None
) -> None:
    """Write one HTML page of all results in a folder: figures, tables, options, versions, commands; readable offline.

    Args:
        results: the folder.
        to: file for the page (default: report.html in the folder).
    """
    from subsim import report

    to = to or results / "report.html"
    with Console(stderr=True).status("") as status:
        text, passed_over = report.whole_page(results, lambda folder: status.update(f"reading {folder}"))
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"to: cannot write {to} ({error.strerror}); choose another file.") from None
    for reason in passed_over:
        say(f"Passed over: {reason}")
    say(f"Report: {to}")


def list_studies() -> None:
    """List the studies at hand, each with its sentence, what it costs, and the results that are in ./results."""
    print_catalogue([(name, *entry, _at_hand(name)) for name, entry in catalogue.available().items()])


def _at_hand(study: str) -> str:
    """The seeds of the study's results, in words, a line for each size; of a run that was stopped, about how many."""
    lines = []
    for size in get_args(Size):
        begun, room = glance.seeds(results_folder(study, size))
        count = f"{room:,} seeds" if begun == room else f"{begun:,} of {room:,} seeds"
        if room:
            lines.append(count if size == "laptop" else f"{size}: {count}")
    return "\n".join(lines)


def data(name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]) -> None:
    """Find or fetch a data set, check it, and count its classes.

    Args:
        name: mnist, fashion_mnist, mnist5k or digits.
    """
    import numpy as np

    from subsim import datasets
    from subsim.engine.study import Table

    images = datasets.load(name)
    splits = {"train": images.train_labels, "test": images.test_labels}
    rows = [
        (split, str(len(labels)), *map(str, np.bincount(labels, minlength=images.n_class).tolist()))
        for split, labels in splits.items()
    ]
    title = f"{name}: {images.train_images.shape[1]} pixels, images per class"
    print_table(Table(title, ("split", "all", *map(str, range(images.n_class))), tuple(rows)))


def verify(seeds: int = 10_000, only: str | None = None, claims: Path | None = None, json: Path | None = None) -> None:
    """Test what the theory claims over many seeds, in float64; exits with 1 where a claim that must hold fails.

    Args:
        seeds: seeds of each claim.
        only: name of the one claim to test.
        claims: a Python file that defines `claims`, a list of your own, to test in place of those of subsim.
        json: a file to write the same to.
    """
    from subsim import verification
    from subsim.datasets import cache_folder
    from subsim.engine import devices

    devices.keep_programs(cache_folder("programs"))
    available = catalogue.load_claims(claims) if claims else verification.standard_claims()
    wanted = verification.chosen(available, only)
    with Console(stderr=True).status("") as status:
        rows = verification.verify(wanted, seeds, progress=lambda name: status.update(f"{name}: {seeds:,} seeds"))
    for table in verification.tables(wanted, rows):
        print_table(table)
    for row in rows:
        if row.reason:
            say(f"{row.setting}: {row.reason}.")
    if json:
        json.write_text(verification.as_json(rows))
    if any(row.verdict == "FAILS" for row in rows):
        sys.exit(1)


def demo(seeds: int = 8, out: Path = RESULTS / "demo") -> None:
    """The main job on embedded data, offline, in minutes: the paper's Figure 10 and the theorem beside it.

    Args:
        seeds: seeds of the six Figure 10 conditions; the theorem check takes 1,000 small ones.
        out: folder for results and figures.
    """
    from subsim.report import completed

    mnist, single_step = catalogue.load_study("mnist_aux_logits"), catalogue.load_study("single_step")
    # 4,000 images make fewer steps an epoch than 60,000: train the teacher for the paper's 295 steps all the same.
    teacher = dataclasses.replace(mnist.config.teacher, steps=295)
    config = dataclasses.replace(mnist.config, data="mnist5k", teacher=teacher)
    for study, its_config, n in ((mnist, config, seeds), (single_step, single_step.config, 1000)):
        folder = out / study.name
        results = completed(study, simulate(study, its_config, study.hyper, seeds=n, out=folder))
        print_report(study, results)
        say(f"Results: {folder}")
        draw(study.name, results, folder)


if __name__ == "__main__":
    main()
