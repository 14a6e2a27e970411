"""Small teachers under Adam: the scaling, the end of the floor, and the knee."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from subsim.theory.adam import Scales, cosine, ending_eps, knee

pytestmark = pytest.mark.usefixtures("x64")
CURVATURE = np.array([0.5, 2.0, 4.0])
TARGET = np.array([1.0, -2.0, 0.5])


def path(scales: Scales, steps: int) -> np.ndarray:
    """Where Adam is after each step, from 0, on the quadratic whose minimum lies at eps TARGET."""
    optimiser = optax.adam(scales.learning_rate, eps=scales.adam_eps)

    def step(now, _):
        d, state = now
        updates, state = optimiser.update(jnp.asarray(CURVATURE) * (d - scales.eps * TARGET), state)
        return (d + updates, state), d + updates

    with jax.numpy_dtype_promotion("standard"):  # Adam counts its steps in 32 bits
        return np.asarray(jax.lax.scan(step, (jnp.zeros(3), optimiser.init(jnp.zeros(3))), length=steps)[1])


def test_a_displacement_scales_with_all_three():
    scales = Scales(eps=1e-3, learning_rate=1e-3, adam_eps=1e-6)
    smaller = scales.times(1e-2)
    np.testing.assert_allclose(path(smaller, 30), 1e-2 * path(scales, 30), rtol=1e-9)
    unlike = path(smaller._replace(learning_rate=scales.learning_rate), 30)
    assert np.abs(unlike / path(smaller, 30) - 1).max() > 1


def test_a_path_is_linear_in_small_teachers_where_momentum_is_stable():
    rate = 1e-3

    def amplified(factor, eps):
        scales = Scales(eps, rate, factor * ending_eps(CURVATURE.max(), rate))
        return np.abs(path(scales, 1000)).max() / eps

    assert amplified(1.5, 1e-18) == pytest.approx(amplified(1.5, 1e-21), rel=1e-3)
    assert amplified(0.8, 1e-21) > 500 * amplified(0.8, 1e-18)  # the path is as long whatever eps


def test_half_of_the_plateau_lies_at_the_knee_over_the_root_of_three():
    at = knee(0.01, 2.0)
    assert at == 0.005
    assert cosine(0.6, at / np.sqrt(3), at) == pytest.approx(0.3)
    assert cosine(0.6, 1e3, at) == pytest.approx(0.6)
