import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from subsim.training.losses import (
    IMITATION_LOSSES,
    imitation_cross_entropy,
    imitation_kl,
    imitation_mse,
    target_cross_entropy,
    task_cross_entropy,
)

MASK = jnp.array([True, False, True, True, False])


@pytest.fixture
def pair(x64):
    random = np.random.default_rng(0)
    return jnp.asarray(random.normal(size=5)), jnp.asarray(random.normal(size=5))


def test_kl_and_its_gradient_are_the_closed_forms(pair):
    z, y = pair
    on = np.flatnonzero(MASK)
    q, p = scipy.special.softmax(np.asarray(z)[on]), scipy.special.softmax(np.asarray(y)[on])
    np.testing.assert_allclose(imitation_kl(z, y, MASK), np.sum(p * np.log(p / q)), rtol=1e-12)
    gradient = np.zeros(5)
    gradient[on] = q - p
    np.testing.assert_allclose(jax.grad(imitation_kl)(z, y, MASK), gradient, rtol=1e-12, atol=0)


def test_cross_entropy_is_kl_and_the_teachers_entropy_with_the_gradient_of_kl(pair):
    z, y = pair
    p = scipy.special.softmax(np.asarray(y)[np.flatnonzero(MASK)])
    expected = imitation_kl(z, y, MASK) - np.sum(p * np.log(p))
    np.testing.assert_allclose(imitation_cross_entropy(z, y, MASK), expected, rtol=1e-12)
    gradient = jax.grad(imitation_cross_entropy)(z, y, MASK)
    np.testing.assert_allclose(gradient, jax.grad(imitation_kl)(z, y, MASK), atol=1e-15)
    # With a label for a target it is the task's own.
    label = jax.nn.one_hot(3, 5)
    everything = jnp.ones(5, bool)
    np.testing.assert_allclose(
        target_cross_entropy(z, label, everything), task_cross_entropy(z, jnp.array(3)), rtol=1e-12
    )


def test_mse_and_its_gradient_are_the_closed_forms(pair):
    z, y = pair
    difference = np.where(MASK, z - y, 0)
    np.testing.assert_allclose(imitation_mse(z, y, MASK), np.sum(difference**2) / 3, rtol=1e-12)
    np.testing.assert_allclose(jax.grad(imitation_mse)(z, y, MASK), 2 * difference / 3, rtol=1e-12)


@pytest.mark.parametrize("name", IMITATION_LOSSES)
def test_a_mask_is_the_loss_of_the_smaller_network(name, pair):
    z, y = pair
    value = IMITATION_LOSSES[name].value
    smaller = value(z[MASK], y[MASK], jnp.ones(3, bool))
    np.testing.assert_allclose(value(z, y, MASK), smaller, rtol=1e-12)
    gradient, smaller_gradient = jax.grad(value)(z, y, MASK), jax.grad(value)(z[MASK], y[MASK], jnp.ones(3, bool))
    np.testing.assert_allclose(gradient[MASK], smaller_gradient, rtol=1e-12)
    assert not gradient[~MASK].any()  # exactly zero, not small


@pytest.mark.parametrize("name", IMITATION_LOSSES)
def test_covered_losses_are_least_at_the_teacher(name, pair):
    _, y = pair
    loss = IMITATION_LOSSES[name]
    assert loss.covered
    assert float(loss.value(y, y, MASK)) == pytest.approx(0, abs=1e-15)
    np.testing.assert_allclose(jax.grad(loss.value)(y, y, MASK), 0, atol=1e-15)
    nearby = y[None] + jax.random.normal(jax.random.key(0), (100, 5)) * 0.1
    assert (jax.vmap(lambda z: loss.value(z, y, MASK))(nearby) > 0).all()


def test_task_cross_entropy_is_minus_the_log_probability(pair):
    z, _ = pair
    expected = -scipy.special.log_softmax(np.asarray(z))[3]
    np.testing.assert_allclose(task_cross_entropy(z, jnp.asarray(3)), expected, rtol=1e-12)
