"""The linear network's closed form against training, and its overlap against the mean over thousands of teachers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subsim.theory import linear
from subsim.theory.linearised import limit

pytestmark = pytest.mark.usefixtures("x64")
D, HIDDEN, M, N, N_CLASS = 7, 6, 2, 4, 3


@pytest.fixture(scope="module")
def drawn():
    """Heads of the classes and of the auxiliary logits, inputs, and the teacher's change of the weights."""
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 4)
        shapes = ((N_CLASS, HIDDEN), (M, HIDDEN), (N, D), (HIDDEN, D))
        return [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]


def descended(b_a, x, teacher, steps=20_000):
    """Plain descent on the squared error, by hand, from no change at all."""
    x, b_a, teacher = np.asarray(x), np.asarray(b_a), np.asarray(teacher)
    rate = 1 / (np.linalg.norm(b_a, 2) ** 2 * np.linalg.norm(x, 2) ** 2)
    found = np.zeros_like(teacher)
    for _ in range(steps):
        found -= rate * b_a.T @ b_a @ (found - teacher) @ x.T @ x
    return found


def test_training_ends_at_the_two_projections(drawn):
    _, b_a, x, teacher = drawn
    ends = linear.converged(b_a, x, teacher)
    np.testing.assert_allclose(descended(b_a, x, teacher), ends, atol=1e-8)
    targets = x @ teacher.T @ b_a.T
    by_kernel = limit(lambda w, one: b_a @ (w @ one), jnp.zeros_like(teacher), x, targets)
    np.testing.assert_allclose(by_kernel, ends, atol=1e-10)
    assert np.abs(ends - teacher).max() > 0.1  # and not at the teacher


def test_what_both_can_see_is_all_there_is_of_the_teacher(drawn):
    b_c, b_a, x, teacher = drawn
    ends = linear.converged(b_a, x, teacher)
    np.testing.assert_allclose(x @ ends.T @ b_a.T, x @ teacher.T @ b_a.T, atol=1e-10)  # the imitation is perfect
    assert np.abs(x @ (ends - teacher).T @ b_c.T).max() > 0.1  # and the classes are not the teacher's
    enough = linear.converged(jnp.eye(HIDDEN), jnp.eye(D), teacher)
    np.testing.assert_allclose(enough, teacher, atol=1e-12)
    # A head that is orthogonal to the class head passes nothing on.
    apart = b_a @ (jnp.eye(HIDDEN) - linear.row_projection(b_c))
    np.testing.assert_allclose(b_c @ linear.converged(apart, x, teacher), 0, atol=1e-12)


@pytest.mark.parametrize("twice", [False, True])
def test_the_mean_overlap_of_isotropic_teachers_is_the_product_of_ranks(drawn, twice):
    _, b_a, x, _ = drawn
    b_a = jnp.concatenate([b_a, b_a]) if twice else b_a  # the rank counts, and not the number of logits
    teachers = jax.random.normal(jax.random.key(1), (20_000, HIDDEN, D))
    ends = jnp.einsum("ij,njk,kl->nil", linear.row_projection(b_a), teachers, linear.row_projection(x))
    np.testing.assert_allclose(ends[0], linear.converged(b_a, x, teachers[0]), atol=1e-12)
    overlaps = np.asarray(jnp.sum(ends * teachers, (1, 2)) / jnp.sum(teachers**2, (1, 2)))
    expected = float(linear.expected_overlap(b_a, x))
    assert expected == pytest.approx(M / HIDDEN * N / D)
    assert abs(overlaps.mean() - expected) < 4 * overlaps.std() / np.sqrt(len(overlaps))


@pytest.mark.parametrize("n", [N, 2 * D])
def test_heads_that_are_trained_take_their_share(n):
    keys = jax.random.split(jax.random.key(2), 4)
    shapes = (M, HIDDEN), (HIDDEN, D), (n, D), (HIDDEN, D)
    b_a, w_0, x, teacher = (jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True))
    found = linear.converged_with_heads(b_a, w_0, x, teacher)
    ends = limit(lambda moves, one: moves[0] @ (moves[1] @ one), (b_a, w_0), x, x @ (w_0 + teacher).T @ b_a.T)
    np.testing.assert_allclose(found, ends[1], atol=1e-9)
    assert np.abs(np.asarray(ends[0])).max() > 0.1  # the head has moved
    assert np.linalg.norm(found) < np.linalg.norm(linear.converged(b_a, x, teacher))
    # A head that is large beside the hidden weights stays where it is.
    large = linear.converged_with_heads(1e4 * b_a, w_0, x, teacher)
    np.testing.assert_allclose(large, linear.converged(b_a, x, teacher), atol=1e-5)


def test_where_the_inputs_span_everything_each_direction_has_its_share():
    keys = jax.random.split(jax.random.key(3), 4)
    shapes = (M, HIDDEN), (HIDDEN, D), (2 * D, D), (HIDDEN, D)
    b_a, w_0, x, teacher = (jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True))
    values, vectors = np.linalg.eigh(b_a @ b_a.T)
    expected = np.zeros((HIDDEN, D))
    for a, u in zip(values, vectors.T, strict=True):
        row = u @ b_a
        expected += np.outer(row, row) / a @ teacher @ (a * np.linalg.inv(a * np.eye(D) + w_0.T @ w_0))
    np.testing.assert_allclose(linear.converged_with_heads(b_a, w_0, x, teacher), expected, atol=1e-9)
