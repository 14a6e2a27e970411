"""Transport: one pass backwards against trainings that were changed."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from subsim.theory.transport import Transport, transport
from subsim.training.loop import Training, train

pytestmark = pytest.mark.usefixtures("x64")
N, STEPS = 6, 4
A, B = (np.random.default_rng(place).normal(size=(N, 3)) for place in (0, 1))


def training(optimiser):
    """A nonlinear least-squares problem in three parameters, three examples a step."""

    def losses(params, examples):
        a, b = examples
        return jnp.sum(jnp.square(jnp.tanh(a * params[None]) - b), axis=1)

    def examples(index, _step):
        return jnp.asarray(A)[index], jnp.asarray(B)[index]

    return Training(jax.random.key(0), jnp.array([0.3, -0.2, 0.5]), losses, examples, N, 3, optimiser)


def trait(params):
    return jnp.sum(params**3)


RULES = {"sgd": optax.sgd(0.1), "momentum": optax.sgd(0.1, 0.9), "adam": optax.adam(0.1, eps_root=1e-12)}


@pytest.mark.parametrize("rule", RULES)
def test_the_gradient_is_that_of_differences(rule):
    with jax.numpy_dtype_promotion("standard"):  # Adam counts its steps in 32 bits
        begun = training(RULES[rule])
        found = transport(begun, STEPS, trait)
        size = 1e-6

        def ends(**changed):
            return float(trait(train(begun._replace(**changed), STEPS).params))

        for place in range(N):
            one = jnp.zeros(N).at[place].set(size)
            slope = (ends(weights=1 + one) - ends(weights=1 - one)) / (2 * size)
            assert float(found.weights[place]) == pytest.approx(slope, rel=1e-6, abs=1e-9)
        for place in range(3):
            one = jnp.zeros(3).at[place].set(size)
            slope = (ends(params=begun.params + one) - ends(params=begun.params - one)) / (2 * size)
            assert float(found.params[place]) == pytest.approx(slope, rel=1e-6)


def test_weights_of_one_change_nothing_and_of_zero_remove():
    begun = training(optax.sgd(0.1))
    plain = train(begun, STEPS).params
    np.testing.assert_allclose(train(begun._replace(weights=jnp.ones(N)), STEPS).params, plain)
    without = jnp.ones(N).at[2].set(0.0)
    masked = train(begun._replace(mask=without > 0), STEPS).params
    np.testing.assert_allclose(train(begun._replace(weights=without), STEPS).params, masked)
    assert np.abs(masked - plain).max() > 1e-3


def test_an_optimiser_state_is_transported_and_its_count_is_not():
    with jax.numpy_dtype_promotion("standard"):
        first = train(training(RULES["adam"]), STEPS)
        begun = training(RULES["adam"])._replace(params=first.params, state=first.state, first_step=STEPS)
        found = transport(begun, STEPS, trait)
        size = 1e-5

        def moved(by):
            scaled = begun.state[0]._replace(mu=begun.state[0].mu * (1 + by))
            return float(trait(train(begun._replace(state=(scaled, *begun.state[1:])), STEPS).params))

        zeros = jax.tree.map(jnp.zeros_like, begun.state)
        change = Transport(jnp.zeros(3), (zeros[0]._replace(mu=begun.state[0].mu), *zeros[1:]), jnp.zeros(N))
        assert float(found.effect(change)) == pytest.approx((moved(size) - moved(-size)) / (2 * size), rel=1e-6)
        assert found.state[0].count.dtype == jax.dtypes.float0
