import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from subsim.engine.program import arithmetic
from subsim.network import NetworkConfig, imitated_logits, make_mlp


def test_forward_pass_is_the_textbook_one(x64):
    network = make_mlp(NetworkConfig(widths=(7, 5), n_aux=2, init="torch"), 6, 4)
    params = network.init(jax.random.key(0))
    x = np.random.default_rng(0).normal(size=6)
    h = x
    for layer in (0, 1):
        h = np.maximum(h @ params["hidden"][layer]["kernel"][...] + params["hidden"][layer]["bias"][...], 0)
    heads = [h @ params[head]["kernel"][...] + params[head]["bias"][...] for head in ("class_head", "aux_head")]
    np.testing.assert_allclose(network.apply(params, jnp.asarray(x)), np.concatenate(heads), rtol=1e-12)


def weights(init, width=400):
    params = make_mlp(NetworkConfig(widths=(width,), init=init), 900, 10).init(jax.random.key(1))
    layer = params["hidden"][0]
    return np.asarray(layer["kernel"][...]).ravel(), np.asarray(layer["bias"][...]).ravel()


@pytest.mark.parametrize(("init", "variance"), [("lecun", 1 / 900), ("he", 2 / 900)])
def test_normal_inits(init, variance):
    kernel, bias = weights(init)
    assert scipy.stats.kstest(kernel / variance**0.5, "norm").pvalue > 1e-3
    assert not bias.any()


def test_torch_init_is_uniform_with_its_biases():
    # nn.Linear documents U(-k, k) with k = 1/sqrt(in_features) for its weight and its bias.
    law = scipy.stats.uniform(-1 / 30, 2 / 30).cdf
    for values in weights("torch"):
        assert scipy.stats.kstest(values, law).pvalue > 1e-3


def test_parameters_follow_the_precision_in_force():
    network = make_mlp(NetworkConfig(widths=(4,)), 3, 2)
    assert {leaf.dtype for leaf in jax.tree.leaves(network.init(jax.random.key(0)))} == {jnp.dtype("float32")}
    with jax.enable_x64(True):
        assert {leaf.dtype for leaf in jax.tree.leaves(network.init(jax.random.key(0)))} == {jnp.dtype("float64")}


def test_bfloat16_rounds_operands_and_sums_in_float32():
    network = make_mlp(NetworkConfig(widths=(64,), n_aux=4), 32, 4)
    params = network.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (32,))

    def rounded(values):
        return np.asarray(values.astype(jnp.bfloat16)).astype(np.float64)

    hidden = np.maximum(rounded(x) @ rounded(params["hidden"][0]["kernel"][...]), 0)
    aux = rounded(jnp.asarray(hidden, jnp.float32)) @ rounded(params["aux_head"]["kernel"][...])
    with arithmetic("bfloat16"):
        output = jax.jit(network.apply)(params, x)
        gradient = jax.grad(lambda params: network.apply(params, x).sum())(params)
    assert {leaf.dtype for leaf in jax.tree.leaves((output, gradient))} == {jnp.dtype("float32")}
    np.testing.assert_allclose(output[4:], aux, atol=1e-5)
    with arithmetic("float32"):
        exact = network.apply(params, x)
    assert 1e-4 < float(jnp.abs(output - exact).max()) < 0.1


@pytest.mark.parametrize("n_imitated", [None, 1, 3])
def test_masks(n_imitated):
    aux_only, all_logits = imitated_logits(4, 3, n_imitated)
    imitated = [True] * (n_imitated or 3) + [False] * (3 - (n_imitated or 3))
    assert aux_only.tolist() == [False] * 4 + imitated
    assert all_logits.tolist() == [True] * 4 + imitated
