"""One step on sampled labels: its moments against draws, and the rate that they predict."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from subsim.networks.mlp import MLPConfig, make_mlp
from subsim.theory.problems import draw_problem
from subsim.theory.sampled import draw, label_products, labels_needed, moments
from subsim.theory.single_step import descent, imitate
from subsim.training.losses import imitated_logits, imitation_kl, target_cross_entropy

pytestmark = pytest.mark.usefixtures("x64")
EPS, N, N_CLASS, N_AUX = 0.3, 64, 4, 5


@pytest.fixture
def problem():
    return draw_problem(jax.random.key(1), network(), 6, N_CLASS, N)


def network():
    return make_mlp(MLPConfig(widths=(8,), n_aux=N_AUX), 6, N_CLASS)


MASK, _ = imitated_logits(N_CLASS, N_AUX, 3)


def products(problem, **options):
    d_t = descent(problem.trait_loss, problem.theta_0)
    return label_products(network().apply, problem.theta_0, d_t, problem.inputs, eps=EPS, mask=MASK, **options)


def test_one_labels_step_is_the_gradient_of_its_cross_entropy(problem):
    probabilities, found = products(problem, temperature=2.0)
    assert (probabilities[:, np.asarray(~MASK)] == 0).all()
    d_t = descent(problem.trait_loss, problem.theta_0)
    for place, label in ((0, 4), (7, 6)):

        def loss(theta, place=place, label=label):
            z = network().apply(theta, problem.inputs[place])
            return target_cross_entropy(z / 2, jax.nn.one_hot(label, z.size, dtype=z.dtype), MASK)

        step = descent(loss, problem.theta_0)
        expected = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(step), jax.tree.leaves(d_t), strict=True))
        np.testing.assert_allclose(found[place, label], expected)


def test_the_mean_is_the_soft_targets_step(problem):
    d_t = descent(problem.trait_loss, problem.theta_0)
    soft = imitate(
        network().apply, problem.theta_0, d_t, lambda z, y: imitation_kl(z, y, MASK), problem.inputs, eps=EPS
    )
    mean, variance = moments(products(problem))
    np.testing.assert_allclose(mean, soft.inner_product)

    draws = jax.vmap(lambda key: draw(key, products(problem)))(jax.random.split(jax.random.key(2), 20_000))
    assert draws.shape == (20_000, N)
    np.testing.assert_allclose(draws.mean(), mean, atol=4 * float(jnp.sqrt(variance / draws.size)))
    np.testing.assert_allclose(jnp.mean(draws**2) - mean**2, variance, rtol=0.01)


def test_the_labels_needed_give_the_rate_that_is_asked_for():
    a = np.array([0.5, 2.0])
    n = labels_needed(0.9, 0.1, jnp.array(a))
    np.testing.assert_allclose(scipy.special.ndtr(0.1 * np.sqrt(n * a)), 0.9)
