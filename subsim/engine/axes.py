"""The axes of a sweep: options of the config, and numbers of the hyper, whose values share one program."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from subsim.options import UserError, dotted_names, get, has, label, nearest, replaced, require


class Axis(NamedTuple):
    """One dimension of a sweep: the dotted name of an option, its values, and whether they are traced.

    Each value of a config option needs a program of its own. The values of a `joint` option share one program.
    """

    name: str
    values: tuple[Any, ...]
    traced: bool
    joint: bool = False

    @property
    def alone(self) -> bool:
        """Whether each value has a program of its own."""
        return not (self.traced or self.joint)

    @property
    def labels(self) -> list[Any]:
        """The values as a coordinate: numbers and text as they are, widths as text."""
        return [label(value) for value in self.values]


def make(sweep: Mapping[str, Iterable[Any]], config: Any, hyper: Any, joint: str = "") -> list[Axis]:
    """Return the axes of `sweep` (name -> values), in the order: a program for each value, joint, traced.

    `joint` is the group of options that a study puts into one program; "" is none.
    Raises `UserError` for a name that is no option, for a value of the wrong type, and for a repeated value.
    """
    axes = []
    for name, values in sweep.items():
        traced = has(hyper, name)
        if not (traced or has(config, name)):
            near = nearest(name, [*dotted_names(config), *dotted_names(hyper)])
            raise UserError(f"sweep of {name}: the study has no such option{near}.")
        default = get(hyper if traced else config, name)
        alike = tuple(_alike(name, value, default) for value in values)
        require(len(alike) > 0, f"sweep of {name}: there are no values.")
        require(len(set(alike)) == len(alike), f"sweep of {name}: a value stands there twice.")
        axes.append(Axis(name, alike, traced, not traced and bool(joint) and name.startswith(f"{joint}.")))
    return sorted(axes, key=lambda axis: (not axis.alone, axis.traced))


def _alike(name: str, value: Any, default: Any) -> Any:
    """Convert `value` to the type of the option's `default`: a bool, an int, a float, a str, or a tuple of these."""
    truth = isinstance(value, bool | np.bool_)
    whole = not truth and isinstance(value, Real) and float(value).is_integer()
    if isinstance(default, tuple):
        pieces = value if isinstance(value, tuple | list) else (value,)
        return tuple(_alike(name, piece, default[0] if default else 0) for piece in pieces)
    kind: Any
    if isinstance(default, str):
        kind, fits, wanted = str, isinstance(value, str), "text"
    elif isinstance(default, bool):
        kind, fits, wanted = bool, truth, "True or False"
    elif isinstance(default, float):
        kind, fits, wanted = float, not truth and isinstance(value, Real), "a number"
    else:
        # An option that is None by default (all logits, as many steps as the epochs make) counts something.
        kind, fits, wanted = int, whole, "a whole number"
    require(fits, f"sweep of {name}: {value!r} is not {wanted}.")
    return kind(value)


def configs(config: Any, axes: Iterable[Axis]) -> dict[tuple[int, ...], Any]:
    """Return index -> config, for every combination of the values of `axes`, which are options of `config`."""
    axes = list(axes)
    found = {}
    for index in np.ndindex(*(len(axis.values) for axis in axes)):
        found[index] = config
        for axis, number in zip(axes, index, strict=True):
            found[index] = replaced(found[index], axis.name, axis.values[number])
    return found


def over(run: Callable[[Any], Any], hyper: Any, axes: Sequence[Axis], behind: int = 0) -> Callable[..., Any]:
    """Vmap `run(hyper)` over the values of `axes`: the function returned takes one array of values for each axis.

    The axes' dimensions come after the first `behind` dimensions of the arrays that `run` returns. A part of the run
    that does not depend on an axis is computed once for all its values: the teacher, where only students differ.
    """
    names = [axis.name for axis in axes]

    def at(*values: Any) -> Any:
        chosen = dict(zip(names, values, strict=True))
        return run(
            jax.tree_util.tree_map_with_path(
                lambda path, leaf: chosen.get(jax.tree_util.keystr(path, simple=True, separator="."), leaf), hyper
            )
        )

    function: Callable[..., Any] = at
    for number in reversed(range(len(names))):
        in_axes = tuple(0 if other == number else None for other in range(len(names)))
        function = jax.vmap(function, in_axes, behind)
    return function


def arrays(axes: Sequence[Axis], hyper: Any) -> tuple[jax.Array, ...]:
    """Return the values of traced `axes` as arrays, each with the dtype of its number in `hyper`."""
    dtypes = {
        jax.tree_util.keystr(path, simple=True, separator="."): jnp.result_type(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(hyper)
    }
    return tuple(jnp.asarray(axis.values, dtypes[axis.name]) for axis in axes)
