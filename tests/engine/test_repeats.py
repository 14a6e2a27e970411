"""A program without its repeats computes the same numbers, and each of them once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import io_callback
from jax.extend.core import ClosedJaxpr, DropVar, jaxpr_as_fun

from subsim.engine.counts import matrix_flops
from subsim.engine.repeats import in_common, without_repeats

X = np.linspace(-1, 1, 15, dtype=np.float32).reshape(3, 5)
W = np.linspace(-2, 1, 25, dtype=np.float32).reshape(5, 5)
ONCE = 2 * 3 * 5 * 5


def checked(function, *arguments):
    """FLOPs of `function` without repeats, whose numbers are seen to be those with them."""
    traced = jax.jit(function).trace(*arguments)
    lean = without_repeats(traced.jaxpr)
    leaves = jax.tree.leaves(arguments)
    jax.tree.map(np.testing.assert_array_equal, jaxpr_as_fun(lean)(*leaves), jaxpr_as_fun(traced.jaxpr)(*leaves))
    return matrix_flops(lean.jaxpr)


def read_in(program):
    """All that an equation of `program` reads, or that is a result of it."""
    return [atom for equation in program.jaxpr.eqns for atom in equation.invars] + program.jaxpr.outvars


def trained(x, w, steps, rate=0.1, activation=jax.nn.relu):
    """Weights and losses along a training: a loop that is traced anew at every call."""

    def step(weights, _):
        loss, slope = jax.value_and_grad(lambda weights: jnp.mean(activation(x @ weights)))(weights)
        return weights - rate * slope, loss

    return jax.lax.scan(step, w, length=steps)


def test_a_loop_that_stands_there_twice_runs_once():
    def twice(x, w):
        return trained(x, w, 7)[0] + 2 * trained(x, w, 7)[0]

    assert checked(twice, X, W) == 7 * 2 * ONCE


def test_what_one_reads_of_a_loop_and_another_does_not_is_there_for_both():
    def last_and_losses(x, w):
        return trained(x, w, 7)[0], trained(x, w, 7)[1]

    assert checked(last_and_losses, X, W) == 7 * 2 * ONCE
    # A transformation of jax may leave out of an equation's results those that nothing reads.
    program = jax.jit(last_and_losses).trace(X, W).jaxpr
    read = set(map(id, read_in(program)))
    terse = [
        equation.replace(outvars=[each if id(each) in read else DropVar(each.aval) for each in equation.outvars])
        for equation in program.jaxpr.eqns
    ]
    assert sum(isinstance(each, DropVar) for equation in terse for each in equation.outvars) == 2
    lean = without_repeats(ClosedJaxpr(program.jaxpr.replace(eqns=terse), program.consts))
    assert matrix_flops(lean.jaxpr) == 7 * 2 * ONCE
    assert not any(isinstance(each, DropVar) for each in read_in(lean))
    jax.tree.map(np.testing.assert_array_equal, jaxpr_as_fun(lean)(X, W), jaxpr_as_fun(program)(X, W))


@pytest.mark.parametrize(
    "other",
    [{"steps": 6}, {"rate": 0.2}, {"activation": jnp.tanh}, {"x": X + 1}, {"w": W + 1}],
    ids=lambda o: next(iter(o)),
)
def test_loops_that_differ_in_anything_both_run(other):
    def both(x, w):
        first = trained(x, w, 7)
        return first, trained(**{"x": x, "w": w, "steps": 7} | other)

    assert checked(both, X, W) == (7 + other.get("steps", 7)) * 2 * ONCE


def test_what_follows_from_the_same_is_the_same():
    """The second training's input is found to be the first's only after what makes it was."""

    def chain(x, w):
        return tuple(trained(x, trained(x, w * 2, 3)[0], 4)[0] * factor for factor in (1, 2))

    assert checked(chain, X, W) == 7 * 2 * ONCE


def test_a_loop_computes_nothing_twice_in_a_round():
    def loop(x, w):
        def step(seen, _):
            return jnp.tanh(x @ w) + jnp.tanh(x @ w) * seen, jnp.sum(x @ w)

        return jax.lax.scan(step, x, length=7)

    assert checked(loop, X, W) == 7 * ONCE


def test_functions_with_derivatives_of_their_own_are_compared_by_what_they_compute():
    def custom(x):
        function = jax.custom_vjp(lambda x: x @ x.T)
        function.defvjp(lambda x: (x @ x.T, x), lambda x, slope: (slope @ x,))
        return function(x)

    assert checked(lambda x, w: jax.nn.relu(x @ w) - 2 * jax.nn.relu(x @ w), X, W) == ONCE
    assert checked(lambda x: custom(x) + 2 * custom(x), X) == 2 * 3 * 3 * 5


def test_choices_and_constants_are_compared_by_value():
    def choice(x, w, factor):
        return jax.lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: factor * (x @ w))

    def with_constant(x, constant):
        return x @ jnp.asarray(constant.copy())

    assert checked(lambda x, w: choice(x, w, 2.0) + choice(x, w, 2.0), X, W) == ONCE
    assert checked(lambda x, w: choice(x, w, 2.0) + choice(x, w, 3.0), X, W) == 2 * ONCE
    assert checked(lambda x: with_constant(x, W) + with_constant(x, W), X) == ONCE
    assert checked(lambda x: with_constant(x, W) + with_constant(x, W + 1), X) == 2 * ONCE


def test_numbers_of_different_types_are_different():
    def both(x):
        return jnp.full((2,), 1, jnp.int32), jnp.full((2,), 1.0, jnp.float32), jnp.full((2,), True), x

    traced = jax.jit(both).trace(X)
    results = jaxpr_as_fun(without_repeats(traced.jaxpr))(X)
    assert [str(result.dtype) for result in results] == ["int32", "float32", "bool", "float32"]


def test_what_has_an_effect_happens_as_often_as_it_stands_there():
    heard = []

    def loud(x):
        for _ in range(2):
            io_callback(hear, None, x)
        return x

    def hear(value):
        heard.append(float(value))

    traced = jax.jit(loud).trace(np.float32(3))
    jaxpr_as_fun(without_repeats(traced.jaxpr))(np.float32(3))
    jax.effects_barrier()
    assert heard == [3.0, 3.0]


def test_a_result_that_stands_there_twice_stays_twice():
    assert len(without_repeats(jax.jit(lambda x: (x + 1, x + 1)).trace(X).jaxpr).jaxpr.outvars) == 2


def test_equal_arrays_are_kept_once():
    keys = jax.random.split(jax.random.key(0), 2)
    runs = [
        {"a": jnp.asarray(X), "n": jnp.float32(jnp.nan), "key": keys[0]},
        {"a": jnp.asarray(X.copy()), "b": jnp.asarray(X, jnp.bfloat16), "key": jax.random.clone(keys[0])},
        {"a": jnp.asarray(X + 1), "b": jnp.asarray(X[:1]), "n": jnp.float32(jnp.nan), "key": keys[1]},
    ]
    common = in_common(runs)
    assert len(jax.tree.leaves(common)) == 8
    again = common()
    assert jax.tree.structure(again) == jax.tree.structure(runs)
    for found, given in zip(jax.tree.leaves(again), jax.tree.leaves(runs), strict=True):
        assert (found.dtype, found.shape) == (given.dtype, given.shape)
        assert bool((found == given).all()) or bool(jnp.isnan(given).all())
