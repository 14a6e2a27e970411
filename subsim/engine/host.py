"""Studies whose run is an ordinary function of the seed's number (a timing, another program): nothing is compiled."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from subsim.engine.axes import Axis
from subsim.engine.study import Study
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
    """The shape of one seed's record by name: a float64 for every label of a variable's dimensions."""
    sizes = {dim: len(labels) for dim, labels in study.coords.items() if not callable(labels)}
    for name, meaning in study.variables.items():
        for dim in meaning.dims:
            require(dim in sizes, f"The study's variable {name!r} has the dimension {dim!r}; label it in coords.")
    return {
        name: jax.ShapeDtypeStruct(tuple(sizes[dim] for dim in meaning.dims), np.dtype(float))
        for name, meaning in study.variables.items()
    }


def caller(run: Callable[[int], Mapping[str, Any]], record: Shapes) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """`run` as the engine calls a program: from seeds, shape (chunk,), to their records, by name.

    Raises `UserError` where a record is not what the study declares.
    """

    def call(seeds: np.ndarray) -> dict[str, np.ndarray]:
        records = [run(int(seed)) for seed in seeds]
        for values in records:
            found = {name: np.shape(value) for name, value in values.items()}
            wanted = {name: value.shape for name, value in record.items()}
            require(found == wanted, f"The study's record has the shapes {found}, but its variables say {wanted}.")
        return {
            name: np.stack([np.asarray(values[name], value.dtype) for values in records])
            for name, value in record.items()
        }

    return call
