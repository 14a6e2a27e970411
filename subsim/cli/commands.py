"""The command line: parse, call, print."""

import contextlib
import dataclasses
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, get_args

import tyro

from subsim.cli import catalogue
from subsim.cli.arguments import (
    RESULTS,
    CompileOptions,
    RunOptions,
    asked_size,
    one_sentence,
    parse_options,
    parse_sweep,
    results_folder,
)
from subsim.cli.terminal import complain, print_catalogue, print_table, progress_of, say, survive_any_encoding, working
from subsim.options import Size, UserError, require

if TYPE_CHECKING:
    import xarray as xr

    from subsim.engine.study import Study

IN_MEMORY = 2**25  # bytes of results that a run holds when it reports; of more it reads part after part


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command in `arguments` (those of the process by default); a mistake of the user's exits with status 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    survive_any_encoding()
    try:
        with stopping_at_once(), jax_refusals():
            command(words)
    except UserError as error:
        complain(str(error))
        sys.exit(2)
    except BrokenPipeError:
        # The reader (head, less) has seen enough; what is still buffered must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


@contextlib.contextmanager
def stopping_at_once() -> Iterator[None]:
    """End the process within a second of Ctrl-C or SIGTERM inside the block, whatever XLA is at.

    Python hears of a signal only between two of its own steps, and a compiled program runs for as long as it takes.
    Therefore a thread of its own waits for the signals. Results stay whole: a store bears a kill at any moment.
    """
    # A process that ignores a signal, as one in a shell's background does, goes on doing so.
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard, speak = os.pipe()
    os.set_blocking(speak, False)
    before = {number: signal.signal(number, lambda _number, _frame: None) for number in numbers}
    wakeup = signal.set_wakeup_fd(speak)

    def wait() -> None:
        while number := os.read(heard, 1)[0]:
            if number in numbers:
                end(128 + number)

    def end(status: int) -> None:
        # Whoever does not read what is printed must not keep the process from ending.
        threading.Timer(0.5, os._exit, (status,)).start()
        try:
            complain("stopped; what is finished is on disk. Repeat the command to go on.")
            sys.stdout.flush()
        finally:
            os._exit(status)

    watcher = threading.Thread(target=wait, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        os.write(speak, b"\0")
        watcher.join()
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        os.close(heard)
        os.close(speak)


@contextlib.contextmanager
def jax_refusals() -> Iterator[None]:
    """Say in a sentence which of the shell's variables jax refuses when it is imported."""
    try:
        yield
    except ValueError as error:
        # jax reads its variables at its import, which fails as a whole.
        named = [name for name in os.environ if name.startswith("JAX_") and name.lower() in str(error).lower()]
        if "jax" in sys.modules or not named:
            raise
        value = os.environ[named[0]]
        raise UserError(f"{named[0]} is {value!r}, which jax does not take; mend or unset the variable.") from None


def command(words: Sequence[str]) -> None:
    """Run the command in `words`."""
    of_a_study = {"run": run, "compile": compile_study}
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
    from subsim.cli.report import completed, has_axes_of
    from subsim.engine import shards

    size = asked_size(words)
    study = catalogue.load_study(name).at_size(size)
    own = {"size": size, "out": results_folder(name, size)}
    options, config, hyper = parse_options(study, words, f"subsim run {name}", RunOptions, **own)
    shard = shards.parse(options.shard)
    results = simulate(
        study,
        config,
        hyper,
        seeds=options.seeds,
        root_seed=options.root_seed,
        precision=options.precision,
        sweep=parse_sweep(options.sweep),
        out=options.out,
        chunk=options.chunk,
        shard=shard,
        repair=options.repair,
    )
    if shard.total > 1 and not is_finished(results):
        say(f"Shard {shard} is done; others are not: the last one reports.")
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
    compile_study(study, [])


def compile_study(name: str, words: Sequence[str]) -> None:
    """Compile the study with this name or path, with the options in `words`, and print what it takes of a device."""
    from subsim.engine import topology
    from subsim.engine.simulate import make_task

    topology.use_no_device()
    size = asked_size(words)
    study = catalogue.load_study(name).at_size(size)
    own = {"size": size, "topology": tyro.MISSING}
    options, config, hyper = parse_options(study, words, f"subsim compile {name}", CompileOptions, **own)
    mesh = topology.topology_mesh(options.topology)
    task = make_task(study, config, hyper, parse_sweep(options.sweep), 0, options.precision)
    topology.check(task, options.chunk, options.at_once)
    with working() as tell:
        tell(f"{study.name}: compiling")
        for label, program, compiled in topology.compile_task(
            task,
            mesh,
            options.chunk,
            options.at_once,
            lambda plan: tell(f"{study.name}: compiling ({plan})"),
        ):
            print_table(topology.table(f"{label} for {options.topology}", program, compiled, mesh))


def simulate(study: "Study", config: Any, hyper: Any, **options: Any) -> "xr.Dataset":
    """The engine's `simulate` under a progress bar, with the programs that it compiles kept for the next time."""
    from subsim.engine import simulate as engine

    keep_programs()
    with progress_of(study.name) as (show, note):
        return engine.simulate(study, config, hyper, progress=show, notice=note, in_memory=IN_MEMORY, **options)


@functools.cache
def keep_programs() -> None:
    """Keep what jax compiles in subsim's cache; say why, once, where that cannot be."""
    from subsim.data.datasets import cache_folder
    from subsim.engine import settings

    reason = settings.keep_programs(cache_folder("programs"))
    if reason:
        complain(reason)


def is_finished(results: "xr.Dataset") -> bool:
    """Whether no seed of the results is missing."""
    from subsim.engine.integrity import MISSING

    return bool((results.status != MISSING).all())


def print_report(study: "Study", results: "xr.Dataset") -> None:
    """Print the study's tables, and which seeds diverged."""
    from subsim.cli import report

    for table in report.tables(study, results):
        print_table(table)
    lost = report.diverged(results)
    if len(lost):
        some = ", ".join(map(str, lost[:5])) + (", ..." if len(lost) > 5 else "")
        count = f"{len(lost)} of {results.sizes['seed']} seeds diverged ({some})"
        say(f"{count}: numbers that are not finite are left out.")


def require_writable(option: str, path: Path, *, folder: bool = False, make: bool = True) -> None:
    """Raise `UserError` unless the file or `folder` at `path` can be written; `make` the folders that are missing.

    It is called before the work whose outcome goes there, so that none is done in vain.
    """
    with write_refusals(option, path, ValueError):
        parent = path if folder else path.parent
        if make:
            parent.mkdir(parents=True, exist_ok=True)
        # What is neither a file nor a folder, such as /dev/stdout, is not tried out.
        if folder or not path.exists() or path.is_file() or path.is_dir():
            probe = parent / f".subsim-{os.getpid()}" if folder else path
            there = probe.exists()
            with probe.open("ab"):
                pass
            if not there:
                probe.resolve().unlink()  # of a link to a file that is not there yet, the link stays


@contextlib.contextmanager
def write_refusals(option: str, path: Path, *others: type[Exception]) -> Iterator[None]:
    """Say in a sentence that `path`, which `option` names, cannot be written; `others` are errors that mean it, too."""
    refusals: tuple[type[Exception], ...] = (OSError, *others)
    try:
        yield
    except refusals as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{option}: cannot write to {path} ({reason}); choose another path.") from None


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
        # The name of a folder need not be text.
        to.write_text(text, encoding="utf-8", errors="replace", newline="")
    for reason in passed_over:
        say(f"Passed over: {reason}")
    say(f"Report: {to}")


def list_studies() -> None:
    """List the studies at hand, each with its sentence, what it costs, and the results that are in ./results."""
    print_catalogue([(name, *entry, _at_hand(name)) for name, entry in catalogue.available().items()])


def _at_hand(study: str) -> str:
    """The seeds of the study's results, in words, a line for each size; of a run that was stopped, how many."""
    lines = []
    for size in get_args(Size):
        folder = results_folder(study, size)
        if not folder.is_dir():
            continue
        from subsim.engine import store  # half a second, for those alone who have results

        done, room = store.finished(folder)
        count = f"{room:,} seeds" if done == room else f"{done:,} of {room:,} seeds"
        if room:
            lines.append(count if size == "laptop" else f"{size}: {count}")
    return "\n".join(lines)


def data(name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]) -> None:
    """Find or fetch a data set, check it, and count its classes.

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
    """Test what the theory claims over many seeds, in float64; exits with 1 where a claim that must hold fails.

    Args:
        seeds: seeds of each claim.
        only: name of the one claim to test.
        claims: a Python file that defines `claims`, a list of your own, to test in place of those of subsim.
        json: a file to write the same to.
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
    """The main job on embedded data, offline, in minutes: the paper's Figure 10 and the theorem beside it.

    Args:
        seeds: seeds of the six Figure 10 conditions; the theorem check takes 1,000 small ones.
        out: folder for results and figures.
    """
    from subsim.cli.report import completed

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
