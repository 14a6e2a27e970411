import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from subsim.engine.settings import fixed
from subsim.networks import network as networks
from subsim.networks.initial import initial_variances
from subsim.networks.mlp import LAYER_GROUPS, MLPConfig, make_mlp
from subsim.networks.network import Network
from subsim.networks.parameters import mixed, perturbed, rotated
from subsim.options import UserError
from subsim.training.losses import imitated_logits

HEADS = ("class_head", "aux_head")
ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "linear": lambda x: x,
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_forward_pass_is_the_textbook_one(activation, x64):
    network = make_mlp(MLPConfig(widths=(7, 5), n_aux=2, init="torch", activation=activation), 6, 4)
    params = network.init(jax.random.key(0))
    x = np.random.default_rng(0).normal(size=6)
    h = x
    for layer in (0, 1):
        h = ACTIVATIONS[activation](params["hidden"][layer]["weight"][...] @ h + params["hidden"][layer]["bias"][...])
    heads = [params[head]["weight"][...] @ h + params[head]["bias"][...] for head in HEADS]
    np.testing.assert_allclose(network.apply(params, jnp.asarray(x)), np.concatenate(heads), rtol=1e-12)


def test_an_activation_of_ones_own_takes_the_place_of_the_config_s():
    config, key, x = MLPConfig(widths=(7, 5), n_aux=2), jax.random.key(0), jnp.ones(6)
    own = make_mlp(config, 6, 4, activation=jnp.sin)
    h = x
    for layer in (0, 1):
        h = np.sin(own.init(key)["hidden"][layer]["weight"][...] @ h)
    heads = [own.init(key)[head]["weight"][...] @ h for head in HEADS]
    np.testing.assert_allclose(own.apply(own.init(key), x), np.concatenate(heads), rtol=1e-5)
    assert not np.allclose(own.apply(own.init(key), x), make_mlp(config, 6, 4).apply(own.init(key), x))


@pytest.mark.parametrize("n", [None, 3])
def test_logits_are_the_heads_on_the_features(n, x64):
    network = make_mlp(MLPConfig(widths=(7, 5), n_aux=2, init="torch"), 6, 4)
    params = network.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (n or 1, 6))
    of_one = np.asarray(network.features(params, x[0]))
    assert of_one.shape == (5,)
    features = np.asarray(networks.features(network, params, x))
    np.testing.assert_allclose(features[0], of_one, rtol=1e-12)
    assert (features >= 0).all()
    assert (features > 0).any()
    weight, bias = (np.concatenate([params[head][part][...] for head in HEADS]) for part in ("weight", "bias"))
    np.testing.assert_allclose(networks.logits(network, params, x), features @ weight.T + bias, rtol=1e-12)


def test_a_network_that_names_no_hidden_layer_says_so():
    network = make_mlp(MLPConfig(widths=(7,)), 6, 4)
    with pytest.raises(UserError, match="last hidden layer"):
        networks.features(Network(network.init, network.apply), {}, jnp.ones((3, 6)))


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float64"])
def test_examples_side_by_side_are_examples_one_by_one(precision):
    with fixed(precision):
        network = make_mlp(MLPConfig(widths=(7, 5), n_aux=2, init="torch"), 6, 4)
        params = network.init(jax.random.key(0))
        x = jax.random.normal(jax.random.key(1), (9, 6))

        def side_by_side(params, x):
            return network.batched(params, x)

        def one_by_one(params, x):
            return jax.vmap(network.apply, in_axes=(None, 0))(params, x)

        def pulled_back(outputs):
            return jax.grad(lambda params, x: jnp.sum(jnp.sin(outputs(params, x))), argnums=(0, 1))(params, x)

        tolerance = {"float32": 1e-5, "bfloat16": 2e-2, "float64": 1e-12}[precision]
        np.testing.assert_allclose(side_by_side(params, x), one_by_one(params, x), atol=tolerance)
        for a, b in zip(
            jax.tree.leaves(pulled_back(side_by_side)), jax.tree.leaves(pulled_back(one_by_one)), strict=True
        ):
            np.testing.assert_allclose(a, b, atol=tolerance)


def weights(init, width=400):
    params = make_mlp(MLPConfig(widths=(width,), init=init), 900, 10).init(jax.random.key(1))
    layer = params["hidden"][0]
    return np.asarray(layer["weight"][...]).ravel(), np.asarray(layer["bias"][...]).ravel()


@pytest.mark.parametrize(("init", "variance"), [("lecun", 1 / 900), ("he", 2 / 900)])
def test_normal_inits(init, variance):
    weight, bias = weights(init)
    assert scipy.stats.kstest(weight / variance**0.5, "norm").pvalue > 1e-3
    assert not bias.any()


def test_torch_init_is_uniform_with_its_biases():
    # nn.Linear documents U(-k, k) with k = 1/sqrt(in_features) for its weight and its bias.
    law = scipy.stats.uniform(-1 / 30, 2 / 30).cdf
    for values in weights("torch"):
        assert scipy.stats.kstest(values, law).pvalue > 1e-3


def test_parameters_follow_the_precision_in_force():
    network = make_mlp(MLPConfig(widths=(4,)), 3, 2)
    assert {leaf.dtype for leaf in jax.tree.leaves(network.init(jax.random.key(0)))} == {jnp.dtype("float32")}
    with jax.enable_x64(True):
        assert {leaf.dtype for leaf in jax.tree.leaves(network.init(jax.random.key(0)))} == {jnp.dtype("float64")}


def test_bfloat16_rounds_operands_and_sums_in_float32():
    network = make_mlp(MLPConfig(widths=(64,), n_aux=4), 32, 4)
    params = network.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (32,))

    def rounded(values):
        return np.asarray(values.astype(jnp.bfloat16)).astype(np.float64)

    hidden = np.maximum(rounded(params["hidden"][0]["weight"][...]) @ rounded(x), 0)
    aux = rounded(params["aux_head"]["weight"][...]) @ rounded(jnp.asarray(hidden, jnp.float32))
    with fixed("bfloat16"):
        network = make_mlp(MLPConfig(widths=(64,), n_aux=4), 32, 4)
        output = jax.jit(network.apply)(params, x)
        gradient = jax.grad(lambda params: network.apply(params, x).sum())(params)
    assert {leaf.dtype for leaf in jax.tree.leaves((output, gradient))} == {jnp.dtype("float32")}
    np.testing.assert_allclose(output[4:], aux, atol=1e-5)
    with fixed("float32"):
        exact = make_mlp(MLPConfig(widths=(64,), n_aux=4), 32, 4).apply(params, x)
        np.testing.assert_array_equal(network.apply(params, x), output)  # it stays what it was made
    assert 1e-4 < float(jnp.abs(output - exact).max()) < 0.1


@pytest.mark.parametrize("n_imitated", [None, 1, 3])
def test_masks(n_imitated):
    aux_only, all_logits = imitated_logits(4, 3, n_imitated)
    imitated = [True] * (n_imitated or 3) + [False] * (3 - (n_imitated or 3))
    assert aux_only.tolist() == [False] * 4 + imitated
    assert all_logits.tolist() == [True] * 4 + imitated


@pytest.mark.parametrize("init", ["lecun", "he", "torch"])
def test_initial_variances_are_those_of_the_draws(init):
    params = make_mlp(MLPConfig(widths=(500, 400), n_aux=300, init=init), 200, 300).init(jax.random.key(4))
    variances = initial_variances(init, params)
    assert jax.tree.structure(variances) == jax.tree.structure(params)
    for leaf, variance in zip(jax.tree.leaves(params), jax.tree.leaves(variances), strict=True):
        assert variance.shape == leaf.shape
        np.testing.assert_allclose(np.var(leaf), variance.ravel()[0], rtol=0.03 if leaf.ndim == 2 else 0.25)


def two_draws(width=400):
    network = make_mlp(MLPConfig(widths=(width,)), 900, 10)
    return tuple(network.init(jax.random.key(seed)) for seed in (2, 3))


@pytest.mark.parametrize("angle", [0.4, np.pi / 4, 2.0])
def test_rotation_keeps_the_law_of_normal_weights(angle):
    a, b = two_draws()

    def weight(params):
        return np.asarray(params["hidden"][0]["weight"][...]).ravel() * 30

    turned = weight(jax.jit(rotated)(a, b, angle))
    assert scipy.stats.kstest(turned, "norm").pvalue > 1e-3
    np.testing.assert_allclose(np.corrcoef(turned, weight(a))[0, 1], np.cos(angle), atol=0.01)
    # Control: interpolation shrinks the weights.
    half = jax.tree.map(lambda x, y: (x + y) / 2, a, b)
    np.testing.assert_allclose(weight(half).std(), 0.5**0.5, atol=0.01)
    assert scipy.stats.kstest(weight(half), "norm").pvalue < 1e-6


def test_rotation_begins_at_one_draw_and_ends_at_the_other(x64):
    a, b = two_draws(4)
    for angle, end in ((0.0, a), (jnp.pi / 2, b)):
        for turned, leaf in zip(jax.tree.leaves(rotated(a, b, angle)), jax.tree.leaves(end), strict=True):
            np.testing.assert_allclose(turned, leaf, atol=1e-15)
            assert turned.dtype == leaf.dtype


@pytest.mark.parametrize("distance", [0.3, 3.0])
def test_perturbed_inits_have_the_stated_distance_in_standard_deviations(distance):
    a, b = two_draws()
    moved = jax.jit(perturbed)(a, b, distance)
    for group in LAYER_GROUPS:
        own, other, now = (jax.tree.leaves(params[group])[-1] for params in (a, b, moved))
        assert own.ndim == 2
        np.testing.assert_allclose(now - own, distance * other, atol=1e-6)
        spread = np.asarray(now - own).std() * own.shape[1] ** 0.5  # of an init with the variance 1 / fan_in
        np.testing.assert_allclose(spread, distance, rtol=0.1)
        scale = np.asarray(now).std() / np.asarray(own).std()
        np.testing.assert_allclose(scale, (1 + distance**2) ** 0.5, rtol=0.1)


@pytest.mark.parametrize("from_a", [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 1, 1)])
def test_mixed_networks_take_whole_groups(from_a):
    network = make_mlp(MLPConfig(), 4, 4)
    a, b = two_draws(4)
    groups = [group for group, own in zip(LAYER_GROUPS, from_a, strict=True) if own]
    parts = jax.jit(lambda a, b: mixed(network, a, b, groups))(a, b)
    for group, own in zip(LAYER_GROUPS, from_a, strict=True):
        chosen, other = (a, b) if own else (b, a)
        for part, leaf in zip(jax.tree.leaves(parts[group]), jax.tree.leaves(chosen[group]), strict=True):
            np.testing.assert_array_equal(part, leaf)
        weights = [jax.tree.leaves(params[group])[-1] for params in (parts, other)]
        assert (np.asarray(weights[0]) != np.asarray(weights[1])).any()
