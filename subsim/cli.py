"""The command line: parse, call, print."""

import contextlib
import dataclasses
import functools
import io
import itertools
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table as RichTable
from rich.text import Text

from subsim import catalogue
from subsim.options import UserError, field_names

if TYPE_CHECKING:
    import xarray as xr

    from subsim.engine.study import Study, Table

RESULTS = Path("results")
Options = TypeVar("Options", "RunOptions", "CompileOptions")


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """How the study is run; none of it but the root seed and the precision changes a number."""

    seeds: int
    """Seeds to run, 0 .. N - 1; a larger number than before adds the missing ones."""
    root_seed: int = 0
    """The key that every seed's own key is folded from."""
    precision: Literal["float32", "bfloat16", "float64"] = "float32"
    """bfloat16: matrix products only; parameters and sums stay float32."""
    out: Path = RESULTS
    """Folder for the results; repeat the command to go on with a run that was stopped."""
    sweep: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Values for one option, such as student.learning-rate=1e-4:1e-2:5:log or n_aux=1,2,5; may be \
repeated. A dimension of the results each."""
    chunk: int | None = None
    """Seeds that one call of the compiled program runs and that are written together; None: the study's choice."""
    repair: bool = False
    """Mend damaged files of the results, and compute the seeds that were in them again."""
    hosts: Literal["auto"] | None = None
    """auto: this is one of several processes, which jax finds (SLURM, TPU pods, GKE). All need the same --out, on a \
file system that they share; if one is lost, the others end with status 1."""
    coordinator: str | None = None
    """HOST:PORT of process 0, where no cluster says it; with --processes and --process."""
    processes: int | None = None
    """How many processes run this command."""
    process: int | None = None
    """Which of them this one is, counted from 0."""


@dataclasses.dataclass(frozen=True)
class CompileOptions:
    """What the study is compiled for: TPUs that this machine need not have."""

    topology: str
    """Kind and shape of the TPUs, such as v5e:2x2, v5e:16x16 or v5p:2x2x1."""
    seeds: int
    """Seeds of the run, of which the program takes as many at once as fit the devices' memory."""
    precision: Literal["float32", "bfloat16", "float64"] = "float32"
    """bfloat16: matrix products only; parameters and sums stay float32."""
    sweep: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """As in a run: values of a number share one program, values of an option of the config have one each."""
    chunk: int | None = None
    """Seeds that one call of the program runs, on all devices; None: as many as fit."""
    lanes: int | None = None
    """Seeds that advance side by side on each device; None: its whole share of the chunk."""


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
            "compile": compile_anything,
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


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """Turn the boxes that the parser prints for a bad option into the one sentence inside them."""
    captured = io.StringIO()
    try:
        with contextlib.redirect_stderr(captured):
            yield
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        # Below the title, the first text between two rules, wrapped at the width of the screen.
        lines = [line.strip("│| ") for line in captured.getvalue().splitlines()[1:]]
        between_rules = re.split(r"^\W{3,}$", "\n".join(lines), flags=re.MULTILINE)
        sentence = next((" ".join(text.split()) for text in between_rules if text.strip()), "The command is wrong")
        raise UserError(sentence.rstrip(".") + "; add --help to see every option.") from None


def run_anything(study: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="STUDY")]) -> None:
    """Run a study over its seeds; `subsim run STUDY --help` shows every option of that study.

    Args:
        study: a name that `subsim list` shows, or the path of a .py file.
    """
    run(study, [])


def run(name: str, words: Sequence[str]) -> None:
    """Run the study with this name or path, with the options in `words`."""
    from subsim.engine.hosts import joined

    study, out = catalogue.load_study(name), RESULTS / Path(name).stem
    options, config, hyper = parse_options(study, words, f"subsim run {name}", RunOptions, out=out)
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
    print_report(study, results, swept=bool(sweep))
    say(f"Results: {options.out}")
    if catalogue.has_figure(name) and not sweep:
        say(f"Draw them: subsim figure {name}" + ("" if options.out == out else f" --out {options.out}"))


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
    study = catalogue.load_study(name)
    options, config, hyper = parse_options(
        study, words, f"subsim compile {name}", CompileOptions, topology=tyro.MISSING
    )
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


def parse_sweep(axes: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Name -> values of the axes that --sweep gives."""
    from subsim.engine.axes import parse

    sweep = dict(map(parse, axes))
    if len(sweep) < len(axes):
        raise UserError("sweep: an option stands there twice; give all its values in one --sweep.")
    return sweep


def _with_precisions(options: type, study: "Study") -> type:
    """The class `options` with the precisions that the study can be run in."""
    words = "bfloat16: matrix products only; sums stay float32." if "bfloat16" in study.precisions else ""
    choices = Annotated[Literal[study.precisions], tyro.conf.arg(help=words)]  # type: ignore[name-defined]
    narrowed = dataclasses.make_dataclass(options.__name__, [("precision", choices)], bases=(options,), frozen=True)
    narrowed.__doc__ = options.__doc__
    return narrowed


def parse_options(
    study: "Study", words: Sequence[str], prog: str, kind: type[Options], **own: Any
) -> tuple[Options, Any, Any]:
    """Options of this kind, and the study's config and hyper, from the command line; defaults are the study's own.

    `own` are the kind's defaults that the study does not give.
    """
    options = _with_precisions(kind, study)(seeds=study.seeds, precision=study.precision, **own)
    parts = {"config": study.config, "hyper": study.hyper}
    taken = set(field_names(options)) & {name for part in parts.values() for name in field_names(part)}
    if taken:
        raise UserError(f"The study has an option {min(taken)!r} of its own, which every run has already; rename it.")
    defaults = {name: part for name, part in parts.items() if part is not None} | {"run": options}
    # The run's options are a group of their own in the help; none of the three puts its name before its flags.
    types: dict[str, Any] = {name: Annotated[type(part), tyro.conf.arg(name="")] for name, part in defaults.items()}
    types["run"] = tyro.conf.OmitArgPrefixes[type(options)]  # type: ignore[misc]
    everything = dataclasses.make_dataclass("Everything", types.items(), frozen=True)
    # --student-inputs is --student.inputs: a group's dash may stand for its dot.
    nested = (name for part in parts.values() for name in field_names(part) if field_names(getattr(part, name, None)))
    groups = "|".join(nested)
    dotted = [re.sub(rf"^--({groups})-", r"--\1.", word) if groups else word for word in words]
    with one_sentence():
        parsed: Any = tyro.cli(
            everything, default=everything(**defaults), prog=prog, description=study.title, args=dotted
        )
    return parsed.run, getattr(parsed, "config", None), getattr(parsed, "hyper", None)


def simulate(study: "Study", config: Any, hyper: Any, **options: Any) -> "xr.Dataset":
    """The engine's `simulate` under a progress bar."""
    from subsim.datasets import cache_folder
    from subsim.engine import devices, sweep

    devices.keep_programs(cache_folder("programs"))
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("seeds"), _Rate(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )  # fmt: skip
    bar = Progress(*columns, console=Console(stderr=True), speed_estimate_period=3600)
    task = bar.add_task(study.name)

    calls = itertools.count()

    plan = ""

    def note(words: str) -> None:
        nonlocal plan
        plan = f" ({words})"

    def show(done: int, seeds: int) -> None:
        # Started by the first call: until then options may still be refused, or data be fetched under a bar of its own.
        call = next(calls)
        doing = ": compiling" if call == 0 and done < seeds else ""
        if call == 1:
            bar.reset(task)  # the rate is of seeds alone: the clock starts when the first program is compiled
        bar.update(task, description=study.name + (doing or plan), completed=done, total=seeds)
        bar.start()

    try:
        return sweep.simulate(study, config, hyper, progress=show, notice=note, **options)
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


def print_report(study: "Study", results: "xr.Dataset", swept: bool = False) -> None:
    """Print the study's tables; of a sweep, mean and interval of every variable at every value."""
    from subsim.engine import summary
    from subsim.engine.store import DIVERGED

    report = summary.report if swept or study.report is None else study.report
    for table in report(results):
        print_table(table)
    diverged = results.seed.values[(results.status == DIVERGED).any(set(results.status.dims) - {"seed"}).values]
    if len(diverged):
        some = ", ".join(map(str, diverged[:5])) + (", ..." if len(diverged) > 5 else "")
        count = f"{len(diverged)} of {results.sizes['seed']} seeds diverged ({some})"
        say(f"{count}: numbers that are not finite are left out.")


def say(text: str) -> None:
    """Print one line as it is."""
    Console(highlight=False, soft_wrap=True).print(text, markup=False)


def complain(sentence: str) -> None:
    """Print `sentence` as this program's own, where errors go; a progress bar that stands there is left behind."""
    console = Console(stderr=True, soft_wrap=True)
    console.show_cursor()
    console.print(f"subsim: {sentence}", markup=False, highlight=False)


def as_drawn(table: "Table") -> RichTable:
    """One table, its first column to the left and its numbers to the right."""
    drawn = RichTable(
        title=Text(table.title), title_justify="left", box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False
    )
    for number, column in enumerate(table.columns):
        drawn.add_column(Text(column), justify="right" if number else "left", no_wrap=True)
    for row in table.rows:
        drawn.add_row(*map(Text, row))
    return drawn


def print_table(table: "Table") -> None:
    """Print one table; piped into a file, it is as wide as it needs to be."""
    Console(width=None if sys.stdout.isatty() else 160).print(as_drawn(table))


def draw(study: str, results: "xr.Dataset", folder: Path) -> None:
    """Draw the study's figure into `folder` and say where it is."""
    from subsim import plotting

    figure = catalogue.load_figure(study)(results)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = plotting.save(figure, folder, Path(study).stem)
    except OSError as error:
        raise UserError(f"to: cannot write to {folder} ({error.strerror}); choose another folder.") from None
    for path in paths:
        say(f"Figure: {path}")


def figure(
    study: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="STUDY")],
    out: Path | None = None,
    to: Path | None = None,
) -> None:
    """Draw the figure of a study from its results, as PNG and PDF.

    Args:
        study: a name that `subsim list` shows, or the path of a .py file.
        out: folder that holds the results (default: results/STUDY).
        to: folder for the figure (default: beside the results).
    """
    from subsim.engine.store import load_results

    name = catalogue.load_study(study).name
    folder = out or RESULTS / Path(study).stem
    results = load_results(folder)
    if results.attrs.get("study") != name:
        raise UserError(f"{folder} holds results of {results.attrs.get('study')}, not of {name}; choose with --out.")
    if results.attrs.get("sweep"):
        axes = ", ".join(results.attrs["sweep"])
        raise UserError(f"{folder} holds a sweep over {axes}, and the figure draws one config; choose with --out.")
    draw(study, results, to or folder)


def list_studies() -> None:
    """List the studies at hand, each with its sentence."""
    width = max(map(len, catalogue.available()), default=0)
    for name, sentence in catalogue.available().items():
        say(f"{name:<{width}}  {sentence}")


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


def demo(seeds: int = 8, out: Path = RESULTS / "demo") -> None:
    """The main job on embedded data, offline, in minutes: the paper's Figure 10 and the theorem beside it.

    Args:
        seeds: seeds of the six Figure 10 conditions; the theorem check takes 1,000 small ones.
        out: folder for results and figures.
    """
    mnist, single_step = catalogue.load_study("mnist_aux_logits"), catalogue.load_study("single_step")
    # 4,000 images make fewer steps an epoch than 60,000: train the teacher for the paper's 295 steps all the same.
    teacher = dataclasses.replace(mnist.config.teacher, steps=295)
    config = dataclasses.replace(mnist.config, data="mnist5k", teacher=teacher)
    for study, its_config, n in ((mnist, config, seeds), (single_step, single_step.config, 1000)):
        folder = out / study.name
        results = simulate(study, its_config, study.hyper, seeds=n, out=folder)
        print_report(study, results)
        say(f"Results: {folder}")
        draw(study.name, results, folder)


if __name__ == "__main__":
    main()
