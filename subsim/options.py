"""Options that refuse bad values in one sentence."""

import dataclasses
import difflib
import inspect
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Literal, TypeVar

T = TypeVar("T")
Size = Literal["tiny", "mnist", "paper"]  # of a study
SMALLEST: Size = "tiny"  # the default size of a run
LARGER: tuple[Size, ...] = ("mnist", "paper")


class UserError(Exception):
    """A mistake that the user can correct; its text is one sentence that names the field or file and the remedy."""


def require(holds: object, sentence: str) -> None:
    """Raise `UserError` with `sentence` unless `holds`."""
    if not holds:
        raise UserError(sentence)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return " (did you mean X?)" with the known word most similar to `word`; "" where none is similar."""
    found = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {found[0]}?)" if found else ""


def require_takes(what: str, function: Any, *arguments: str) -> None:
    """Raise `UserError` unless `function` can be called with these arguments, in this order; `what` names it."""
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        raise UserError(
            f"{what}: the function is called as {what}({', '.join(arguments)}), which it does not take."
        ) from None
    except ValueError:  # it does not say what it takes
        return


def require_number(what: str, found: Any, of: str) -> None:
    """Raise `UserError` unless `found`, the result of the user's function `what` for each `of`, is a single number."""
    shape = tuple(getattr(found, "shape", ()))
    require(shape == (), f"{what}: the function must give one number for {of}, and gives shape {shape}.")


def require_choice(field: str, value: Any, choices: Any) -> None:
    """Raise `UserError`, with a list of all `choices`, unless `value` is one of them."""
    if value not in choices:
        names = list(map(str, choices))
        raise UserError(f"{field} is {value!r}{nearest(str(value), names)}; choose one of {', '.join(names)}.")


# A bound of a range -> the words for it, and the comparison of a number with it.
_BOUNDS = {
    "above": ("above", operator.gt),
    "least": ("of at least", operator.ge),
    "below": ("below", operator.lt),
    "most": ("of at most", operator.le),
}


def require_range(options: Any, *names: str, whole: bool = False, of: str = "", **bounds: int | float) -> None:
    """Raise `UserError` unless every option of `options` in `names` is a finite number within the bounds.

    The bounds `above` and `below` are exclusive, `least` and `most` inclusive. A `whole` number without `most` is below
    2^31, because an index on a device has 32 bits. An option with the default None may be None; an option with a tuple
    as its default takes one or more such numbers. `of` is a prefix of the names: `student` for `student.steps`.
    """
    if whole and "most" not in bounds:
        bounds["below"] = 2**31
    kind: Any = Integral if whole else Real

    def fits(value: Any) -> bool:
        number = value.item() if getattr(value, "ndim", None) == 0 else value  # a NumPy or JAX array may hold it
        if not isinstance(number, kind) or isinstance(number, bool):
            return False
        return abs(number) < math.inf and all(_BOUNDS[name][1](number, bound) for name, bound in bounds.items())

    word = "whole number" if whole else "finite number"
    limits = " and ".join(f"{_BOUNDS[name][0]} {'2^31' if bound == 2**31 else bound}" for name, bound in bounds.items())
    for name in names:
        value, default = get(options, name), getattr(type(options), name, ...)
        if isinstance(value if default is ... else default, tuple):
            good = isinstance(value, tuple | list) and len(value) > 0 and all(map(fits, value))
            wanted = f"one or more {word}s, each {limits}"
        else:
            good = fits(value) or (value is None and default is None)
            wanted = f"a {word} {limits}" + (", or None" if default is None else "")
        require(good, f"{of and of + '.'}{name} is {value!r}; it must be {wanted}.")


def field_names(options: Any) -> Sequence[str]:
    """Return the names of the options in a dataclass, NamedTuple or dictionary; no names for a single value."""
    if dataclasses.is_dataclass(options):
        return [field.name for field in dataclasses.fields(options)]
    return list(getattr(options, "_fields", options if isinstance(options, dict) else ()))


def dotted_names(options: Any, group: str = "") -> list[str]:
    """Return the dotted names of all options in nested dataclasses, NamedTuples or dictionaries."""
    inner = {f"{group}{name}": get(options, name) for name in field_names(options)}
    return [each for name, part in inner.items() for each in dotted_names(part, f"{name}.") or [name]]


def label(value: Any) -> Any:
    """Return a value as a coordinate label: tuples become text, as in a command."""
    return "-".join(map(str, value)) if isinstance(value, tuple) else value


def get(options: Any, name: str) -> Any:
    """Return the option with this dotted name from nested dataclasses, NamedTuples or dictionaries."""
    for part in name.split("."):
        options = options[part] if isinstance(options, dict) else getattr(options, part)
    return options


def has(options: Any, name: str) -> bool:
    """Return whether `options` has an option with this dotted name that is not itself a group of options."""
    head, _, rest = name.partition(".")
    if head not in field_names(options):
        return False
    inner = get(options, head)
    return has(inner, rest) if rest else not field_names(inner)


def replaced(options: Any, name: str, value: Any) -> Any:
    """Return `options` (nested dataclasses, NamedTuples or dictionaries) with the option `name` set to `value`."""
    head, _, rest = name.partition(".")
    if rest:
        value = replaced(get(options, head), rest, value)
    if isinstance(options, dict):
        return options | {head: value}
    if dataclasses.is_dataclass(options) and not isinstance(options, type):
        return dataclasses.replace(options, **{head: value})
    return options._replace(**{head: value})


def overridden(options: T, values: Mapping[str, Any]) -> T:
    """Return a copy of a dataclass with its fields replaced by the `values` of the same name."""
    known: Any = options
    named = {name: values[name] for name in field_names(options) if name in values}
    return dataclasses.replace(known, **named) if named else options
