"""The count of matrix products against XLA's, where there is no loop, and against arithmetic where there is."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import subsim
from subsim import roofline
from subsim.engine import program
from subsim.engine.counts import carried_flops, matrix_flops, value_bytes
from subsim.engine.devices import local_mesh
from subsim.training import TrainingConfig

A, B = np.ones((3, 4), np.float32), np.ones((4, 5), np.float32)
ONCE = 2 * 3 * 4 * 5


def counted(function, *arguments):
    return matrix_flops(jax.jit(function).trace(*arguments).jaxpr.jaxpr)


def test_products_are_counted_as_xla_counts_them():
    for function in (jnp.matmul, jax.vmap(jnp.matmul, (None, 1), 1), lambda a, b: jnp.einsum("ij,jk->ki", a, b)):
        assert counted(function, A, B) == jax.jit(function).lower(A, B).compile().cost_analysis()["flops"] == ONCE


def test_loops_count_as_often_as_they_run_and_choices_as_their_dearest():
    def loop(a, b):
        return jax.lax.scan(lambda carry, _: (carry + jnp.sum(a @ b), None), 0.0, length=7)[0]

    def choice(a, b):
        return jax.lax.cond(a[0, 0] > 0, lambda: a @ b, lambda: a @ (b @ (b.T @ b)))

    def unknown(a, b):
        return jax.lax.while_loop(lambda x: x < 10, lambda x: x + jnp.sum(a @ b), a[0, 0])

    def loops(function, *arguments):
        return carried_flops(jax.jit(function).trace(*arguments).jaxpr.jaxpr)

    assert counted(loop, A, B) == 7 * ONCE
    assert loops(lambda a, b: loop(a, b) + jax.jit(loop)(a, b) + jnp.sum(a @ b), A, B) == 14 * ONCE
    assert loops(unknown, A, B) == ONCE
    assert loops(choice, A, B) == 0
    assert loops(lambda a, b: jax.lax.map(lambda row: row @ b, a), A, B) == 0
    assert counted(choice, A, B) == ONCE + 2 * 5 * 4 * 5 + 2 * 4 * 5 * 5
    assert counted(unknown, A, B) == ONCE


def test_bytes_are_those_of_every_value_a_loop_once_a_choice_its_dearest():
    def loop(x):
        return jax.lax.scan(lambda carry, _: (carry + 1, None), x, length=7)[0]

    def choice(x):
        return jax.lax.cond(True, lambda: x + 1, lambda: x.astype(jnp.bfloat16).astype(jnp.float32) * 2)

    def of(function, *arguments):
        return value_bytes(jax.jit(function).trace(*arguments).jaxpr.jaxpr)

    x = np.ones(100, np.float32)
    assert of(lambda x: x * 2 + 1, x) == 800
    assert of(loop, x) == 400
    assert of(choice, x) == 200 + 400 + 400
    assert of(jax.vmap(jnp.sin), x) == 400
    assert of(lambda key: jax.random.split(key, 2), jax.random.key(0)) == 16


@pytest.mark.usefixtures("optax_promotion")
def test_figure_10_is_counted_as_its_formula_counts_it():
    """Every loop of the program: lanes, blocks, steps; on each of two devices."""
    study = subsim.load_study("mnist_aux_logits")
    training = TrainingConfig(epochs=2, batch=479)  # a third of the digits: no step is filled up
    student = dataclasses.replace(study.config.student, epochs=2, batch=128, n_inputs=1024)
    config = dataclasses.replace(study.config, data="digits", widths=(32, 16), teacher=training, student=student)
    prepared = program.prepare(study, config, study.hyper, (), 0, "float32")
    traced = program.trace(prepared, program.Plan(chunk=12, lanes=3), local_mesh()).traced
    formula = roofline.figure10_flops((64, 32, 16), 10, 3, train=1437, noise=1024, test=360, epochs=2)
    # The teacher's head computes the logits that no loss uses, too.
    assert 1 <= matrix_flops(traced.jaxpr.jaxpr) / (6 * formula) < 1.05
