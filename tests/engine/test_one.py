"""One seed alone: its record and its networks are those of the whole run, bit for bit."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from smoke import smoke_options

import subsim
from subsim import Study, UserError, Variable
from subsim.cli import arguments


@dataclasses.dataclass(frozen=True)
class Config:
    width: int = 4
    deep: bool = False


def train(images, key, hyper, width):
    """Parameters before and after some steps of gradient descent."""
    w = {"in": jax.random.normal(key, (3, width)), "out": [jax.random.normal(jax.random.fold_in(key, 1), (width, 2))]}

    images = images.astype(w["in"].dtype)

    def loss(w):
        return jnp.mean((jnp.tanh(images @ w["in"]) @ w["out"][0] - 1) ** 2)

    def step(_, w):
        return jax.tree.map(lambda p, g: p - hyper["rate"] * g, w, jax.grad(loss)(w))

    after = jax.lax.fori_loop(0, 20, step, w)
    return {"first": w, "last": after}, loss(after)


@pytest.fixture
def nets():
    """A study that says what its networks are."""

    def make_run(config, images):
        def run(images, key, hyper):
            networks, loss = train(images, key, hyper, config.width)
            return {"loss": loss, "norm": jnp.linalg.norm(networks["last"]["in"])}

        return jax.tree_util.Partial(run, images)

    def make_networks(config, images):
        return lambda key, hyper: train(images, key, hyper, config.width)[0]

    return Study(
        name="nets",
        make_run=make_run,
        make_networks=make_networks,
        load=lambda config: np.linspace(-1, 1, 30, dtype=np.float32).reshape(10, 3),
        config=Config(),
        hyper={"rate": 0.1},
    )


@pytest.mark.parametrize("seed", [0, 3, 17])
@pytest.mark.parametrize("chunk", [None, 1, 4])
def test_one_seed_is_that_of_a_run(toy, seed, chunk):
    study = dataclasses.replace(toy, chunk=chunk)
    whole = subsim.simulate(study, seeds=seed + 1, sweep={"scale": [1, 3], "size": [1, 2]}, root_seed=5)
    one = subsim.run_one(study, seed=seed, sweep={"scale": [1, 3], "size": [1, 2]}, root_seed=5)
    assert set(one) == {"first", "all", "bits"}
    for name, values in one.items():
        expected = whole[name].sel(seed=seed)
        assert expected.dims[:2] == ("size", "scale")
        assert type(values) is np.ndarray
        assert values.dtype == expected.dtype
        np.testing.assert_array_equal(values, expected)


@pytest.mark.usefixtures("optax_promotion")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_one_seed_of_figure_10_is_that_of_a_run(precision):
    study = subsim.load_study("mnist_aux_logits")
    words = smoke_options("mnist_aux_logits")
    _, config, hyper = arguments.parse_options(study, words, "", arguments.CompileOptions, topology="")
    whole = subsim.simulate(study, config, hyper, seeds=6, precision=precision)
    one = subsim.run_one(study, config, hyper, seed=5, precision=precision)
    assert "accuracy" in one
    for name, values in one.items():
        np.testing.assert_array_equal(values, whole[name].sel(seed=5))


def test_one_seed_on_the_host_is_called_once():
    calls = []

    def run(seed):
        calls.append(seed)
        return {"twice": 2 * seed}

    study = Study(name="host", run=run, variables={"twice": Variable("twice the seed")}, on_host=True)
    assert subsim.run_one(study, seed=4) == {"twice": 8}
    assert calls == [4]


@pytest.mark.parametrize("seed", [0, 5])
def test_the_networks_are_those_that_the_record_measures(nets, seed):
    networks, record = subsim.networks_of(nets, seed=seed), subsim.run_one(nets, seed=seed)
    assert jax.tree.map(np.shape, networks) == {name: {"in": (3, 4), "out": [(4, 2)]} for name in ("first", "last")}
    np.testing.assert_allclose(np.linalg.norm(networks["last"]["in"]), record["norm"], rtol=1e-6)
    expected, loss = train(nets.load(nets.config), jax.random.fold_in(jax.random.key(0), seed), nets.hyper, 4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), networks, expected)
    np.testing.assert_allclose(record["loss"], loss, rtol=1e-5)


def test_networks_take_the_options_of_a_run(nets):
    wide = subsim.networks_of(nets, Config(width=6), {"rate": 0.0}, seed=2, precision="float64", root_seed=3)
    assert wide["last"]["in"].dtype == np.float64
    assert wide["last"]["in"].shape == (3, 6)
    jax.tree.map(np.testing.assert_array_equal, wide["first"], wide["last"])
    swept = subsim.networks_of(nets, seed=2, precision="float64", root_seed=3, sweep={"width": [6], "rate": [0.0]})
    jax.tree.map(np.testing.assert_array_equal, swept, wide)


def test_networks_are_rebuilt_on_the_host(nets):
    def rebuild(config, images, networks):
        return {name: (config.width, images.shape, type(w["in"])) for name, w in networks.items()}

    rebuilt = subsim.networks_of(dataclasses.replace(nets, rebuild=rebuild))
    assert rebuilt == dict.fromkeys(["first", "last"], (4, (10, 3), np.ndarray))


def test_what_has_no_networks_says_so(nets, toy):
    with pytest.raises(UserError, match="toy does not say what its networks are"):
        subsim.networks_of(toy)
    with pytest.raises(UserError, match=r"sweep of width: .* sweep=\{'width': \[2\]\}"):
        subsim.networks_of(nets, sweep={"width": [2, 4]})
    for call in (subsim.run_one, subsim.networks_of):
        with pytest.raises(UserError, match="seed is -1"):
            call(nets, seed=-1)
