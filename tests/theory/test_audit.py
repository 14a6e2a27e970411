"""An audit says what a first step does to a trait: exactly to first order, and with an error that holds."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import subsim
from subsim.networks.mlp import MLPConfig, make_mlp
from subsim.theory.audit import Audit
from subsim.theory.single_step import leading_coefficient
from subsim.training.losses import imitation_kl, margin_loss, task_cross_entropy

pytestmark = pytest.mark.usefixtures("x64")
N_CLASS, N_AUX, N_PIXELS = 4, 3, 6
NETWORK = make_mlp(MLPConfig(widths=(12,), n_aux=N_AUX, activation="tanh"), N_PIXELS, N_CLASS)
MASK = jnp.arange(N_CLASS + N_AUX) >= N_CLASS


@functools.partial(jax.jit, static_argnums=1)
def drawn(key, n=200):
    """(parameters, inputs, images, labels) of one problem."""
    own, noise, task, labels = jax.random.split(key, 4)
    return (
        NETWORK.init(own),
        jax.random.uniform(noise, (n, N_PIXELS), minval=-1.0),
        jax.random.normal(task, (32, N_PIXELS)),
        jax.random.randint(labels, (32,), 0, N_CLASS),
    )


def outputs(params, x):
    return jax.vmap(lambda one: NETWORK.apply(params, one))(x)


def trait_loss(images, labels, params):
    return jnp.mean(jax.vmap(task_cross_entropy)(outputs(params, images)[:, :N_CLASS], labels))


def kl(z, y):
    return imitation_kl(z, y, MASK)


@jax.jit
def audited(key, towards):
    """The audit of a teacher that made one step of this size down the trait's loss; A, and the measured change."""
    theta, x, images, labels = drawn(key)
    of_trait = functools.partial(trait_loss, images, labels)
    direction = optax.tree.scale(-1.0, jax.grad(of_trait)(theta))
    y = outputs(optax.tree.add_scale(theta, towards, direction), x)
    found = subsim.audit(NETWORK.apply, theta, of_trait, kl, x, y)
    step = jax.grad(lambda params: -jnp.mean(jax.vmap(kl)(outputs(params, x), y)))(theta)
    alpha = 1e-6 / optax.tree.norm(step)
    measured = (of_trait(optax.tree.add_scale(theta, alpha, step)) - of_trait(theta)) / alpha
    return found, leading_coefficient(NETWORK.apply, theta, direction, kl, x), measured


@pytest.mark.parametrize("towards", [1e-3, 0.5, -0.5])
def test_the_predicted_change_is_that_of_a_small_step(towards):
    for seed in range(5):
        found, _, measured = audited(jax.random.key(seed), towards)
        np.testing.assert_allclose(found.change, measured, rtol=1e-3)


def test_data_of_a_teacher_of_this_base_carry_its_trait_as_the_theorem_says():
    for seed in range(5):
        found, a, _ = audited(jax.random.key(seed), 1e-3)
        np.testing.assert_allclose(found.change, -1e-3 * a, rtol=2e-2)
        assert found.verdict == "carries the trait"
        assert audited(jax.random.key(seed), -1e-3)[0].verdict == "works against the trait"


def test_a_model_that_imitates_itself_gets_no_trait():
    for seed in range(5):
        found, _, _ = audited(jax.random.key(seed), 0.0)
        assert abs(float(found.score)) < 0.5
        assert found.verdict == "not seen"


def test_the_error_is_that_over_draws_of_the_inputs():
    theta, _, images, labels = drawn(jax.random.key(3))
    teacher, *_ = drawn(jax.random.key(4))

    def of(key):
        x = jax.random.uniform(key, (50, N_PIXELS), minval=-1.0)
        found = subsim.audit(
            NETWORK.apply, theta, functools.partial(trait_loss, images, labels), kl, x, outputs(teacher, x)
        )
        return found.change, found.error

    changes, errors = jax.jit(jax.vmap(of))(jax.random.split(jax.random.key(5), 2000))
    np.testing.assert_allclose(np.std(changes), np.mean(errors), rtol=0.06)


@pytest.mark.parametrize(
    ("change", "verdict"), [(-2.0, "carries the trait"), (2.0, "works against the trait"), (-1.9, "not seen")]
)
def test_a_verdict_is_certain_from_two_standard_errors_on(change, verdict):
    assert Audit(jnp.array(change), jnp.array(1.0)).verdict == verdict


def test_the_loss_less_that_of_random_labels_is_the_margin():
    z = jax.random.normal(jax.random.key(0), (N_CLASS,))
    each = [task_cross_entropy(z, jnp.array(label)) for label in range(N_CLASS)]
    for label in range(N_CLASS):
        np.testing.assert_allclose(margin_loss(z, jnp.array(label)), each[label] - np.mean(each), rtol=1e-12)
