"""Chains of linearised students, against projections, against hop after hop, and against draws of Gaussian rows."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from subsim.theory.chains import expected_share, on_same_inputs, shrinkage
from subsim.theory.kernel import momentum_progress, stable_step
from subsim.theory.linearised import project, tangent_kernel

pytestmark = pytest.mark.usefixtures("x64")
SPECTRUM = 1 / np.arange(1, 61)
DRAWS, HOPS = 300, 3


def network(theta, x):
    return jnp.tanh(x @ theta["in"]) @ theta["out"]


@pytest.fixture
def setting():
    """Parameters, inputs, their kernel and a displacement."""
    keys = jax.random.split(jax.random.key(1), 4)
    theta = {"in": jax.random.normal(keys[0], (5, 6)), "out": jax.random.normal(keys[1], (6, 2))}
    inputs = jax.random.normal(keys[2], (8, 5))
    d = jax.tree.map(lambda leaf: jax.random.normal(keys[3], leaf.shape), theta)
    return theta, inputs, tangent_kernel(network, theta, inputs), d


def test_a_converged_chain_is_one_projection(setting):
    theta, inputs, kernel, d = setting
    r = kernel.jacobian @ ravel_pytree(d)[0]
    once = project(network, theta, inputs, d)
    for hops in (1, 2, 5):
        found = on_same_inputs(kernel, theta, jnp.ones_like(kernel.eigenvalues), hops, r)
        assert optax.tree.norm(optax.tree.sub(found, once)) < 1e-8 * optax.tree.norm(once)
    assert 0.1 < optax.tree.norm(once) / optax.tree.norm(d) < 0.9


def test_every_hop_takes_each_mode_by_what_one_hop_learns(setting):
    theta, _, kernel, d = setting
    rate = stable_step(kernel.eigenvalues, momentum=0.9) / 2
    progress = momentum_progress(kernel.eigenvalues, rate, 7, momentum=0.9)[-1]
    twice = on_same_inputs(kernel, theta, progress, 2, kernel.jacobian @ ravel_pytree(d)[0])
    once = on_same_inputs(kernel, theta, progress, 1, kernel.jacobian @ ravel_pytree(d)[0])
    again = on_same_inputs(kernel, theta, progress, 1, kernel.jacobian @ ravel_pytree(once)[0])
    assert optax.tree.norm(optax.tree.sub(twice, again)) < 1e-9 * optax.tree.norm(twice)
    # A few steps of the heavy ball overshoot some modes, which then grow from hop to hop.
    assert float(progress.max()) > 1.1


@pytest.mark.parametrize("ridge", [0.0, 0.5])
@pytest.mark.parametrize("n_rows", [5, 30])
def test_kappa_solves_its_equation(n_rows, ridge):
    kappa = float(shrinkage(jnp.asarray(SPECTRUM), n_rows, ridge=ridge))
    assert np.sum(SPECTRUM / (SPECTRUM + kappa)) + ridge / kappa == pytest.approx(n_rows, rel=1e-9)


def test_rows_enough_for_every_mode_shrink_nothing():
    values = jnp.asarray(SPECTRUM)
    assert float(shrinkage(values, len(SPECTRUM) + 1)) == 0
    share = expected_share(values, jnp.ones_like(values), 0.0, HOPS)
    np.testing.assert_allclose(share, 1)
    # Modes that no input has are not learned however many rows there are.
    half = jnp.where(jnp.arange(60) < 30, values, 0)
    np.testing.assert_allclose(expected_share(half, jnp.ones_like(values), 0.0, HOPS), 0.5)


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_what_arrives_on_fresh_gaussian_rows_is_what_the_spectrum_says(ridge):
    n_rows, random = 20, np.random.default_rng(0)
    d_t = 1 / np.arange(1, 61) ** 0.25
    shares = np.zeros((DRAWS, HOPS))
    for chain in shares:
        d = d_t
        for hop in range(HOPS):
            rows = random.normal(size=(n_rows, 60)) * np.sqrt(SPECTRUM)
            d = rows.T @ np.linalg.solve(rows @ rows.T + ridge * np.eye(n_rows), rows @ d)
            chain[hop] = d @ d_t / (d_t @ d_t)
    values = jnp.asarray(SPECTRUM)
    predicted = expected_share(values, jnp.asarray(d_t**2), shrinkage(values, n_rows, ridge=ridge), HOPS)
    error = shares.std(axis=0, ddof=1) / np.sqrt(DRAWS)
    assert (np.abs(shares.mean(axis=0) - predicted) < 4 * error + 0.01 * np.asarray(predicted)).all()
    assert (error < 0.02 * np.asarray(predicted)).all()
