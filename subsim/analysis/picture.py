"""Choose the content of a picture of a sweep: a variable, and dimensions for its axis, lines and panels."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import xarray as xr

from subsim.engine.study import RESERVED
from subsim.options import UserError, require

CONDITIONS = ("condition", "student")
"""Dimensions that are lines by default."""

MOST_LINES = 20
"""Labels of a dimension that `suggested` makes lines or panels while another could be."""


class Picture(NamedTuple):
    """The content of a picture: `values` over the seed, `x` and, if they are named, `lines` and `panels`.

    `single` has the one label of each other dimension, and `only` has the labels that the user chose.
    """

    values: xr.DataArray
    x: str
    lines: str | None
    panels: str | None
    single: dict[str, str]
    only: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """A name for the picture's file: the variable, the dimensions and the labels."""
        words = [str(self.values.name), "over", self.x]
        words += ["by", self.lines] if self.lines else []
        words += ["panels", self.panels] if self.panels else []
        words += ["only", *self.only] if self.only else []
        return re.sub(r"[^\w.=+-]+", "-", "-".join(words)).strip("-.")[:200]


def picture(
    results: xr.Dataset,
    x: str,
    lines: str | None = None,
    panels: str | None = None,
    only: Sequence[str] = (),
    y: str | None = None,
) -> Picture:
    """Return the picture of `results` with these dimensions.

    `x`, `lines` and `panels` name dimensions; `-` may stand for `_` or `.`. `only` are labels, as `LABEL` or
    `DIM=LABEL`. By default `y` is the trait's `rate`, or else `accuracy`, or else the first variable of floats
    that has these dimensions.

    Raises `UserError` for a name that is not in the results, and for a dimension that the picture does not use.
    """
    variables = averaged(results)
    dims = list(dict.fromkeys(str(dim) for values in variables.values() for dim in values.dims if dim != "seed"))
    asked = {"x": x, "lines": lines, "panels": panels}
    places = {option: _dimension(option, name, dims) for option, name in asked.items() if name is not None}
    for option, dim in places.items():
        alone = list(places.values()).count(dim) == 1
        require(alone, f"{option}: {dim} is named twice; give --x, --lines and --panels different dimensions.")
    together = " and ".join(places.values())
    fitting = [name for name, values in variables.items() if set(places.values()) <= set(values.dims)]
    require(len(fitting) > 0, f"x: no variable of the results has {together}; leave a dimension out.")
    y = fitting[0] if y is None else y
    require(y in variables, f"y is {y!r}, but the results have no such variable; choose one of {', '.join(fitting)}.")
    lacking = " and ".join(dim for dim in places.values() if dim not in variables[y].dims)
    require(not lacking, f"y: {y} has no dimension {lacking}; choose one of {', '.join(fitting)}.")
    values = _reduced(variables[y], only)
    if "lines" not in places:
        conditions = [dim for dim in CONDITIONS if dim in _free(values, list(places.values()))]
        places |= {"lines": conditions[0]} if conditions else {}
    left = _free(values, list(places.values()))
    if left:
        known = labels(values, left[0])
        some = ", ".join(map(str, known[:4])) + (", ..." if len(known) > 4 else "")
        raise UserError(
            f"{y} has the dimension{'s' * (len(left) > 1)} {' and '.join(left)} left over; give --lines, --panels or "
            f"--only {left[0]}=LABEL (of {some})."
        )
    single = [str(dim) for dim in values.dims if dim not in ("seed", *places.values())]
    its_label = {dim: str(labels(values, dim)[0]) for dim in single}
    return Picture(values, places["x"], places.get("lines"), places.get("panels"), its_label, tuple(only))


def suggested(results: xr.Dataset) -> dict[str, Any] | None:
    """Return the options of a `picture` of any results, with the longest axis of the sweep as `x`, a numeric one first.

    A curve longer than `MOST_LINES` is drawn along itself.

    Returns None if no numeric variable has a dimension other than the seed.
    """
    swept = list(results.attrs.get("sweep", {}))
    for values in averaged(results).values():
        free = _free(values)
        if free:
            x, *rest = sorted(
                free,
                key=lambda dim: (
                    dim not in swept,
                    dim in CONDITIONS,
                    not all_numbers(labels(values, dim)),
                    -values.sizes[dim],
                ),
            )
            longest = max(rest, key=lambda dim: values.sizes[dim], default=x)
            if values.sizes[longest] > MOST_LINES >= values.sizes[x]:  # a curve along its steps, not a line for each
                rest[rest.index(longest)], x = x, longest
            by_itself = next((dim for dim in CONDITIONS if dim in rest), None)
            rest = [dim for dim in rest if dim != by_itself]
            options: dict[str, Any] = dict(zip(["panels"] if by_itself else ["lines", "panels"], rest, strict=False))
            only = [f"{dim}={labels(values, dim)[0]}" for dim in rest[len(options) :]]
            return {"x": x} | options | ({"only": only} if only else {})
    return None


def labels(values: xr.DataArray, dim: str) -> list[Any]:
    """Return the labels of a dimension, or its indices if it has no labels."""
    return values[dim].values.tolist() if dim in values.coords else list(range(values.sizes[dim]))


def all_numbers(values: Sequence[Any]) -> bool:
    """Whether every label is a number."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def averaged(results: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return the variables with a mean over seeds: the trait's `rate`, `accuracy`, then the other floats."""
    found = {
        str(name): values
        for name, values in results.data_vars.items()
        if values.dtype.kind in "fiu" and "seed" in values.dims and name not in RESERVED
    }
    rank = {"rate": 0, "accuracy": 1}
    return dict(sorted(found.items(), key=lambda item: (rank.get(item[0], 2), item[1].dtype.kind != "f")))


def _free(values: xr.DataArray, placed: Sequence[str] = ()) -> list[str]:
    """Return the dimensions with more than one label, except the seed and the `placed` dimensions."""
    return [str(dim) for dim in values.dims if dim not in ("seed", *placed) and values.sizes[dim] > 1]


def _dimension(option: str, name: str, dims: Sequence[str]) -> str:
    """Return the dimension in `dims` that `name` names."""
    found = [dim for dim in dims if re.sub(r"[-.]", "_", dim) == re.sub(r"[-.]", "_", name)]
    require(
        len(found) > 0,
        f"{option} is {name!r}, but the results have no such dimension; choose one of {', '.join(dims)}.",
    )
    return name if name in found else found[0]


def _reduced(values: xr.DataArray, only: Sequence[str]) -> xr.DataArray:
    """Return `values` at the labels that `only` names."""
    chosen: dict[str, list[int]] = {}
    dims = [str(dim) for dim in values.dims if dim != "seed"]
    for word in only:
        head, equals, tail = word.partition("=")
        named = [dim for dim in dims if equals and re.sub(r"[-.]", "_", dim) == re.sub(r"[-.]", "_", head)]
        wanted = tail if named else word
        found = [
            (dim, position)
            for dim in named or dims
            for position, label in enumerate(labels(values, dim))
            if _is_label(label, wanted)
        ]
        if not found:
            known = "; ".join(f"{dim}: {', '.join(map(str, labels(values, dim)[:6]))}" for dim in named or dims)
            raise UserError(f"only is {word!r}, but {values.name} has no such label; choose one of {known}.")
        require(
            len(found) == 1,
            f"only: {wanted} is a label of {' and '.join(dim for dim, _ in found)}; use --only {found[0][0]}={wanted}.",
        )
        dim, position = found[0]
        chosen.setdefault(dim, []).append(position)
    return values.isel({dim: sorted(set(positions)) for dim, positions in chosen.items()})


def _is_label(label: Any, word: str) -> bool:
    """Return whether `word` names the label, as text or as the printed form of a number."""
    if str(label) == word:
        return True
    try:
        return isinstance(label, int | float) and not isinstance(label, bool) and f"{label:g}" == f"{float(word):g}"
    except ValueError:
        return False
