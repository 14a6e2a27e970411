"""The command line: parse, call, print."""

import contextlib
import dataclasses
import functools
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import tyro

from subsim.cli import catalogue
from subsim.cli.arguments import (
    RESULTS,
    RunOptions,
    asked_size,
    one_sentence,
    parse_options,
    results_folder,
)
from subsim.cli.compiling import compile_anything, compile_study
from subsim.cli.everything import run_all
from subsim.cli.figures import draw, drawing_flags, figure, import_plotting
from subsim.cli.new import new
from subsim.cli.running import OutOfTime, deadline, keep_programs, simulate
from subsim.cli.stopping import stopping_at_once
from subsim.cli.terminal import complain, print_catalogue, print_table, say, survive_any_encoding, working
from subsim.cli.words import shard_of, sweep_of
from subsim.cli.writing import require_writable, write_refusals
from subsim.options import SMALLEST, Size, UserError

if TYPE_CHECKING:
    import xarray as xr

    from subsim.engine.study import Study


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command in `arguments` (default: the process arguments); a `UserError` exits with status 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    survive_any_encoding()
    try:
        with stopping_at_once(), jax_refusals():
            command(words)
    except UserError as error:
        complain(str(error))
        sys.exit(2)
    except BrokenPipeError:
        # The reader (head, less) has closed the pipe; buffered output must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


@contextlib.contextmanager
def jax_refusals() -> Iterator[None]:
    """Raise a `UserError` that names the environment variable that jax refuses at its import."""
    try:
        yield
    except ValueError as error:
        # jax reads its variables at its import, which fails as a whole.
        named = [name for name in os.environ if name.startswith("JAX_") and name.lower() in str(error).lower()]
        if "jax" in sys.modules or not named:
            raise
        value = os.environ[named[0]]
        raise UserError(f"{named[0]} is {value!r}, which jax does not accept; correct or unset the variable.") from None


def command(words: Sequence[str]) -> None:
    """Run the command in `words`."""
    of_a_study = {"run": run, "compile": compile_study}
    if list(words[:2]) == ["run", "all"] and not catalogue.has_study("all"):
        with one_sentence():
            everything = tyro.cli(_deferred(run_all), prog="subsim run all", args=words[2:])
        everything()
        return
    if len(words) > 1 and words[0] in of_a_study and not words[1].startswith("-"):
        of_a_study[words[0]](words[1], words[2:])
        return
    commands: dict[str, Callable[..., None]] = {
        "demo": demo, "run": run_anything, "figure": figure, "list": list_studies, "data": data,
        "verify": verify, "compile": compile_anything, "report": report_page, "new": new,
    }  # fmt: skip
    with one_sentence():
        chosen = tyro.extras.subcommand_cli_from_dict(
            {name: _deferred(command) for name, command in commands.items()},
            prog="subsim",
            description="A toy-scale laboratory for subliminal learning in JAX.",
            args=words or ["--help"],
        )
    chosen()


def _deferred(command: Callable[..., None]) -> Callable[..., Any]:
    """Return a function with the signature of `command` that returns the call, to be made outside the parser."""

    @functools.wraps(command)
    def prepare(*args: Any, **options: Any) -> Callable[[], None]:
        return lambda: command(*args, **options)

    return prepare


def run_anything(study: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="STUDY")]) -> None:
    """Run a study over its seeds; `subsim run STUDY --help` shows every option of that study.

    Args:
        study: a name that `subsim list` shows, or the path of a .py file; all: all studies in turns.
    """
    run(study, [])


def run(name: str, words: Sequence[str]) -> None:
    """Run the study with this name or path, with the options in `words`."""
    from subsim.cli.report import completed, has_axes_of

    size = asked_size(words)
    study = catalogue.load_study(name).at_size(size)
    own = {"size": size, "out": results_folder(name, size)}
    options, config, hyper = parse_options(study, words, f"subsim run {name}", RunOptions, **own)
    shard = shard_of(options.shard)
    try:
        results = simulate(
            study,
            config,
            hyper,
            until=deadline(options.minutes),
            seeds=options.seeds,
            root_seed=options.root_seed,
            precision=options.precision,
            sweep=sweep_of(options.sweep),
            out=options.out,
            chunk=options.chunk,
            shard=shard,
            repair=options.repair,
        )
    except OutOfTime as stopped:
        say(f"{stopped}: repeat the command to continue.")
        return
    if shard.total > 1 and not is_finished(results):
        say(f"Shard {shard} is done; others are not: the last one reports.")
        return
    print_report(study, completed(study, results), options.out)
    say(f"Results: {options.out}")
    drawn = catalogue.has_figure(name) and has_axes_of(study, results)
    flags = "" if drawn else drawing_flags(results)
    if drawn or flags:
        elsewhere = "" if options.out == results_folder(name) else f" --out {shlex.quote(str(options.out))}"
        say(f"Draw them: subsim figure {name}{flags and ' '}{flags}{elsewhere}")


def is_finished(results: "xr.Dataset") -> bool:
    """Return whether the results have all their seeds."""
    from subsim.engine.integrity import MISSING

    return bool((results.status != MISSING).all())


def print_report(study: "Study", results: "xr.Dataset", folder: Path) -> None:
    """Print the study's tables that fit a screen, the command that shows the others, and the diverged seeds."""
    from subsim.cli import report

    shown, more = report.on_a_screen(report.tables(study, results))
    for table in shown:
        print_table(table)
    if more:
        say(f"{more}: subsim report {shlex.quote(str(folder))}")
    lost = report.diverged(results)
    if len(lost):
        some = ", ".join(map(str, lost[:5])) + (", ..." if len(lost) > 5 else "")
        count = f"{len(lost)} of {results.sizes['seed']} seeds diverged ({some})"
        say(f"{count}: values that are not finite are left out.")


def report_page(
    results: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="[RESULTS]")] = RESULTS, to: Path | None = None
) -> None:
    """Write one HTML page of all results in a folder: figures, tables, options, versions, commands; readable offline.

    Args:
        results: the folder.
        to: file for the page (default: report.html in the folder).
    """
    from subsim.cli import report

    report.require_results(results, os.path.isdir(results))
    to = to or results / "report.html"
    require_writable("to", to)
    import_plotting()
    with working(after=5.0) as tell:
        text, passed_over = report.whole_page(results, lambda folder: tell(f"reading {folder}"))
    with write_refusals("to", to):
        # The name of a folder may be invalid text.
        to.write_text(text, encoding="utf-8", errors="replace", newline="")
    for reason in passed_over:
        say(f"Passed over: {reason}")
    say(f"Report: {to}")


def list_studies() -> None:
    """List all studies: the question, the finding and the cost of each, and its results in ./results."""
    rows = catalogue.available().items()
    print_catalogue([(name, f"{of.sentence}\n{of.finding}".strip(), of.cost, _at_hand(name)) for name, of in rows])


def _at_hand(study: str) -> str:
    """Return the number of seeds in the study's results as text, one line for each size; for stopped runs, of all."""
    lines = []
    for size in get_args(Size):
        folder = results_folder(study, size)
        if not folder.is_dir():
            continue
        from subsim.engine import store  # takes half a second; import it only if there are results

        done, room = store.finished(folder)
        count = f"{room:,} seeds" if done == room else f"{done:,} of {room:,} seeds"
        if room:
            lines.append(count if size == SMALLEST else f"{size}: {count}")
    return "\n".join(lines)


def data(name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]) -> None:
    """Find or download a data set, verify it, and count its classes.

    Args:
        name: mnist, fashion_mnist, mnist5k or digits.
    """
    import numpy as np

    from subsim.data import datasets
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
    """Test the claims of the theory over many seeds, in float64; exit with 1 if a claim that must hold fails.

    Args:
        seeds: number of seeds for each claim.
        only: name of the only claim to test.
        claims: a Python file that defines a list `claims`, to test in place of subsim's claims.
        json: a file for the results as JSON.
    """
    from subsim.claims import verification

    if json:
        require_writable("json", json, make=False)
    keep_programs()
    available = catalogue.load_claims(claims) if claims else verification.standard_claims()
    wanted = verification.chosen(available, only)
    with working() as tell:
        rows = verification.verify(wanted, seeds, progress=lambda name: tell(f"{name}: {seeds:,} seeds"))
    for table in verification.tables(wanted, rows):
        print_table(table)
    for row in rows:
        if row.reason:
            say(f"{row.setting}: {row.reason}.")
    if json:
        with write_refusals("json", json):
            json.write_text(verification.as_json(rows), encoding="utf-8")
    if any(row.verdict == "FAILS" for row in rows):
        sys.exit(1)


def demo(seeds: int = 8, out: Path = RESULTS / "demo") -> None:
    """Run the paper's Figure 10 and a check of the theorem on embedded data, offline, in minutes.

    Args:
        seeds: number of seeds for Figure 10; the check of the theorem takes 1,000 small seeds.
        out: folder for results and figures.
    """
    from subsim.cli.repeating import claim
    from subsim.cli.report import completed

    say(
        f"Figure 10 with {seeds} seeds on mnist5k, 5,000 embedded images of MNIST, then the theorem with 1,000 small "
        "networks: two to four minutes on two free cores."
    )
    mnist, single_step = catalogue.load_study("mnist_aux_logits").at_size("mnist"), catalogue.load_study("single_step")
    # An epoch of 4,000 images has fewer steps than one of 60,000: train the teacher for the paper's 295 steps.
    teacher = dataclasses.replace(mnist.config.teacher, steps=295)
    config = dataclasses.replace(mnist.config, data="mnist5k", teacher=teacher)
    for study, its_config, n in ((mnist, config, seeds), (single_step, single_step.config, 1000)):
        folder = out / study.name
        results = completed(study, simulate(study, its_config, study.hyper, seeds=n, out=folder))
        print_report(study, results, folder)
        say(f"Results: {folder}")
        draw(study.name, results, folder, claim=claim(study, results))
