"""Studies whose run is an ordinary function of the seed's number (a timing, another program): nothing is compiled."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from subsim.engine.axes import Axis
from subsim.engine.study import Run, Study, called
from subsim.options import require

Shapes = dict[str, jax.ShapeDtypeStruct]


def check(study: Study, axes: Sequence[Axis], root_seed: int, chunk: int | None) -> None:
    """Raise `UserError` for options that only a compiled run has."""
    where = f"but the run of {study.name} is ordinary Python, called once a seed"
    for axis in axes:
        require(not axis.traced, f"sweep of {axis.name}: it is a traced number, {where}; sweep options of its config.")
    require(root_seed == 0, f"root_seed is {root_seed}, {where} and without a key; leave it out.")
    require(chunk in (None, 1), f"chunk is {chunk}, {where}; leave it out.")


def shapes(study: Study) -> Shapes:
    """Return the shapes of one seed's record by name; every entry is float64."""
    sizes = {dim: len(labels) for dim, labels in study.coords.items() if not callable(labels)}
    for name, meaning in study.variables.items():
        for dim in meaning.dims:
            study.require(dim in sizes, f"variable {name!r} has the dimension {dim!r}, which coords do not label")
    return {
        name: jax.ShapeDtypeStruct(tuple(sizes[dim] for dim in meaning.dims), np.dtype(float))
        for name, meaning in study.variables.items()
    }


def record_of(study: Study, run: Run, hyper: Any, seed: int) -> dict[str, np.ndarray]:
    """Return `run(seed, hyper)` as float64 arrays by name; raises `UserError` where shapes differ from the study's."""
    found = study.named(called(run, seed, hyper), functools.partial(np.asarray, dtype=float))
    has, wanted = ({name: value.shape for name, value in each.items()} for each in (found, shapes(study)))
    study.require(has == wanted, f"its record has the shapes {has}, but variables and coords say {wanted}")
    return found


def call(one: Callable[..., dict[str, np.ndarray]], arguments: tuple[Any, ...], seeds: np.ndarray) -> Any:
    """Return the record of the single seed in `seeds`, with a leading axis of length 1 for the seed."""
    (seed,) = seeds.tolist()
    return {name: value[None] for name, value in one(*arguments, seed).items()}
