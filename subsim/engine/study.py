"""What a study declares: how to make its run, what the run's record means, and how to report it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, NamedTuple

import xarray as xr

from subsim.options import Size, get, has, label, require

Precision = Literal["float32", "bfloat16", "float64"]
# (key, hyper) -> Record: a mapping or NamedTuple of arrays, for one seed. On the host, its number stands for the key.
Run = Callable[[Any, Any], Any]


class Variable(NamedTuple):
    """The meaning of one entry of the record: a description, its dimensions for one seed, and its unit."""

    description: str
    dims: tuple[str, ...] = ()
    units: str = "1"


class Table(NamedTuple):
    """A table to print: every cell is text already."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def no_data(_config: Any) -> None:
    """The data of a study that needs none."""


def no_check(_config: Any, _hyper: Any) -> None:
    """The check of a study whose options cannot contradict each other."""


@dataclass(frozen=True)
class Study:
    """A pure function of a key, and what the engine must know to run it over seeds and to label what comes back.

    `make_run(config, data)` returns `run(key, hyper)`, the record of one seed. Where the run needs large arrays, it is
    returned as `jax.tree_util.Partial(function, arrays...)`: they then enter the compiled program as arguments and not
    as constants. `variables` names every entry of the record; `coords` labels the dimensions it has beside the seed,
    by their labels or, where the config decides these, by a function of the config and of how many there are.
    """

    name: str
    title: str
    make_run: Callable[[Any, Any], Run]
    variables: Mapping[str, Variable]
    coords: Mapping[str, Sequence[Any] | Callable[[Any, int], Sequence[Any]]] = field(default_factory=dict)
    config: Any = None
    """Default of what changes shapes or the program's structure: a frozen dataclass."""
    hyper: Any = None
    """Default of the numbers that are traced: any pytree."""
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Dotted names of options, each with the values that it takes unless a run is told others: a dimension each, which
    report and figure know."""
    load: Callable[[Any], Any] = no_data
    """Gives the data that `config` asks for, read once on the host."""
    check: Callable[[Any, Any], None] = no_check
    """Raises `UserError` where config and hyper contradict each other."""
    derived: Callable[[xr.Dataset], Mapping[str, xr.DataArray]] | None = None
    """What is made of a finished data set, seed by seed and by name: differences of its conditions, say, or values at
    a matched loss. The report, the figure and the table of means have it beside the record."""
    report: Callable[[xr.Dataset], Sequence[Table]] | None = None
    """The tables that sum up a finished data set; None: mean and interval of every variable."""
    seeds: int = 100
    precision: Precision = "float32"
    precisions: tuple[Precision, ...] = ("float32", "bfloat16", "float64")
    """What the study can be run in; its default is `precision`."""
    chunk: int | None = None
    """Seeds that one call of the compiled program runs, and that are written together. None: guessed from the FLOPs of
    one seed, so that a chunk is some seconds of work."""
    lanes: int | None = None
    """Seeds that advance side by side on a CPU. None: guessed from the bytes of what one seed computes."""
    cpu_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of XLA's compiler, by name, where the program is for a CPU."""
    on_host: bool = False
    """Whether the run is an ordinary function of the seed's number, called once a seed and never traced, whose record
    holds a float64 for every label in `coords`. What is measured is then no matter of keys: a timing, say."""
    paper: Mapping[str, Any] = field(default_factory=dict)
    """Names of these fields, each with what it is at the paper's size, for a GPU: {"seeds": 100, "config": ...}."""
    cost: str = ""
    """What the laptop size takes: "8 minutes on 2 cores". `subsim list` reads it where the file has it literally."""

    def __post_init__(self) -> None:
        unknown = set(self.paper) - {declared.name for declared in fields(self)}
        require(not unknown, f"The study's paper size names {min(unknown, default='')!r}, no field of a Study.")
        for name in ("seeds", "chunk", "lanes"):
            value = getattr(self, name)
            require(value is None or value > 0, f"The study's {name} is {value}; it must be at least 1.")

    def at_size(self, size: Size) -> "Study":
        """The study at this size; raises `UserError` where it has none of the paper's."""
        if size == "laptop":
            return self
        require(len(self.paper) > 0, f"size: the study {self.name} has no paper size; leave --size out.")
        return replace(self, **self.paper)

    def sweep(self, told: Mapping[str, Iterable[Any]] | None) -> dict[str, Iterable[Any]]:
        """Name -> values of the axes of a run that is `told` these, beside or in place of the study's own."""
        return dict(self.axes) | dict(told or {})

    def refuse_overruled(self, told: Mapping[str, Iterable[Any]] | None, config: Any, hyper: Any) -> None:
        """Raise `UserError` where an option has a value of its own that one of the study's axes would pass over."""
        for name in sorted(set(self.axes) - set(told or {})):
            for options, defaults in ((config, self.config), (hyper, self.hyper)):
                if has(options, name):
                    value = label(get(options, name))
                    require(
                        value == label(get(defaults, name)),
                        f"{name} is {value}, but the study sweeps it; say --sweep {name}={value} instead.",
                    )
