"""Parse the options of a command line, from the dataclasses of the run and of the study."""

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
    """How the study is run; only the root seed and the precision change the results."""

    seeds: int
    """Number of seeds to run, 0 .. N - 1; a larger number than before adds the missing seeds."""
    size: Size = SMALLEST
    """Sets the defaults of all other flags. tiny: a small world, thousands of seeds. mnist: the paper's data, for
    two cores and some patience. paper: as in a paper, for a GPU. Not every study has every size."""
    root_seed: int = 0
    """The root key from which the key of every seed is derived."""
    precision: Literal["float32", "tf32", "bfloat16", "float64"] = "float32"
    """tf32 (GPUs only) and bfloat16: matrix products only; parameters and sums stay float32."""
    out: Path = RESULTS
    """Folder for the results; repeat the command to continue a stopped run."""
    sweep: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Values for one option, such as student.learning-rate=1e-4:1e-2:5:log or n_aux=1,2,5; may be \
repeated. Each sweep is a dimension of the results."""
    chunk: int | None = None
    """Seeds in one file of the results, and the most seeds in one call; None: as in the existing results, or \
estimated."""
    shard: str | None = None
    """I/N: run every N-th chunk, starting with the I-th, of a run that N processes share; auto: ask SLURM, a \
Kubernetes indexed Job or jax's runtime. Shards do not wait for one another; repeat the command of a lost shard."""
    minutes: float | None = None
    """Stop after this many minutes, at the end of the current call; repeat the command to continue."""
    repair: bool = False
    """Compute the seeds of damaged chunks of the results again."""


@dataclasses.dataclass(frozen=True)
class CompileOptions:
    """The TPUs that the study is compiled for; this machine need not have them."""

    topology: str
    """Kind and shape of the TPUs, such as v5e:2x2, v5e:16x16 or v5p:2x2x1."""
    size: Size = SMALLEST
    """Sets the defaults of all other flags, as in a run."""
    precision: Literal["float32", "tf32", "bfloat16", "float64"] = "float32"
    """bfloat16: matrix products only; parameters and sums stay float32."""
    sweep: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Values for one option, as in a run."""
    chunk: int | None = None
    """The most seeds in one call of the program, on all devices; None: as in a run."""
    at_once: int | None = None
    """Seeds that run at once on each device; None: as in a run. Halved until they fit the device's memory."""


def asked_size(words: Sequence[str]) -> Size:
    """Return the size on the command line; it is read before all other flags, because it sets their defaults.

    A word that is not a size counts as the default here: the parser refuses it.
    """
    sizes: tuple[Size, ...] = get_args(Size)
    asked = re.findall(r"^--size[=\n](.*)$", "\n".join(words), flags=re.MULTILINE)
    return next((size for size in sizes if asked and size == asked[-1]), sizes[0])


def stem_of(study: str, size: Size) -> str:
    """Return the name of results and figures of the study with this name or path, different for each size."""
    return Path(study).stem + ("" if size == SMALLEST else f"-{size}")


def results_folder(study: str, size: Size = SMALLEST) -> Path:
    """Return the default folder for the results of a study."""
    return RESULTS / stem_of(study, size)


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """Turn the box that the parser prints for a bad option into a `UserError` with the sentence inside it."""
    captured = io.StringIO()
    try:
        with contextlib.redirect_stderr(captured):
            yield
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        # Below the title, texts lie between rules, wrapped at the width of the screen: the error, and flags like it.
        lines = [line.strip("│| ") for line in captured.getvalue().splitlines()[1:]]
        between_rules = re.split(r"^\W{3,}$", "\n".join(lines), flags=re.MULTILINE)
        texts = [" ".join(text.split()) for text in between_rules if text.strip()]
        sentence = texts[0].rstrip(".") if texts else "The command is wrong"
        if flag := re.search(r"Perhaps you meant: (--[\w.-]+)", " ".join(texts[1:])):
            sentence += f" (did you mean {flag[1]}?)"
        if re.search(r"arguments: \['[\d.]+(,[\d.]+)+'\]$", sentence):
            sentence += "; put spaces and no commas between numbers"
        raise UserError(sentence + "; add --help to see every option.") from None


_REGISTRY = tyro.constructors.ConstructorRegistry()


@_REGISTRY.primitive_rule
def _without_arrays(info: tyro.constructors.PrimitiveTypeInfo) -> Any:
    """Return the parser of a number that a run may trace: a command line has numbers, not arrays."""
    from jax import Array

    kinds = get_args(info.type) if get_origin(info.type) in (Union, UnionType) else ()
    if Array not in kinds:
        return None
    written: Any = functools.reduce(operator.or_, (kind for kind in kinds if kind is not Array))
    return _REGISTRY.get_primitive_spec(tyro.constructors.PrimitiveTypeInfo.make(written, info.markers))


def _with_precisions(options: type, study: "Study") -> type:
    """Return the class `options` restricted to the precisions of the study."""
    rounded = [name for name in ("tf32", "bfloat16") if name in study.precisions]
    words = f"{', '.join(rounded)}: matrix products only; sums stay float32." if rounded else ""
    choices = Annotated[Literal[study.precisions], tyro.conf.arg(help=words)]  # type: ignore[name-defined]
    narrowed = dataclasses.make_dataclass(options.__name__, [("precision", choices)], bases=(options,), frozen=True)
    narrowed.__doc__ = options.__doc__
    return narrowed


def parse_options(
    study: "Study", words: Sequence[str], prog: str, kind: type[Options], **own: Any
) -> tuple[Options, Any, Any]:
    """Parse options of this kind, and the study's config and hyper, from `words`; the study gives their defaults.

    `own` has the defaults of the options that the study does not give.
    """
    own |= {"seeds": study.seeds} if kind is RunOptions else {}
    options = _with_precisions(kind, study)(precision=study.precision, **own)
    parts = {"config": study.config, "hyper": study.hyper}
    taken = set(field_names(options)) & {name for part in parts.values() for name in field_names(part)}
    if taken:
        raise UserError(f"The study has an option {min(taken)!r}, but every run has an option of this name; rename it.")
    defaults = {name: part for name, part in parts.items() if part is not None} | {"run": options}
    # The run's options are a separate group in the help; none of the three groups is a prefix of its flags.
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
