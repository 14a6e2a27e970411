"""The properties of the CNN and of the transformer as networks of the experiment, on the shapes of every data set."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subsim.networks.cnn import CNN, make_cnn
from subsim.networks.transformer import Transformer, make_transformer

small_cnn = functools.partial(make_cnn, channels=(3, 4))
small_transformer = functools.partial(make_transformer, width=8, depth=2)
KINDS = {"cnn": (small_cnn, CNN), "transformer": (small_transformer, Transformer)}
NETWORKS = pytest.mark.parametrize("kind", KINDS)
PIXELS = pytest.mark.parametrize("n_pixels", [64, 784])


def drawn(kind, n_pixels, key=0):
    network = KINDS[kind][0](n_pixels, 4, 3)
    x = jax.random.normal(jax.random.key(9), (n_pixels,), jnp.result_type(float))
    return network, network.init(jax.random.key(key)), x


@NETWORKS
@PIXELS
@pytest.mark.parametrize("precision", [32, 64])
def test_gradients_reach_every_parameter_in_either_precision(kind, n_pixels, precision):
    with jax.enable_x64(precision == 64):
        network, params, x = drawn(kind, n_pixels)

        def loss(params):
            return jnp.sum(jnp.sin(network.apply(params, x)))

        slope = jax.jit(jax.grad(loss))(params)
        arrays = jax.tree.leaves((params, slope, network.apply(params, x), network.features(params, x)))
        assert {array.dtype for array in arrays} == {jnp.dtype(f"float{precision}")}
        assert all(leaf.any() for leaf in jax.tree.leaves(slope))
        _, change = jax.jvp(loss, (params,), (slope,))
        squares = sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(slope))
        np.testing.assert_allclose(change, squares, rtol=1e-4 if precision == 32 else 1e-12)


@NETWORKS
def test_a_stack_of_networks_is_networks_one_by_one(kind, x64):
    network, alone, _ = drawn(kind, 64, key=0)
    keys = jnp.stack([jax.random.key(seed) for seed in range(3)])
    images = jax.random.normal(jax.random.key(1), (5, 64))
    stacked = jax.jit(jax.vmap(network.init))(keys)
    of_each = jax.jit(jax.vmap(jax.vmap(network.apply, in_axes=(None, 0)), in_axes=(0, None)))
    logits = of_each(stacked, images)
    assert logits.shape == (3, 5, 7)
    assert len({float(each[0, 0]) for each in logits}) == 3
    np.testing.assert_allclose(logits[0, 2], network.apply(alone, images[2]), rtol=1e-9)


@NETWORKS
def test_groups_are_those_of_the_mlp(kind):
    network, params, x = drawn(kind, 64)
    paths = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in jax.tree.leaves_with_path(params)]
    groups = [network.groups(path) for path in paths]
    assert set(groups) == {"hidden", "class_head", "aux_head"}

    def moved(group):
        """Logits that change with the parameters of one group."""
        leaves, structure = jax.tree.flatten(params)
        others = [leaf + float(name == group) for leaf, name in zip(leaves, groups, strict=True)]
        change = network.apply(jax.tree.unflatten(structure, others), x) - network.apply(params, x)
        return np.flatnonzero(np.abs(change) > 1e-3).tolist()

    assert moved("class_head") == [0, 1, 2, 3]
    assert moved("aux_head") == [4, 5, 6]
    assert set(moved("hidden")) & {0, 1, 2, 3}


@NETWORKS
def test_a_rebuilt_network_is_the_flax_module(kind):
    network, params, x = drawn(kind, 64)
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    module = network.rebuild(params)
    assert isinstance(module, KINDS[kind][1])
    image = x.reshape((8, 8, 1) if kind == "cnn" else (8, 8))
    np.testing.assert_array_equal(module(image), network.apply(params, x))


@NETWORKS
@pytest.mark.parametrize(("init", "gain"), [("lecun", 1.0), ("he", 2.0), ("torch", 1 / 3)])
def test_initial_weights_have_the_variance_of_their_scheme(kind, init, gain):
    make = make_cnn if kind == "cnn" else functools.partial(make_transformer, width=64)
    params = make(784, 10, 300, init=init).init(jax.random.key(0))
    kernel = np.asarray(params["aux_head"]["kernel"])
    np.testing.assert_allclose(kernel.var() * len(kernel), gain, rtol=0.05)
    assert bool(np.asarray(params["aux_head"]["bias"]).any()) == (init == "torch")
