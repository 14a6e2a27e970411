"""The open experiment: networks of one's own, each in a few lines."""

import dataclasses

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import silent_promotion
from mine import CNN, CONFIG, simulate, study

import subsim


class Normed(equinox.Module):
    first: equinox.nn.Linear
    norm: equinox.nn.LayerNorm
    heads: equinox.nn.Linear

    def __init__(self, n_out, *, key):
        one, other = jax.random.split(key)
        self.first, self.norm = equinox.nn.Linear(64, 16, key=one), equinox.nn.LayerNorm(16)
        self.heads = equinox.nn.Linear(16, n_out, key=other)

    def __call__(self, x):
        return self.heads(jax.nn.relu(self.norm(self.first(x))))


def test_figure_10_is_the_default():
    figure10 = subsim.distillation("figure10")
    assert figure10.config == subsim.Config()
    built_in = subsim.load_study("mnist_aux_logits").at_size("mnist")
    assert built_in.coords["condition"] == figure10.coords["condition"]
    assert built_in.config == figure10.config


@pytest.mark.parametrize(
    "network",
    [
        subsim.from_flax(CNN, image=(8, 8, 1)),
        subsim.from_equinox(Normed),
        (
            lambda key: {"w": jax.random.normal(key, (13, 64)) / 8, "b": jnp.zeros(13)},
            lambda params, x: params["w"] @ x + params["b"],
        ),
        "linear",
        "cnn",
        "transformer",
    ],
    ids=["flax", "equinox", "functions", "linear", "cnn", "transformer"],
)
def test_figure_10_with_any_network(network):
    students = {"all": subsim.Student(imitates="all"), "cross": subsim.Student("independent")}
    found = simulate(network=network, students=students)
    assert found.accuracy.dims == ("seed", "condition")
    assert list(found.condition.values) == ["reference", "teacher", "all", "cross"]
    mean = found.accuracy.mean("seed")
    assert mean.sel(condition="teacher") > 2 * mean.sel(condition="reference")
    assert (found.alignment.sel(student="all") > 0.1).all()
    assert (abs(found.alignment.sel(student="cross")) < found.alignment.sel(student="all")).all()


def test_a_linear_network_passes_nothing_through_auxiliary_logits():
    config = dataclasses.replace(CONFIG, widths=())
    accuracy = simulate(config=config).accuracy
    np.testing.assert_array_equal(accuracy.sel(condition="student"), accuracy.sel(condition="reference"))


def test_networks_come_back_as_the_users_own_modules():
    mine = study(network=subsim.from_equinox(Normed))
    with silent_promotion():
        nets = subsim.networks_of(mine, seed=1)
        found = subsim.simulate(mine, seeds=2)
        one = subsim.run_one(mine, seed=1)
    data = mine.load(mine.config)
    images = jnp.asarray(data.test_images, jnp.float32) * (2 / data.brightest) - 1
    for name in ("teacher", "student"):
        assert isinstance(nets[name], Normed)
        said = jnp.argmax(jax.vmap(nets[name])(images)[:, :10], axis=1)
        np.testing.assert_allclose(
            np.mean(said == data.test_labels), found.accuracy.sel(seed=1, condition=name), atol=1e-6
        )
    np.testing.assert_array_equal(one["accuracy"], found.accuracy.sel(seed=1))
