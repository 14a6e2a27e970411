"""The options of a run, checked, and the programs that they decide."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from subsim.engine.axes import Axis, configs
from subsim.engine.axes import make as make_axes
from subsim.engine.program import Program, trace
from subsim.engine.store import Index
from subsim.engine.study import Precision, Study
from subsim.options import replaced, require, require_choice


class Task(NamedTuple):
    """The checked options of a run, which decide its programs."""

    study: Study
    config: Any
    hyper: Any
    axes: list[Axis]
    root_seed: int
    precision: Precision

    @property
    def alone(self) -> list[Axis]:
        """The axes whose values each have a program of their own."""
        return [axis for axis in self.axes if axis.alone]

    @property
    def indices(self) -> list[Index]:
        """One index for each program."""
        return list(np.ndindex(*(len(axis.values) for axis in self.alone)))

    def configs_at(self, index: Index) -> list[Any]:
        """Return the configs of the program at `index`; they differ along the joint axes."""
        one = self.config
        for axis, number in zip(self.alone, index, strict=True):
            one = replaced(one, axis.name, axis.values[number])
        return list(configs(one, (axis for axis in self.axes if axis.joint)).values())

    def program(self, index: Index) -> Program:
        """Trace the program at `index`."""
        return trace(self.study, self.configs_at(index), self.hyper, self.axes, self.root_seed, self.precision)

    def place(self, index: Index) -> str:
        """Return the index in words, under which a store keeps the program's record."""
        return ", ".join(f"{axis.name}={axis.labels[at]}" for axis, at in zip(self.alone, index, strict=True))


def make_task(
    study: Study,
    config: Any,
    hyper: Any,
    sweep: Mapping[str, Iterable[Any]] | None,
    root_seed: Any,
    precision: Precision | None,
) -> Task:
    """Check every option and every value of every axis, before any is run; raises `UserError` for a bad one."""
    root_seed = whole_number("root_seed", root_seed, least=0, bits=32)
    precision = precision or study.precision
    require_choice("precision", precision, study.precisions)
    config = study.config if config is None else config
    hyper = study.hyper if hyper is None else hyper
    study.refuse_overruled(sweep, config, hyper)
    axes = make_axes(study.sweep(sweep), config, hyper, study.joint)
    for chosen in configs(config, (axis for axis in axes if not axis.traced)).values():
        study.check(chosen, hyper)
        for axis in axes:
            for value in axis.values if axis.traced else ():
                study.check(chosen, replaced(hyper, axis.name, value))
    return Task(study, config, hyper, axes, root_seed, precision)


def whole_number(name: str, value: Any, least: int = 1, bits: int = 31) -> int:
    """Return `value`; raises `UserError` where it is no whole number of at least `least` and less than 2^`bits`."""
    fits = isinstance(value, int | np.integer) and not isinstance(value, bool) and least <= int(value) < 2**bits
    require(fits, f"{name} is {value!r}; it must be a whole number, at least {least} and less than 2^{bits}.")
    return int(value)
