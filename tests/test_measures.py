import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subsim import measures


def test_accuracy_counts_the_largest_logit():
    logits = jnp.array([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0]])
    assert float(measures.accuracy(logits, jnp.array([1, 0, 0]))) == pytest.approx(2 / 3)


def test_a_diverged_network_has_no_accuracy():
    logits = jnp.array([[1.0, jnp.nan], [3.0, 0.0]])
    assert jnp.isnan(measures.accuracy(logits, jnp.array([0, 0])))


def test_alignment_is_the_cosine_over_all_parameters():
    a = {"w": jnp.array([[1.0, 2.0]]), "b": jnp.array([3.0])}
    b = jax.tree.map(lambda leaf: -2 * leaf + 1, a)
    x, y = (np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)]) for tree in (a, b))
    expected = x @ y / np.linalg.norm(x) / np.linalg.norm(y)
    np.testing.assert_allclose(measures.alignment(a, b), expected, rtol=1e-6)
    np.testing.assert_allclose(measures.alignment(a, jax.tree.map(jnp.negative, a)), -1, rtol=1e-6)
    assert measures.alignment(a, measures.displacement(a, a)) == 0
    assert jnp.isnan(measures.alignment(a, jax.tree.map(lambda leaf: leaf * jnp.nan, a)))
