"""Options on the command line: made from the dataclasses of the run and of the study, refused in one sentence."""

import contextlib
import dataclasses
import functools
import io
import operator
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import tyro

from subsim.options import SMALLEST, Size, UserError, field_names

if TYPE_CHECKING:
    from subsim.engine.study import Study

RESULTS = Path("results")
Options = TypeVar("Options", "RunOptions", "CompileOptions")


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """How the study is run; none of it but the root seed and the precision changes a number."""

    seeds: int
    """Seeds to run, 0 .. N - 1; a larger number than before adds the missing ones."""
    size: Size = SMALLEST
    """What the defaults of all other flags are. tiny: a small world, thousands of seeds. mnist: the paper's data, for
    two cores and some patience. paper: as in a paper, for a GPU. Not every study has every size."""
    root_seed: int = 0
    """The key that every seed's own key is folded from."""
    precision: Literal["float32", "tf32", "bfloat16", "float64"] = "float32"
    """tf32, of GPUs, and bfloat16: matrix products only; parameters and sums stay float32."""
    out: Path = RESULTS
    """Folder for the results; repeat the command to go on with a run that was stopped."""
    sweep: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Values for one option, such as student.learning-rate=1e-4:1e-2:5:log or n_aux=1,2,5; may be \
repeated. A dimension of the results each."""
    chunk: int | None = None
    """Seeds that lie in one file of the results, and the most that one call runs; None: as the results began, or \
guessed."""
    shard: str | None = None
    """I/N: run every N-th chunk, from the I-th on, of a run that N processes share; auto: as SLURM, a Kubernetes \
indexed Job or jax's own runtime says. Shards do not wait for one another; repeat the command for one that was lost."""
    minutes: float | None = None
    """Stop after so many minutes, at the end of the call that is running then; repeat the command to go on."""
    repair: bool = False
    """Mend damaged files of the results, and compute the seeds that were in them again."""


@dataclasses.dataclass(frozen=True)
class CompileOptions:
    """What the study is compiled for: TPUs that this machine need not have."""

    topology: str
    """Kind and shape of the TPUs, such as v5e:2x2, v5e:16x16 or v5p:2x2x1."""
    size: Size = SMALLEST
    """As in a run: what the defaults of all other flags are."""
    precision: Literal["float32", "tf32", "bfloat16", "float64"] = "float32"
    """bfloat16: matrix products only; parameters and sums stay float32."""
    sweep: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """As in a run."""
    chunk: int | None = None
    """The most seeds that one call of the program runs, on all devices; None: as in a run."""
    at_once: int | None = None
    """Seeds that advance side by side on each device; None: as in a run. Halved until they fit the device's memory."""


def asked_size(words: Sequence[str]) -> Size:
    """The size that the command line asks for, read before all other flags, whose defaults it decides.

    What is no size counts as the default here: the parser refuses it.
    """
    sizes: tuple[Size, ...] = get_args(Size)
    asked = re.findall(r"^--size[=\n](.*)$", "\n".join(words), flags=re.MULTILINE)
    return next((size for size in sizes if asked and size == asked[-1]), sizes[0])


def stem_of(study: str, size: Size) -> str:
    """The name of results and figures of the study with this name or path, apart for each size."""
    return Path(study).stem + ("" if size == SMALLEST else f"-{size}")


def results_folder(study: str, size: Size = SMALLEST) -> Path:
    """Where the results of a study go unless a run is told otherwise."""
    return RESULTS / stem_of(study, size)


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


_REGISTRY = tyro.constructors.ConstructorRegistry()


@_REGISTRY.primitive_rule
def _without_arrays(info: tyro.constructors.PrimitiveTypeInfo) -> Any:
    """A number that a run may trace is written as a number: a command line gives no arrays."""
    from jax import Array

    kinds = get_args(info.type) if get_origin(info.type) in (Union, UnionType) else ()
    if Array not in kinds:
        return None
    written: Any = functools.reduce(operator.or_, (kind for kind in kinds if kind is not Array))
    return _REGISTRY.get_primitive_spec(tyro.constructors.PrimitiveTypeInfo.make(written, info.markers))


def _with_precisions(options: type, study: "Study") -> type:
    """The class `options` with the precisions that the study can be run in."""
    rounded = [name for name in ("tf32", "bfloat16") if name in study.precisions]
    words = f"{', '.join(rounded)}: matrix products only; sums stay float32." if rounded else ""
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
    own |= {"seeds": study.seeds} if kind is RunOptions else {}
    options = _with_precisions(kind, study)(precision=study.precision, **own)
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
            everything,
            default=everything(**defaults),
            prog=prog,
            description=study.title,
            args=dotted,
            registry=_REGISTRY,
        )
    return parsed.run, getattr(parsed, "config", None), getattr(parsed, "hyper", None)
