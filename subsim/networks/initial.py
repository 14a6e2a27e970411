"""The distributions of initial parameters."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

from subsim.networks.network import Params

InitScheme = Literal["lecun", "he", "torch"]


def _normal(variance: float) -> Callable[..., Array]:
    return jax.nn.initializers.normal(stddev=variance**0.5)


def _uniform(bound: float) -> Callable[..., Array]:
    def draw(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return draw


# scheme -> fan_in -> (initialiser of the weights, of the biases)
INITIALISERS: dict[str, Callable[[int], tuple[Callable[..., Array], Callable[..., Array]]]] = {
    "lecun": lambda fan_in: (_normal(1 / fan_in), jax.nn.initializers.zeros),
    "he": lambda fan_in: (_normal(2 / fan_in), jax.nn.initializers.zeros),
    "torch": lambda fan_in: (_uniform(fan_in**-0.5), _uniform(fan_in**-0.5)),
}


GAINS: dict[str, float] = {"lecun": 1.0, "he": 2.0, "torch": 1 / 3}
"""The variance of a weight times its fan-in, for each scheme."""


def initial_variances(scheme: InitScheme, params: Params) -> Params:
    """Return the variance of every initial parameter under `scheme`: a pytree like `params`."""
    gain, biases_too = GAINS[scheme], scheme == "torch"
    leaves = jax.tree.leaves_with_path(params)
    fan_in = {path[:-2]: leaf.shape[1] for path, leaf in leaves if leaf.ndim == 2}  # by layer

    def variance(path: Any, leaf: Array) -> Array:
        return jnp.full_like(leaf, gain / fan_in[path[:-2]] if leaf.ndim == 2 or biases_too else 0.0)

    return jax.tree.map_with_path(variance, params)
