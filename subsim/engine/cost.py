"""What one seed costs, counted from its trace: FLOPs of matrix products, and bytes of values."""

import math
from typing import Any, NamedTuple

import jax

UNKNOWN_ROUNDS = 100  # of a loop whose number is known only when it runs: a search, or conjugate gradients


class Cost(NamedTuple):
    """The cost of one seed.

    `flops` counts the FLOPs of its matrix products and convolutions. A loop counts them for each of its iterations,
    which XLA's own count does not. `bytes` is the size of all values that the seed computes. A loop counts them once,
    because they measure how much of a cache a running seed fills. `product` is the FLOPs of the largest single matrix
    product. Of a batched product it is one element, because XLA computes the elements in turn on a CPU.
    """

    flops: int = 0
    bytes: int = 0
    product: int = 0


def cost_of(traced: jax.stages.Traced) -> Cost:
    """Return the cost of a traced run of one seed, with all values of its axes."""
    return _cost(traced.jaxpr)


def _cost(jaxpr: Any) -> Cost:
    parts = [_of_equation(equation) for equation in jaxpr.eqns]
    return _sum(parts)


def _sum(parts: list[Cost]) -> Cost:
    flops, size = sum(part.flops for part in parts), sum(part.bytes for part in parts)
    return Cost(flops, size, max((part.product for part in parts), default=0))


def _of_equation(equation: Any) -> Cost:
    bodies = [leaf for leaf in jax.tree.leaves(list(equation.params.values())) if hasattr(leaf, "eqns")]
    parts = [_cost(body) for body in bodies]
    flops, size, product = _sum(parts)
    match equation.primitive.name:
        case "dot_general":
            (contracted, _), (batch, _) = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            flops = 2 * math.prod(shape[dim] for dim in contracted) * equation.outvars[0].aval.size
            product = flops // max(1, math.prod(shape[dim] for dim in batch))
        case "conv_general_dilated":
            kernel = equation.invars[1].aval
            outputs = kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]]
            flops = product = 2 * kernel.size // outputs * equation.outvars[0].aval.size
        case "scan":
            flops *= equation.params["length"]
        case "while":
            flops *= UNKNOWN_ROUNDS
        case "cond":
            flops, size = max(part.flops for part in parts), max(part.bytes for part in parts)
    if not parts:
        size = sum(result.aval.size * result.aval.dtype.itemsize for result in equation.outvars)
    return Cost(flops, size, product)
