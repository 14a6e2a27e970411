"""The arithmetic of a traced program, counted before any compiler has seen it."""

import math
from collections.abc import Mapping
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr


def matrix_flops(jaxpr: Jaxpr) -> int:
    """FLOPs of the matrix products in one call of the program, a multiplication and an addition each, on each device.

    A loop counts as often as it runs, which XLA's own count leaves out; one whose number of rounds is only known when
    it runs counts once, and a choice as its dearest branch.
    """
    total = 0
    for equation in jaxpr.eqns:
        parts = [matrix_flops(inner) for inner in _inner(equation.params)]
        match equation.primitive.name:
            case "dot_general":
                (contracted, _), _ = equation.params["dimension_numbers"]
                left: Any = equation.invars[0].aval
                product: Any = equation.outvars[0].aval
                total += 2 * product.size * math.prod(left.shape[dim] for dim in contracted)
            case "scan":
                total += equation.params["length"] * sum(parts)
            case "cond":
                total += max(parts)
            case _:
                total += sum(parts)
    return total


def _inner(params: Mapping[str, Any]) -> list[Jaxpr]:
    """The programs inside an equation with these parameters."""
    inner = [leaf for leaf in jax.tree.leaves(list(params.values())) if isinstance(leaf, ClosedJaxpr | Jaxpr)]
    return [leaf.jaxpr if isinstance(leaf, ClosedJaxpr) else leaf for leaf in inner]
