import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subsim.theory.single_step import imitation_directions
from subsim.theory.smallness import critical_eps, derivatives_at_zero, first_crossing, predicted_crossings

pytestmark = pytest.mark.usefixtures("x64")
INPUT = jnp.ones((1, 1))


def identity(theta, x):
    return theta


def squared_error(z, y):
    return jnp.sum(jnp.square(z - y))


def search(trait_loss, theta_0, f=identity, loss=squared_error, alpha=0.5, **options):
    return critical_eps(f, theta_0, trait_loss, loss, INPUT, alpha=alpha, **options)


def test_a_quadratic_trait_has_its_closed_form():
    """f = theta, squared error: d_S = 2 eps d_T, so that the crossing lies at |g|^2 / (alpha g' H g)."""
    h = jnp.array([[2.0, 0.3], [0.3, 1.0]])
    theta_0 = jnp.array([1.0, -0.5])
    g = h @ theta_0
    found = search(lambda theta: theta @ h @ theta / 2, theta_0)
    exact = g @ g / (0.5 * g @ h @ g)
    # Third order adds nothing, and neither simplification changes anything.
    for value in (found.measured, *found.predicted[:2], found.linear_teacher, found.quadratic_trait):
        np.testing.assert_allclose(value, exact, rtol=1e-7)


def test_a_cubic_trait_is_met_by_the_cubic_and_missed_by_the_quadratic():
    """L_T = t + b t^2 / 2 + c t^3 / 6 at t = 0, where d_T = -1 and the step is -s with s = 2 alpha eps."""
    b, c = 0.8, -0.6

    def trait_loss(theta):
        (t,) = theta
        return t + b * t**2 / 2 + c * t**3 / 6

    found = search(trait_loss, jnp.zeros(1))
    # -1 + b s / 2 - c s^2 / 6 = 0
    exact = (-b / 2 + np.sqrt(b**2 / 4 - 4 * c / 6)) / (-c / 3)
    np.testing.assert_allclose(found.measured, exact, rtol=1e-7)
    np.testing.assert_allclose(found.predicted.cubic, exact, rtol=1e-10)
    np.testing.assert_allclose(found.predicted.quadratic, 2 / b, rtol=1e-10)
    np.testing.assert_allclose(found.quadratic_trait, 2 / b, rtol=1e-7)
    assert abs(exact - 2 / b) > 0.2


def test_a_rational_gain_is_met_by_pade():
    """phi(eps) = eps (eps - 1) / (1 + 2 eps): the [1/1] form is exact."""
    derivatives = derivatives_at_zero(lambda eps: eps * (eps - 1) / (1 + 2 * eps))
    predicted = predicted_crossings(derivatives)
    np.testing.assert_allclose(predicted.pade, 1, rtol=1e-12)
    assert abs(predicted.quadratic - 1) > 0.3


def test_derivatives_are_those_of_a_polynomial():
    np.testing.assert_allclose(derivatives_at_zero(lambda eps: -3 * eps + 5 * eps**2 + 7 * eps**3), [-3, 10, 42])


@pytest.mark.parametrize(
    ("derivatives", "expected"),
    [
        ([-1.0, -1.0, 0.0], (np.inf, np.inf, np.inf)),  # concave: never back at 0
        ([-1.0, -1.0, 6.0], (np.inf, (0.5 + np.sqrt(4.25)) / 2, np.inf)),  # the third order turns it round
        ([-1.0, 2.0, -6.0], (1.0, np.inf, np.inf)),  # second order crosses, third order bends down before
        ([0.0, 1.0, 1.0], (np.nan, np.nan, np.nan)),  # A = 0: nothing is promised
        ([1.0, 1.0, 1.0], (np.nan, np.nan, np.nan)),
    ],
)
def test_where_nothing_is_predicted(derivatives, expected):
    np.testing.assert_allclose(predicted_crossings(jnp.array(derivatives)), expected, rtol=1e-12)


def test_a_trait_that_falls_for_ever_has_no_critical_eps():
    found = search(lambda theta: theta @ jnp.array([1.0, 2.0]), jnp.zeros(2))
    assert np.isposinf([found.measured, found.predicted.quadratic, found.linear_teacher, found.quadratic_trait]).all()


def test_a_student_that_flees_has_no_small_enough_eps():
    """Control: a loss whose gradient points away from the teacher gains nothing at any eps."""
    found = search(lambda theta: theta @ theta, jnp.ones(2), loss=lambda z, y: -squared_error(z, y))
    assert found.measured < 1e-9
    assert np.isnan(found.predicted.quadratic)


def test_the_first_of_several_crossings_is_found():
    found = first_crossing(lambda eps: -jnp.sin(eps), nearest=1e-2, farthest=50.0)
    np.testing.assert_allclose(found, np.pi, rtol=1e-8)
    assert np.isposinf(first_crossing(lambda eps: -jnp.sin(eps), nearest=1e-2, farthest=3.0))


def small_network(seed):
    """A tanh network, its trait and a weighted squared error, drawn from a seed."""
    first, second, inputs = (jax.random.normal(key, (4, 4)) for key in jax.random.split(jax.random.key(seed), 3))

    def f(theta, x):
        return theta[1] @ jnp.tanh(theta[0] @ x)

    def trait_loss(theta):
        return jnp.sum(jnp.square(f(theta, jnp.ones(4)) - 1))

    return f, (first, second), trait_loss, inputs


def test_the_sign_changes_at_the_measured_crossing_and_not_before():
    for seed in range(10):
        f, theta_0, trait_loss, inputs = small_network(seed)
        found = critical_eps(f, theta_0, trait_loss, squared_error, inputs, alpha=0.3)
        d_t = jax.tree.map(jnp.negative, jax.grad(trait_loss)(theta_0))

        def gain(eps, f=f, theta_0=theta_0, d_t=d_t, trait_loss=trait_loss, inputs=inputs):
            theta_t = jax.tree.map(lambda a, b: a + eps * b, theta_0, d_t)

            def imitation(theta):
                return sum(squared_error(f(theta, x), f(theta_t, x)) for x in inputs) / len(inputs)

            step = jax.grad(imitation)(theta_0)
            return trait_loss(jax.tree.map(lambda a, b: a - 0.3 * b, theta_0, step)) - trait_loss(theta_0)

        assert np.isfinite(found.measured)
        assert all(gain(float(found.measured) * factor) < 0 for factor in (0.01, 0.1, 0.5, 0.9, 1 - 1e-6))
        assert gain(float(found.measured) * (1 + 1e-6)) > 0


def test_smaller_steps_of_the_student_reach_the_lemmas_own_crossing():
    """alpha -> 0: the sign of the gain is that of -d_S . d_T."""
    f, theta_0, trait_loss, inputs = small_network(3)
    d_t = jax.tree.map(jnp.negative, jax.grad(trait_loss)(theta_0))
    d_s = imitation_directions(f, theta_0, d_t, squared_error, inputs)

    def product(eps):
        return sum(jnp.vdot(a, b) for a, b in zip(d_s(eps), d_t, strict=True))

    lemma = first_crossing(lambda eps: -product(eps), nearest=1e-3, farthest=1e3)
    found = critical_eps(f, theta_0, trait_loss, squared_error, inputs, alpha=1e-9)
    assert np.isfinite(lemma)
    np.testing.assert_allclose(found.measured, lemma, rtol=1e-4)


def test_a_linear_model_needs_no_linear_teacher_and_a_tanh_network_does():
    f, theta_0, trait_loss, inputs = small_network(0)
    found = critical_eps(f, theta_0, trait_loss, squared_error, inputs, alpha=0.3)
    assert abs(found.linear_teacher / found.measured - 1) > 1e-3
    assert abs(found.quadratic_trait / found.measured - 1) > 1e-3

    def linear(theta, x):
        return theta[0] @ x

    found = critical_eps(linear, theta_0, lambda theta: jnp.sum(theta[0] ** 4), squared_error, inputs, alpha=0.3)
    np.testing.assert_allclose(found.linear_teacher, found.measured, rtol=1e-8)
