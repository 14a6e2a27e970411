"""What a picture of a sweep shows: a variable, the dimensions of its axis, lines and panels, and labels of the rest."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import xarray as xr

from subsim.engine.study import RESERVED
from subsim.options import UserError, require

CONDITIONS = ("condition", "student")
"""Dimensions that are lines unless a picture says otherwise."""

MOST_LINES = 20
"""Labels of a dimension that `suggested` makes lines or panels while another could be."""


class Picture(NamedTuple):
    """What is drawn: `values` over the seed, `x` and, where these are named, `lines` and `panels`.

    `single` has the one label of each other dimension, and `only` the labels that were asked for.
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
    """Choose what is drawn of `results`.

    `x`, `lines` and `panels` name dimensions, with `-` for `_` or `.` where that is easier to type. `only` are labels,
    as `LABEL` or `DIM=LABEL`. `y` is by default `accuracy` if it has these dimensions, else the first variable of
    floats that has them.

    Raises `UserError` for a name that is none of the results', and for a dimension that has no place in the picture.
    """
    variables = averaged(results)
    dims = list(dict.fromkeys(str(dim) for values in variables.values() for dim in values.dims if dim != "seed"))
    asked = {"x": x, "lines": lines, "panels": panels}
    places = {option: _dimension(option, name, dims) for option, name in asked.items() if name is not None}
    for option, dim in places.items():
        alone = list(places.values()).count(dim) == 1
        require(alone, f"{option}: {dim} stands there twice; give --x, --lines and --panels a dimension each.")
    together = " and ".join(places.values())
    fitting = [name for name, values in variables.items() if set(places.values()) <= set(values.dims)]
    require(len(fitting) > 0, f"x: no variable of the results has {together}; leave a dimension out.")
    y = fitting[0] if y is None else y
    require(y in variables, f"y is {y!r}, which is no variable of the results; choose one of {', '.join(fitting)}.")
    lacking = " and ".join(dim for dim in places.values() if dim not in variables[y].dims)
    require(not lacking, f"y: {y} has no dimension {lacking}; choose one of {', '.join(fitting)}.")
    values = _reduced(variables[y], only)
    if "lines" not in places:
        its_own = [dim for dim in CONDITIONS if dim in _free(values, list(places.values()))]
        places |= {"lines": its_own[0]} if its_own else {}
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
    """Return the options of a `picture` of any results: the longest axis of their sweep, of numbers where there is one,
    against the others; a curve that is longer than `MOST_LINES` is drawn along itself.

    None where no variable of numbers has a dimension beside the seed.
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
    """The labels of a dimension; its positions where it has none."""
    return values[dim].values.tolist() if dim in values.coords else list(range(values.sizes[dim]))


def all_numbers(values: Sequence[Any]) -> bool:
    """Whether every label is a number."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def averaged(results: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return the variables that have a mean over seeds: `accuracy` first, then those of floats."""
    found = {
        str(name): values
        for name, values in results.data_vars.items()
        if values.dtype.kind in "fiu" and "seed" in values.dims and name not in RESERVED
    }
    return dict(sorted(found.items(), key=lambda item: (item[0] != "accuracy", item[1].dtype.kind != "f")))


def _free(values: xr.DataArray, placed: Sequence[str] = ()) -> list[str]:
    """The dimensions beside the seed and those `placed` that have more than one label."""
    return [str(dim) for dim in values.dims if dim not in ("seed", *placed) and values.sizes[dim] > 1]


def _dimension(option: str, name: str, dims: Sequence[str]) -> str:
    """The one of `dims` that `name` names."""
    found = [dim for dim in dims if re.sub(r"[-.]", "_", dim) == re.sub(r"[-.]", "_", name)]
    require(
        len(found) > 0, f"{option} is {name!r}, which is no dimension of the results; choose one of {', '.join(dims)}."
    )
    return name if name in found else found[0]


def _reduced(values: xr.DataArray, only: Sequence[str]) -> xr.DataArray:
    """`values` at the labels that `only` names."""
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
            raise UserError(f"only is {word!r}, which is no label of {values.name}; choose one of {known}.")
        require(
            len(found) == 1,
            f"only: {wanted} is a label of {' and '.join(dim for dim, _ in found)}; say --only {found[0][0]}={wanted}.",
        )
        dim, position = found[0]
        chosen.setdefault(dim, []).append(position)
    return values.isel({dim: sorted(set(positions)) for dim, positions in chosen.items()})


def _is_label(label: Any, word: str) -> bool:
    """Whether `word` names the label: as it is, or a number as it is printed."""
    if str(label) == word:
        return True
    try:
        return isinstance(label, int | float) and not isinstance(label, bool) and f"{label:g}" == f"{float(word):g}"
    except ValueError:
        return False
