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
