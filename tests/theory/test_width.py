"""The law of K_CA's size with width, against initialisations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subsim import load_study
from subsim.theory.linearised import dense_jacobian
from subsim.theory.width import both_on, cross_kernel_rms

pytestmark = pytest.mark.usefixtures("x64")
N_PIXELS, DRAWS = 5, 4_000


@pytest.fixture(scope="module")
def inputs():
    with jax.enable_x64(True):
        return tuple(jax.random.normal(key, (2, N_PIXELS)) for key in jax.random.split(jax.random.key(0)))


def test_how_often_a_unit_is_on_for_both(inputs):
    x, y = inputs
    w = np.random.default_rng(0).normal(size=(200_000, N_PIXELS))
    counted = np.mean((w @ x.T > 0)[:, :, None] & (w @ y.T > 0)[:, None], axis=0)
    np.testing.assert_allclose(both_on(x, y), counted, atol=0.004)
    np.testing.assert_allclose(np.diag(both_on(x, x)), 0.5, atol=1e-7)
    np.testing.assert_allclose(np.diag(both_on(x, -x)), 0, atol=1e-7)


@pytest.mark.parametrize(("parametrisation", "holds"), [("standard", True), ("NTK", True), ("muP", False)])
@pytest.mark.parametrize("width", [3, 24])
def test_the_cross_kernel_of_initialisations_has_the_predicted_size(inputs, width, parametrisation, holds):
    noise, asked = inputs
    module = load_study("parametrisations").make_run.__globals__
    network, _ = module["make_network"](module["Config"](parametrisation=parametrisation, width=width), N_PIXELS, 2)

    def cross(key):
        theta = network.init(key)
        of_aux = dense_jacobian(lambda theta, x: network.apply(theta, x)[1:], theta, noise)
        of_class = dense_jacobian(lambda theta, x: network.apply(theta, x)[:1], theta, asked)
        return of_aux @ of_class.T

    kernels = jax.jit(jax.vmap(cross))(jax.random.split(jax.random.key(1), DRAWS))
    found = jnp.sqrt(jnp.mean(kernels**2, axis=0)) / cross_kernel_rms(noise, asked, width, variance=2.0)
    if holds:
        np.testing.assert_allclose(found, 1, atol=0.15)
        assert float(jnp.mean(found)) == pytest.approx(1, abs=0.05)
    else:
        np.testing.assert_allclose(found, 32 / width, rtol=0.15)


@pytest.mark.parametrize(("parametrisation", "rate", "logits"), [("standard", 1, 1), ("NTK", 0.5, 1), ("muP", 1, 0.5)])
def test_learning_rates_and_first_logits_go_with_width_as_the_table_says(parametrisation, rate, logits):
    module = load_study("parametrisations").make_run.__globals__
    sizes, rates = {}, {}
    for width in (32, 128):
        config = module["Config"](parametrisation=parametrisation, width=width)
        network, rates[width] = module["make_network"](config, N_PIXELS, 2)
        theta = jax.vmap(network.init)(jax.random.split(jax.random.key(2), DRAWS))
        first = jax.vmap(network.apply, (0, None))(theta, jnp.ones(N_PIXELS))
        sizes[width] = float(jnp.sqrt(jnp.mean(first**2)))
    assert rates == {32: 1, 128: rate}
    assert sizes[128] / sizes[32] == pytest.approx(logits, rel=0.05)
