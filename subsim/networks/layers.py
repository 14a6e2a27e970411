"""Layers, image sides and parameter groups for the CNN and the transformer."""

import math

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from subsim.networks.initial import INITIALISERS, InitScheme
from subsim.options import require


def affine(scheme: InitScheme, fan_in: int, fan_out: int, *, rngs: nnx.Rngs, use_bias: bool = True) -> nnx.Linear:
    """Make an affine map of vectors, with the initial weights and biases of `scheme`."""
    kernel, bias = INITIALISERS[scheme](fan_in)
    float_ = jnp.result_type(float)
    return nnx.Linear(
        fan_in, fan_out, use_bias=use_bias, kernel_init=kernel, bias_init=bias, param_dtype=float_, rngs=rngs
    )


def side_of(network: str, n_pixels: int) -> int:
    """Return the side of a square image of `n_pixels`; raise `UserError` if `n_pixels` is not a square."""
    side = math.isqrt(n_pixels)
    require(
        side**2 == n_pixels,
        f"The network {network} needs square images, but {n_pixels} pixels make none; choose other data or a network "
        "of flat examples.",
    )
    return side


def group_of(path: str) -> str:
    """Return the group of a parameter: class_head, aux_head, or hidden for all others."""
    first = path.split(".")[0]
    return first if first in ("class_head", "aux_head") else "hidden"


class LayerNorm(nnx.Module):
    """Layer normalisation: subtract each token's mean, divide by its standard deviation, then apply `scale` and `bias`.

    flax's LayerNorm computes in a promoted dtype, which strict dtype promotion refuses.
    """

    def __init__(self, width: int):
        self.scale = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width))

    def __call__(self, x: Float[Array, "tokens width"]) -> Float[Array, "tokens width"]:
        """Normalise every token."""
        centred = x - x.mean(axis=-1, keepdims=True)
        spread = jnp.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6)
        return centred / spread * self.scale[...][None] + self.bias[...][None]
