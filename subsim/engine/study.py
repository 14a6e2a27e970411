"""The declaration of a study: how to make its run, what the entries of its record mean, and how to report them."""

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import xarray as xr

from subsim.options import LARGER, Size, UserError, get, has, label, require

Precision = Literal["float32", "tf32", "bfloat16", "float64"]
# (key, hyper) or (key) -> Record: a mapping or NamedTuple of arrays, for one seed. A run on the host takes the seed's
# number in place of the key.
Run = Callable[..., Any]

RESERVED = ("seed", "status", "made_by", "origins", "programs")
"""Names of variables and groups that the engine adds to every store."""
_PACKAGE = Path(__file__).resolve().parent.parent


class Variable(NamedTuple):
    """The meaning of one entry of the record: a description, its dimensions for one seed, and its unit."""

    description: str
    dims: tuple[str, ...] = ()
    units: str = "1"


class Table(NamedTuple):
    """A table to print. Every cell is text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def no_data(_config: Any) -> None:
    """Return None, the data of a study without data."""


def no_check(_config: Any, _hyper: Any) -> None:
    """Accept every config and hyper."""


@dataclass(frozen=True)
class Study:
    """A pure function of a key, and the declarations by which the engine runs it over seeds and labels its record.

    `make_run(config, data)` returns `run(key, hyper)`, or `run(key)` without hyper, which returns the record of one
    seed. A study without config and data takes its `run` instead. A run with large arrays is a
    `jax.tree_util.Partial(function, arrays...)`: its arrays then enter the compiled program as arguments and not as
    constants. `variables` describes the entries of the record. An entry without a description has its name as
    description, and the dimensions `NAME_0`, `NAME_1`, ... `coords` gives the labels of every dimension but the seed:
    a list, or a function of (config, number of labels).

    Raises `UserError`, with the file and line of the declaration, where a part of it is of the wrong kind.
    """

    name: str
    title: str = ""
    """The name, unless it is given."""
    make_run: Callable[[Any, Any], Run] | None = None
    variables: Mapping[str, Variable] = field(default_factory=dict)
    coords: Mapping[str, Sequence[Any] | Callable[[Any, int], Sequence[Any]]] = field(default_factory=dict)
    config: Any = None
    """Default of the options that change shapes or the structure of the program: a frozen dataclass."""
    hyper: Any = None
    """Default of the numbers that are traced: any pytree."""
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Dotted names of options, each with its values: one dimension each, which report and figure expect. A run may give
    other values."""
    make_joint_run: Callable[[Sequence[Any], Any], Run] | None = None
    """As `make_run`, for several configs that differ only in the group `joint`. The record has a leading axis of
    configs. What the configs share, such as a teacher, is computed once."""
    joint: str = ""
    """The group of the config's options, such as `student`, whose values on an axis share one program."""
    load: Callable[[Any], Any] = no_data
    """Return the data of a config; called once, on the host."""
    check: Callable[[Any, Any], None] = no_check
    """Raise `UserError` where config and hyper contradict each other."""
    derived: Callable[[xr.Dataset], Mapping[str, xr.DataArray]] | None = None
    """Return further variables of a finished data set, seed by seed and by name: differences of its conditions, or
    values at a matched loss. Report, figure and the table of means show them beside the record."""
    report: Callable[[xr.Dataset], Sequence[Table]] | None = None
    """Return the tables that sum up a finished data set; None: mean and interval of every variable."""
    seeds: int = 100
    precision: Precision = "float32"
    precisions: tuple[Precision, ...] = ("float32", "tf32", "bfloat16", "float64")
    """The precisions in which the study can run; the default is `precision`."""
    chunk: int | None = None
    """Seeds in one file of the results, and the most that one call runs; None: guessed from the cost of a seed."""
    compiler_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of XLA's compiler by name, for programs on a CPU."""
    on_host: bool = False
    """Whether the run is an ordinary function of the seed's number, which is called once a seed and never traced: a
    timing, say. Its record holds a float64 for every label in `coords`, and is written before the next seed runs."""
    sizes: Mapping[str, "Mapping[str, Any] | Study"] = field(default_factory=dict)
    """The study at its larger sizes, or the fields that differ there: {"mnist": {"seeds": 32, "config": ...}}. The size
    mnist is for two cores and some patience, paper for a GPU. The study itself is the tiny size."""
    run: Run | None = None
    """The run itself, in place of `make_run`."""
    make_networks: Callable[[Any, Any], Run] | None = None
    """As `make_run`; its run returns every network of one seed, a pytree of arrays by name, for `networks_of`."""
    rebuild: Callable[[Any, Any, dict[str, Any]], dict[str, Any]] | None = None
    """Convert (config, data, networks) to the networks that `networks_of` returns: modules in place of arrays, say."""
    own: Mapping[str, str] = field(default_factory=dict)
    """The dotted names of the options that the study itself sets, each with a phrase for reports."""
    finding: str = ""
    """The finding of the study's own options, in one sentence: "claim: numbers, with interval and n." A figure of a run
    with these options has the claim as its title. A larger size has its own finding, or none. `subsim list` reads
    finding and cost from the text of the file, so that both are literal strings."""
    cost: str = ""
    """The time of the tiny size: "8 minutes on 2 cores"."""
    declared: str = field(default="", compare=False)
    """File and line of the declaration, which errors name; found automatically."""

    def __post_init__(self) -> None:
        if not self.declared:
            object.__setattr__(self, "declared", _place_of_declaration())
        self.require(isinstance(self.name, str) and bool(self.name), "name must be text")
        object.__setattr__(self, "title", self.title or self.name)
        self.require((self.run is None) != (self.make_run is None), "it needs one of run and make_run, and not both")
        self.require(self.run is None or callable(self.run), "run must be a function of (key) or (key, hyper)")
        for name, of in (("make_run", ""), ("make_networks", ""), ("rebuild", ", networks")):
            function = getattr(self, name)
            self.require(function is None or callable(function), f"{name} must be a function of (config, data{of})")
        # On the host nothing is traced that could tell what else there is.
        described = isinstance(self.variables, Mapping) and (bool(self.variables) or not self.on_host)
        self.require(described, "variables must describe something")
        for name, meaning in self.variables.items():
            self.require(
                isinstance(meaning, Variable) and isinstance(meaning.dims, tuple),
                f"variable {name!r} must be a subsim.Variable, whose dims are a tuple",
            )
            self._require_name("variable", name)
            for dim in meaning.dims:
                self._require_name("dimension", dim)
            repeated = {dim for dim in meaning.dims if meaning.dims.count(dim) > 1}
            self.require(not repeated, f"variable {name!r} has the dimension {min(repeated, default='')!r} twice")
        for dim, labels in self.coords.items():
            self.require(
                callable(labels) or (isinstance(labels, Sequence) and not isinstance(labels, str)),
                f"coords of {dim!r} must be a list of labels, or a function of (config, how many)",
            )
        if self.on_host:
            object.__setattr__(self, "chunk", 1)
        joint = callable(self.make_joint_run), bool(self.joint)
        self.require(all(joint) or not any(joint), "make_joint_run and joint belong together")
        for size, values in self.sizes.items():
            self.require(size in LARGER, f"sizes has {size!r}, but a study's sizes are {', '.join(LARGER)}")
            unknown = set() if isinstance(values, Study) else set(values) - {each.name for each in fields(self)}
            self.require(not unknown, f"sizes: {size} names {min(unknown, default='')!r}, which is no field of a Study")
        for name in ("seeds", "chunk"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool) and value > 0
            self.require(value is None or whole, f"{name} is {value!r}, not a whole number of at least 1")

    def require(self, holds: bool, sentence: str) -> None:
        """Raise `UserError` with the place of the declaration and `sentence` unless `holds`."""
        if not holds:
            raise UserError(f"{self.declared}: the study {self.name!r}: {sentence}; mend its file.")

    def made_run(self, config: Any, data: Any) -> Any:
        """Return the `Run` of one seed."""
        return self.make_run(config, data) if self.make_run else self.run

    def variable(self, name: str, dims: int) -> Variable:
        """Return the declared meaning of an entry of the record, or one made of its name and number of dimensions."""
        if name in self.variables:
            return self.variables[name]
        self._require_name("variable", name)
        return Variable(name, tuple(f"{name}_{number}" for number in range(dims)))

    def named(self, record: Any, array: Callable[[Any], Any] = lambda value: value) -> dict[str, Any]:
        """Return the record of one seed as a dictionary, with `array` applied to every entry.

        Raises `UserError` where the record has no names, or where `array` refuses an entry.
        """
        record = record._asdict() if hasattr(record, "_asdict") else record
        self.require(
            isinstance(record, Mapping) and len(record) > 0 and all(isinstance(name, str) for name in record),
            "its run must return a dict or a NamedTuple of arrays, by name: the record of one seed",
        )
        found = {}
        for name, value in record.items():
            try:
                found[name] = array(value)
            except (TypeError, ValueError):
                self.require(False, f"the record's {name!r} is {type(value).__name__}, not an array of numbers")
        return found

    def _require_name(self, what: str, name: Any) -> None:
        fits = isinstance(name, str) and name.strip() == name != "" and not set(name) & set("/\\\0") and name[0] != "."
        self.require(fits, f"{name!r} cannot name a {what} of a store: use letters, digits and underscores")
        self.require(name not in RESERVED, f"{name!r} is a name that the engine uses itself: rename this {what}")

    def at_size(self, size: Size) -> "Study":
        """Return the study at this size; raises `UserError` where it does not have the size."""
        if size not in LARGER:
            return self
        others = f"choose {' or '.join(self.sizes)}, or " if self.sizes else ""
        require(size in self.sizes, f"size: the study {self.name} has no {size} size; {others}leave --size out.")
        there = self.sizes[size]
        if isinstance(there, Study):
            return replace(there, name=self.name)
        return replace(self, **{"finding": "", **there})

    def sweep(self, given: Mapping[str, Iterable[Any]] | None) -> dict[str, Iterable[Any]]:
        """Return name -> values of a run's axes: the study's own, with the `given` ones added or in their place."""
        return dict(self.axes) | dict(given or {})

    def refuse_overruled(self, given: Mapping[str, Iterable[Any]] | None, config: Any, hyper: Any) -> None:
        """Raise `UserError` where an option was set to a value that one of the study's axes would overrule."""
        for name in sorted(set(self.axes) - set(given or {})):
            for options, defaults in ((config, self.config), (hyper, self.hyper)):
                if has(options, name):
                    value = label(get(options, name))
                    require(
                        value == label(get(defaults, name)),
                        f"{name} is {value}, but the study sweeps it; say --sweep {name}={value} instead.",
                    )


def called(run: Run, key: Any, hyper: Any) -> Any:
    """Return `run(key, hyper)`, or `run(key)` where there is no hyper and the run does not ask for one."""
    try:
        alone = hyper is None and bool(inspect.signature(run).bind(key))
    except (TypeError, ValueError):  # it takes two arguments, or has no signature
        alone = False
    return run(key) if alone else run(key, hyper)


def _place_of_declaration() -> str:
    """Return file and line of the innermost caller outside this package, dataclasses and type checkers."""
    frame = sys._getframe(1)
    while frame.f_back:
        file = Path(frame.f_code.co_filename)
        studies = _PACKAGE / "experiments"
        ours = file.is_relative_to(_PACKAGE) and not file.is_relative_to(studies)
        if not ours and file.name not in ("<string>", "dataclasses.py") and file.parent.name != "jaxtyping":
            break
        frame = frame.f_back
    return f"{frame.f_code.co_filename}, line {frame.f_lineno}"
