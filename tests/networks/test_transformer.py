import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from flax import nnx

from subsim.networks.layers import LayerNorm
from subsim.networks.transformer import make_transformer
from subsim.options import UserError


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def affine(params, x):
    return x @ np.asarray(params["kernel"]) + (np.asarray(params["bias"]) if "bias" in params else 0)


def normalised(params, x):
    spread = np.sqrt(x.var(axis=1, keepdims=True) + 1e-6)
    return (x - x.mean(axis=1, keepdims=True)) / spread * np.asarray(params["scale"]) + np.asarray(params["bias"])


def attended(params, x, heads):
    """Each head's mean of the values of all tokens, in the proportions of a token's scores, token by token."""
    query, key, value = (np.split(affine(params[name], x), heads, axis=1) for name in ("query", "key", "value"))
    mixed = np.zeros_like(x)
    for head, columns in enumerate(np.split(np.arange(x.shape[1]), heads)):
        for token in range(len(x)):
            scores = key[head] @ query[head][token] / np.sqrt(len(columns))
            mixed[token, columns] = scipy.special.softmax(scores) @ value[head]
    return affine(params["out"], mixed)


@pytest.mark.parametrize(("side", "patch", "depth"), [(8, 4, 2), (8, 2, 1), (28, 7, 1)])
def test_the_transformer_is_the_textbook_one(side, patch, depth, x64):
    network = make_transformer(side**2, 4, 3, patch=patch, width=12, depth=depth, heads=3, init="torch")
    draws = np.random.default_rng(0)
    # From anywhere, so that norms and positions matter.
    params = jax.tree.map(lambda leaf: leaf + 0.3 * draws.normal(size=leaf.shape), network.init(jax.random.key(0)))
    x = jnp.asarray(draws.normal(size=side**2))
    image, corners = np.asarray(x).reshape(side, side), range(0, side, patch)
    patches = np.stack([image[i : i + patch, j : j + patch].ravel() for i in corners for j in corners])
    tokens = affine(params["embedding"], patches) + np.asarray(params["positions"])
    for layer in range(depth):
        block = params["blocks"][layer]
        tokens = tokens + attended(block, normalised(block["norm_attention"], tokens), heads=3)
        tokens = tokens + affine(block["down"], gelu(affine(block["up"], normalised(block["norm_mlp"], tokens))))
    features = normalised(params["norm"], tokens).mean(axis=0)
    heads = [affine(params[head], features) for head in ("class_head", "aux_head")]
    np.testing.assert_allclose(network.features(params, x), features, atol=1e-12)
    np.testing.assert_allclose(network.apply(params, x), np.concatenate(heads), atol=1e-12)


def test_layer_norm_is_flax_s():
    x = jax.random.normal(jax.random.key(0), (3, 5))
    np.testing.assert_allclose(LayerNorm(5)(x), nnx.LayerNorm(5, rngs=nnx.Rngs(0))(x), atol=1e-6)


def test_positions_tell_patches_apart():
    network = make_transformer(64, 4, 3, width=8, depth=1)
    params = network.init(jax.random.key(0))
    image = jax.random.normal(jax.random.key(1), (8, 8))
    a, b = (network.apply(params, x.ravel()) for x in (image, jnp.roll(image, 4, axis=0)))
    assert jnp.abs(a - b).max() > 1e-5
    params["positions"] = jax.tree.map(jnp.zeros_like, params["positions"])
    a, b = (network.apply(params, x.ravel()) for x in (image, jnp.roll(image, 4, axis=0)))
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_bad_options_are_one_sentence():
    for options, sentence in (
        ({"patch": 3}, "patch is 3; it must divide the side of the images, 8"),
        ({"heads": 5}, "heads is 5; it must divide the width, 32"),
        ({"depth": 0}, "depth is 0"),
        ({"width": 0}, "width is 0"),
    ):
        with pytest.raises(UserError, match=sentence):
            make_transformer(64, 4, 3, **options)
    with pytest.raises(UserError, match=r"^The network transformer needs square images, but 65 pixels make none"):
        make_transformer(65, 4, 3)
