"""The transformer: attention between the patches of an image, and the two heads on the mean token."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from subsim.networks.adapters import from_flax
from subsim.networks.initial import INITIALISERS, InitScheme
from subsim.networks.layers import LayerNorm, affine, group_of, side_of
from subsim.networks.network import Network
from subsim.options import require, require_choice, require_range

Tokens = Float[Array, "tokens width"]


class Block(nnx.Module):
    """Attention and an MLP, each applied to the normalised tokens (pre-norm) and added to the tokens."""

    def __init__(self, width: int, heads: int, scheme: InitScheme, *, rngs: nnx.Rngs):
        self.heads = heads
        self.norm_attention, self.norm_mlp = LayerNorm(width), LayerNorm(width)
        self.query = affine(scheme, width, width, rngs=rngs)
        # A key bias would shift all scores of a token equally; softmax cancels it, and its gradient is zero.
        self.key = affine(scheme, width, width, use_bias=False, rngs=rngs)
        self.value = affine(scheme, width, width, rngs=rngs)
        self.out = affine(scheme, width, width, rngs=rngs)
        self.up, self.down = affine(scheme, width, 4 * width, rngs=rngs), affine(scheme, 4 * width, width, rngs=rngs)

    def attention(self, x: Tokens) -> Tokens:
        """Mix the tokens by attention; flax's attention needs a promoted dtype, which strict promotion refuses."""
        query, key, value = (layer(x).reshape(len(x), self.heads, -1) for layer in (self.query, self.key, self.value))
        scores = jnp.einsum("qhd,khd->hqk", query, key) / query.shape[-1] ** 0.5
        return self.out(jnp.einsum("hqk,khd->qhd", jax.nn.softmax(scores), value).reshape(x.shape))

    def __call__(self, x: Tokens) -> Tokens:
        """Return the tokens after one block."""
        x = x + self.attention(self.norm_attention(x))
        return x + self.down(jax.nn.gelu(self.up(self.norm_mlp(x))))


class Transformer(nnx.Module):
    """Patches as tokens with learned positions, pre-norm blocks, and the heads on the mean of the normalised tokens."""

    def __init__(
        self,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        scheme: InitScheme,
        side: int,
        n_class: int,
        n_aux: int,
        *,
        rngs: nnx.Rngs,
    ):
        self.patch, n_tokens = patch, (side // patch) ** 2
        self.embedding = affine(scheme, patch**2, width, rngs=rngs)
        draw = jax.nn.initializers.normal(0.02)  # small compared with the tokens, as in the vision transformer
        self.positions = nnx.Param(draw(rngs.params(), (n_tokens, width), jnp.result_type(float)))
        self.blocks = nnx.List([Block(width, heads, scheme, rngs=rngs) for _ in range(depth)])
        self.norm = LayerNorm(width)
        self.class_head = affine(scheme, width, n_class, rngs=rngs)
        self.aux_head = affine(scheme, width, n_aux, rngs=rngs)

    def features(self, x: Float[Array, "side side"]) -> Float[Array, " width"]:
        """Return the mean normalised token after the last block; the logits are affine in it."""
        rows = x.shape[0] // self.patch
        patches = x.reshape(rows, self.patch, rows, self.patch).swapaxes(1, 2).reshape(rows**2, -1)
        tokens = self.embedding(patches) + self.positions[...]
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens).mean(axis=0)

    def __call__(self, x: Float[Array, "side side"]) -> Float[Array, " logits"]:
        """Return the logits of one example, class logits first."""
        features = self.features(x)
        return jnp.concatenate([self.class_head(features), self.aux_head(features)])


def make_transformer(
    n_pixels: int,
    n_class: int,
    n_aux: int,
    *,
    patch: int = 4,
    width: int = 32,
    depth: int = 2,
    heads: int = 2,
    init: InitScheme = "lecun",
) -> Network:
    """Make a transformer for square grey images, with one token for each patch of `patch` x `patch` pixels.

    Its parameter groups are hidden, class_head and aux_head. Raises `UserError` if `n_pixels` is not a square, `patch`
    does not divide the image's side, or `heads` does not divide the width.
    """
    options = {"patch": patch, "width": width, "depth": depth, "heads": heads}
    require_range(options, *options, least=1, whole=True)
    require_choice("init", init, INITIALISERS)
    require(width % heads == 0, f"heads is {heads}; it must divide the width, {width}.")
    side = side_of("transformer", n_pixels)
    require(side % patch == 0, f"patch is {patch}; it must divide the side of the images, {side}.")

    def build(_: int, *, rngs: nnx.Rngs) -> Transformer:
        return Transformer(patch, width, depth, heads, init, side, n_class, n_aux, rngs=rngs)

    network = from_flax(build, image=(side, side), features=Transformer.features)(n_pixels, n_class, n_aux)
    return network._replace(groups=group_of)
