"""What a traced program computes, counted before any compiler has seen it: FLOPs, and bytes of values."""

import math
from collections.abc import Mapping
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn


def matrix_flops(jaxpr: Jaxpr) -> int:
    """FLOPs of the matrix products in one call of the program, a multiplication and an addition each, on each device.

    A loop counts as often as it runs, which XLA's own count leaves out; one whose number of rounds is only known when
    it runs counts once, and a choice as its dearest branch.
    """
    return sum(map(_flops, jaxpr.eqns))


def carried_flops(jaxpr: Jaxpr) -> int:
    """Of `matrix_flops`, those in loops that carry something from round to round: of a training, say, and not of an
    evaluation, batch by batch."""
    return sum(
        _flops(equation) if _carries(equation) else sum(map(carried_flops, _inner(equation.params)))
        for equation in jaxpr.eqns
    )


def _carries(equation: JaxprEqn) -> bool:
    return equation.primitive.name == "while" or equation.params.get("num_carry", 0) > 0


def _flops(equation: JaxprEqn) -> int:
    parts = [matrix_flops(inner) for inner in _inner(equation.params)]
    match equation.primitive.name:
        case "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left: Any = equation.invars[0].aval
            product: Any = equation.outvars[0].aval
            return 2 * product.size * math.prod(left.shape[dim] for dim in contracted)
        case "scan":
            return equation.params["length"] * sum(parts)
        case "cond":
            return max(parts)
        case _:
            return sum(parts)


def value_bytes(jaxpr: Jaxpr) -> int:
    """Bytes of all values that the program computes, those of a loop's body once, of a choice those of its dearest
    branch: a measure of what it keeps in a cache while it runs, though a compiler fuses many of them away."""
    total = 0
    for equation in jaxpr.eqns:
        parts = [value_bytes(inner) for inner in _inner(equation.params)]
        if parts:
            total += max(parts) if equation.primitive.name == "cond" else sum(parts)
        else:
            values: list[Any] = [variable.aval for variable in equation.outvars]
            total += sum(value.size * value.dtype.itemsize for value in values)
    return total


def _inner(params: Mapping[str, Any]) -> list[Jaxpr]:
    """The programs inside an equation with these parameters."""
    inner = [leaf for leaf in jax.tree.leaves(list(params.values())) if isinstance(leaf, ClosedJaxpr | Jaxpr)]
    return [leaf.jaxpr if isinstance(leaf, ClosedJaxpr) else leaf for leaf in inner]
