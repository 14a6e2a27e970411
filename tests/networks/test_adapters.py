import builtins
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from subsim.networks.adapters import from_equinox, from_flax, from_functions, require_logits
from subsim.networks.network import Network
from subsim.options import UserError

PIXELS, CLASSES, AUX = 12, 4, 3


class Flax(nnx.Module):
    """A perceptron with one layer between its own two."""

    def __init__(self, n_out, between=lambda rngs: jnp.tanh, shape=(PIXELS,), *, rngs):
        self.shape = shape
        self.first = nnx.Linear(PIXELS, 6, rngs=rngs)
        self.between = between(rngs)
        self.last = nnx.Linear(6, n_out, rngs=rngs)

    def features(self, x):
        assert x.shape == self.shape
        return self.between(self.first(x.reshape(-1)))

    def __call__(self, x):
        return self.last(self.features(x))


class Equinox(eqx.Module):
    """The same; its activation differs as an object between two modules."""

    first: eqx.nn.Linear
    between: object
    last: eqx.nn.Linear
    activation: object = eqx.field(static=True)
    shape: tuple = eqx.field(static=True)

    def __init__(self, n_out, between=lambda key: jnp.tanh, shape=(PIXELS,), *, key):
        keys = jax.random.split(key)
        self.first = eqx.nn.Linear(PIXELS, 6, key=keys[0])
        self.between = between(key)
        self.last = eqx.nn.Linear(6, n_out, key=keys[1])
        self.activation = lambda x: x
        self.shape = shape

    def features(self, x):
        assert x.shape == self.shape
        return self.activation(self.between(self.first(x.reshape(-1))))

    def __call__(self, x):
        return self.last(self.features(x))


ADAPTERS = pytest.mark.parametrize(("adapter", "module"), [(from_flax, Flax), (from_equinox, Equinox)])


def example(shape=(PIXELS,)):
    return jax.random.normal(jax.random.key(7), shape, jnp.result_type(float))


def weights(params):
    """The kernels as (fan_in, fan_out), and the biases, of the layers first and last."""
    if isinstance(params, eqx.Module):
        return [(layer.weight.T, layer.bias) for layer in (params.first, params.last)]
    return [(params[name]["kernel"][...], params[name]["bias"][...]) for name in ("first", "last")]


@ADAPTERS
def test_a_module_computes_what_its_weights_say(adapter, module, x64):
    network = adapter(module, features=module.features)(PIXELS, CLASSES, AUX)
    params, x = network.init(jax.random.key(0)), example()
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float64")}
    (w1, b1), (w2, b2) = weights(params)
    hidden = np.tanh(x @ w1 + b1)
    np.testing.assert_allclose(network.features(params, x), hidden, rtol=1e-12)
    np.testing.assert_allclose(network.apply(params, x), hidden @ w2 + b2, rtol=1e-12)
    assert network.apply(params, x).shape == (CLASSES + AUX,)


@ADAPTERS
def test_parameters_are_float32_and_their_paths_begin_with_the_layer(adapter, module):
    params = adapter(module)(PIXELS, CLASSES, AUX).init(jax.random.key(0))
    paths = jax.tree_util.tree_leaves_with_path(params)
    assert {leaf.dtype for _, leaf in paths} == {jnp.dtype("float32")}
    groups = {jax.tree_util.keystr(path, simple=True, separator=".").split(".")[0] for path, _ in paths}
    assert groups == {"first", "last"}


@ADAPTERS
def test_every_key_draws_a_network_of_one_structure(adapter, module):
    network = adapter(module)(PIXELS, CLASSES, AUX)
    keys = jax.random.split(jax.random.key(0), 3)
    stacked = jax.jit(jax.vmap(network.init))(keys)
    for leaf in jax.tree.leaves(stacked):
        assert all((leaf[a] != leaf[b]).any() for a, b in ((0, 1), (0, 2), (1, 2))) or not leaf.any()  # zero biases
    alone = network.init(keys[1])
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(lambda leaf: leaf[1], stacked), alone)
    outputs = jax.jit(jax.vmap(network.apply, in_axes=(0, None)))(stacked, example())
    np.testing.assert_allclose(outputs[1], network.apply(alone, example()), rtol=1e-5)


@ADAPTERS
def test_gradients_reach_every_parameter(adapter, module, x64):
    network = adapter(module)(PIXELS, CLASSES, AUX)
    params, x = network.init(jax.random.key(0)), example()
    slope = jax.grad(lambda params: jnp.sum(network.apply(params, x) ** 2))(params)
    assert jax.tree.structure(slope) == jax.tree.structure(params)
    assert all(leaf.any() for leaf in jax.tree.leaves(slope))
    _, change = jax.jvp(lambda params: jnp.sum(network.apply(params, x) ** 2), (params,), (slope,))
    squares = sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(slope))
    np.testing.assert_allclose(change, squares, rtol=1e-12)


@ADAPTERS
@pytest.mark.parametrize("shape", [(2, 2, 3), (3, 4)])
def test_an_image_has_the_shape_that_was_named(adapter, module, shape):
    factory = functools.partial(module, shape=shape)  # the modules assert it
    network = adapter(factory, image=shape, features=module.features)(PIXELS, CLASSES, AUX)
    params = network.init(jax.random.key(0))
    flat = adapter(module)(PIXELS, CLASSES, AUX)
    np.testing.assert_array_equal(network.apply(params, example()), flat.apply(flat.init(jax.random.key(0)), example()))
    assert network.features(params, example()).shape == (6,)


@ADAPTERS
def test_a_rebuilt_module_is_the_user_s_own(adapter, module):
    network = adapter(functools.partial(module, shape=(3, 4)), image=(3, 4))(PIXELS, CLASSES, AUX)
    params = jax.tree.map(lambda leaf: leaf + 1, network.init(jax.random.key(0)))
    own = network.rebuild(params)
    assert isinstance(own, module)
    np.testing.assert_array_equal(own(example().reshape(3, 4)), network.apply(params, example()))


@pytest.mark.parametrize(
    ("adapter", "module", "between"),
    [
        (from_flax, Flax, lambda rngs: nnx.Dropout(0.5, deterministic=True, rngs=rngs)),
        (from_flax, Flax, lambda rngs: nnx.Dropout(0.0, rngs=rngs)),
        (from_equinox, Equinox, lambda key: eqx.nn.Dropout(0.5, inference=True)),
        (from_equinox, Equinox, lambda key: eqx.nn.Dropout(0.0)),
        (from_equinox, Equinox, lambda key: eqx.nn.LayerNorm(6)),
    ],
)
def test_layers_that_draw_nothing_pass(adapter, module, between):
    network = adapter(functools.partial(module, between=between))(PIXELS, CLASSES, AUX)
    params = jax.jit(network.init)(jax.random.key(0))
    logits = jax.jit(network.apply)(params, example())
    np.testing.assert_allclose(logits, network.rebuild(params)(example()), rtol=1e-5)


class Scale(nnx.Module):
    """Multiplies by a constant of a kind."""

    def __init__(self, kind):
        self.by = kind(jnp.ones(6))

    def __call__(self, x):
        return x * jnp.asarray(self.by[...], x.dtype)


class EquinoxScale(eqx.Module):
    by: jax.Array

    def __call__(self, x):
        return x * self.by.astype(x.dtype)


BATCH_NORM = functools.partial(eqx.nn.BatchNorm, 6, axis_name="batch", mode="batch")
STATEFUL = {
    "BatchNorm": (from_flax, Flax, lambda rngs: nnx.BatchNorm(6, rngs=rngs), r"Flax keeps .*between\.mean.*LayerNorm"),
    "BatchNorm, fixed": (
        from_flax, Flax, lambda rngs: nnx.BatchNorm(6, use_running_average=True, rngs=rngs), r"between\.var",
    ),
    "Dropout": (
        from_flax, Flax, lambda rngs: nnx.Dropout(0.5, rngs=rngs), r"Flax draws .*between\.rngs.*deterministic=True",
    ),
    "variable": (from_flax, Flax, lambda rngs: Scale(nnx.Variable), r"\(between\.by\).*nnx\.Param"),
    "array": (from_flax, Flax, lambda rngs: Scale(lambda x: x), r"\(between\.by\).*nnx\.Param"),
    "NumPy array": (from_flax, Flax, lambda rngs: Scale(lambda x: np.ones(6)), r"\(between\.by\).*nnx\.Param"),
    "integers": (
        from_flax, Flax, lambda rngs: Scale(lambda x: nnx.Param(x.astype(int))), r"\(between\.by\).*Param of floats",
    ),
    "equinox State": (from_equinox, Equinox, lambda key: BATCH_NORM(), r"Equinox keeps .*between\.batch.*LayerNorm"),
    "equinox Dropout": (
        from_equinox, Equinox, lambda key: eqx.nn.Dropout(0.5), r"Equinox draws .*\(between\).*inference=True",
    ),
    "equinox integers": (
        from_equinox, Equinox, lambda key: EquinoxScale(jnp.arange(6)), r"\(between\.by\).*array of floats",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", STATEFUL)
def test_state_is_refused_by_its_name(kind):
    adapter, module, between, sentence = STATEFUL[kind]
    with pytest.raises(UserError, match=sentence):
        adapter(functools.partial(module, between=between))(PIXELS, CLASSES, AUX)


def needs_more(n_out, width, *, rngs=None, key=None):
    raise AssertionError("never called")


@ADAPTERS
def test_what_does_not_fit_is_refused_in_a_sentence(adapter, module):
    def one_more(n_out, **random):
        return module(n_out + 1, **random)

    def broken(n_out, **random):
        return module(n_out, between=lambda _: lambda x: x[:2], **random)

    for image in ((2, 3, 3), (0, 12, 1), (-3, -4, 1)):
        with pytest.raises(UserError, match=r"image=\(.*12 numbers"):
            adapter(module, image=image)(PIXELS, CLASSES, AUX)
    with pytest.raises(UserError, match=r"must map one example to 7 logits, 4 .* 3 .* but it returns \(8,\)\.$"):
        adapter(one_more)(PIXELS, CLASSES, AUX)
    with pytest.raises(
        UserError, match=rf"^{module.__name__} does not take one example of shape \(12,\) \(.*\); image="
    ):
        adapter(broken)(PIXELS, CLASSES, AUX)
    with pytest.raises(UserError, match=r"does not take one example of shape \(16,\)"):
        adapter(functools.partial(module, shape=(16,)))(16, CLASSES, AUX)
    for factory, name in ((needs_more, "needs_more"), (lambda: None, "lambda")):
        with pytest.raises(UserError, match=rf"calls factory\(n_out, .*{name}>? does not take these arguments"):
            adapter(factory)
    with pytest.raises(UserError, match=r"returns a builtins\.int"):
        adapter(lambda n_out, rngs=None, key=None: 5)(PIXELS, CLASSES, AUX)


def test_errors_of_the_user_s_own_code_in_a_factory_keep_their_traceback():
    def broken(n_out, *, rngs):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        from_flax(broken)(PIXELS, CLASSES, AUX)


def test_equinox_is_missed_in_a_sentence(monkeypatch):
    found = builtins.__import__

    def missing(name, *rest, **more):
        if name == "equinox":
            raise ImportError(name)
        return found(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError, match="pip install equinox"):
        from_equinox(Equinox)
    from_flax(Flax)


def linear():
    def init(key):
        return {"w": jax.random.normal(key, (PIXELS, CLASSES + AUX))}

    return init, lambda params, x: x @ params["w"]


def test_a_pair_of_functions_is_a_network():
    init, apply = linear()
    network = from_functions((init, apply))
    assert network == Network(init, apply)
    require_logits(network, PIXELS, CLASSES, AUX, "linear")
    with pytest.raises(UserError, match=r"^linear must map one example to 6 logits"):
        require_logits(network, PIXELS, CLASSES - 1, AUX, "linear")
    for wrong in ((init,), (init, apply, apply)):
        with pytest.raises(UserError, match=r"init\(key\) and apply\(params, x\)"):
            from_functions(wrong)
