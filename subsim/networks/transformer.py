"""The transformer: attention between the patches of an image, and the two heads on their mean."""

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
    """Attention and a perceptron, each added to the tokens and each on the tokens normalised (pre-norm)."""

    def __init__(self, width: int, heads: int, scheme: InitScheme, *, rngs: nnx.Rngs):
        self.heads = heads
        self.norm_attention, self.norm_mlp = LayerNorm(width), LayerNorm(width)
        self.query = affine(scheme, width, width, rngs=rngs)
        # A bias of the keys would shift a token's scores all alike, which softmax undoes: no gradient would reach it.
        self.key = affine(scheme, width, width, use_bias=False, rngs=rngs)
        self.value = affine(scheme, width, width, rngs=rngs)
        self.out = affine(scheme, width, width, rngs=rngs)
        self.up, self.down = affine(scheme, width, 4 * width, rngs=rngs), affine(scheme, 4 * width, width, rngs=rngs)

    def attention(self, x: Tokens) -> Tokens:
        """Mix the tokens: flax's attention asks for a promoted dtype too."""
        query, key, value = (layer(x).reshape(len(x), self.heads, -1) for layer in (self.query, self.key, self.value))
        scores = jnp.einsum("qhd,khd->hqk", query, key) / query.shape[-1] ** 0.5
        return self.out(jnp.einsum("hqk,khd->qhd", jax.nn.softmax(scores), value).reshape(x.shape))

    def __call__(self, x: Tokens) -> Tokens:
        """The tokens after one block."""
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
        draw = jax.nn.initializers.normal(0.02)  # small beside the tokens, as the vision transformer has them
        self.positions = nnx.Param(draw(rngs.params(), (n_tokens, width), jnp.result_type(float)))
        self.blocks = nnx.List([Block(width, heads, scheme, rngs=rngs) for _ in range(depth)])
        self.norm = LayerNorm(width)
        self.class_head = affine(scheme, width, n_class, rngs=rngs)
        self.aux_head = affine(scheme, width, n_aux, rngs=rngs)

    def features(self, x: Float[Array, "side side"]) -> Float[Array, " width"]:
        """The mean of the tokens after the last block, in which the logits are affine."""
        rows = x.shape[0] // self.patch
        patches = x.reshape(rows, self.patch, rows, self.patch).swapaxes(1, 2).reshape(rows**2, -1)
        tokens = self.embedding(patches) + self.positions[...]
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens).mean(axis=0)

    def __call__(self, x: Float[Array, "side side"]) -> Float[Array, " logits"]:
        """Logits of one example, class logits first."""
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
    """Make the transformer of square grey images, a token for each `patch` x `patch` pixels.

    Its groups are hidden, class_head and aux_head. `UserError` where `n_pixels` is no square, the patch does not divide
    the image's side, or the heads do not divide the width.
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
