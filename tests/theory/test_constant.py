"""The mean of A over initialisations in closed form, against thousands of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subsim.networks.mlp import MLPConfig, make_mlp
from subsim.theory.constant import expected_a, triple_orthant
from subsim.theory.single_step import descent, leading_coefficient
from subsim.training.losses import imitated_logits, imitation_mse

pytestmark = pytest.mark.usefixtures("x64")
N_PIXELS, N_CLASS, N_AUX, DRAWS = 5, 3, 2, 20_000


def test_three_products_are_positive_as_often_as_their_angles_say():
    keys = jax.random.split(jax.random.key(0), 3)
    x, asked = jax.random.normal(keys[0], (2, 4)), jax.random.normal(keys[1], (3, 4))
    vectors = jax.random.normal(keys[2], (200_000, 4))
    on_x, on_asked = vectors @ x.T > 0, vectors @ asked.T > 0
    measured = jnp.mean(on_x[:, :, None, None] & on_asked[:, None, :, None] & on_asked[:, None, None, :], axis=0)
    np.testing.assert_allclose(triple_orthant(x, asked), measured, atol=0.005)


@pytest.mark.parametrize(("init", "variance"), [("lecun", 1.0), ("he", 2.0)])
@pytest.mark.parametrize("width", [1, 6])
def test_the_mean_over_initialisations_is_the_closed_form_at_any_width(init, variance, width):
    network = make_mlp(MLPConfig((width,), N_AUX, init), N_PIXELS, N_CLASS)
    keys = jax.random.split(jax.random.key(3), 3)
    inputs, task = (jax.random.normal(key, (4, N_PIXELS)) for key in keys[:2])
    g = jax.random.normal(keys[2], (4, N_CLASS))
    mask, _ = imitated_logits(N_CLASS, N_AUX)

    def of_one(key):
        def trait(theta):
            return jnp.mean(jnp.sum(g * jax.vmap(lambda x: network.apply(theta, x)[:N_CLASS])(task), axis=1))

        theta_0 = network.init(key)
        loss = functools.partial(imitation_mse, mask=mask)
        return leading_coefficient(network.apply, theta_0, descent(trait, theta_0), loss, inputs)

    found = jax.jit(jax.vmap(of_one))(jax.random.split(jax.random.key(4), DRAWS))
    expected = float(expected_a(inputs, task, g, width, variance=variance))
    assert float(found.mean()) == pytest.approx(expected, abs=4 * float(found.std()) / DRAWS**0.5)
    assert 4 * float(found.std()) / DRAWS**0.5 < 0.12 * expected
