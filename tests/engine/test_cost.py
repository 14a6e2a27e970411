"""The count of matrix products against XLA's, where there is no loop, and against arithmetic where there is."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import subsim
from subsim.benchmark import roofline
from subsim.engine.cost import UNKNOWN_ROUNDS, cost_of
from subsim.engine.devices import local_mesh
from subsim.engine.plan import Plan
from subsim.engine.program import batched, trace
from subsim.training.optimisers import TrainingConfig

A, B = np.ones((3, 4), np.float32), np.ones((4, 5), np.float32)
ONCE = 2 * 3 * 4 * 5


def cost(function, *arguments):
    return cost_of(jax.jit(function).trace(*arguments))


def test_products_are_counted_as_xla_counts_them():
    for function in (jnp.matmul, jax.vmap(jnp.matmul, (None, 1), 1), lambda a, b: jnp.einsum("ij,jk->ki", a, b)):
        xla = jax.jit(function).lower(A, B).compile().cost_analysis()["flops"]
        assert cost(function, A, B).flops == xla == ONCE


def test_loops_count_as_often_as_they_run_and_choices_as_their_dearest():
    def loop(a, b):
        return jax.lax.scan(lambda carry, _: (carry + jnp.sum(a @ b), None), 0.0, length=7)[0]

    def choice(a, b):
        return jax.lax.cond(a[0, 0] > 0, lambda: a @ b, lambda: a @ (b @ (b.T @ b)))

    def unknown(a, b):
        return jax.lax.while_loop(lambda x: x < 10, lambda x: x + jnp.sum(a @ b), a[0, 0])

    assert cost(loop, A, B).flops == 7 * ONCE
    assert cost(lambda a, b: loop(a, b) + jax.jit(loop)(a, b) + jnp.sum(a @ b), A, B).flops == 15 * ONCE
    assert cost(jax.vmap(loop, (0, None)), np.stack([A, A]), B).flops == 2 * 7 * ONCE
    assert cost(lambda a, b: jax.lax.map(lambda row: row @ b, a), A, B).flops == ONCE
    assert cost(choice, A, B).flops == ONCE + 2 * 5 * 4 * 5 + 2 * 4 * 5 * 5
    assert cost(unknown, A, B).flops == UNKNOWN_ROUNDS * ONCE


def test_convolutions_are_counted_as_xla_counts_them():
    images, kernel = np.ones((2, 7, 7, 6), np.float32), np.ones((3, 3, 3, 4), np.float32)
    for groups, strides in ((2, (1, 1)), (2, (2, 2))):
        convolve = functools.partial(
            jax.lax.conv_general_dilated,
            window_strides=strides,
            padding="VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )
        xla = jax.jit(convolve).lower(images, kernel).compile().cost_analysis()["flops"]
        assert cost(convolve, images, kernel).flops == xla


def test_the_largest_product_is_that_of_one_step():
    def loop(a, b):
        return jax.lax.scan(lambda carry, _: (carry + jnp.sum(a @ b) + jnp.sum(a @ b[:, :1]), None), 0.0, length=7)[0]

    assert cost(loop, A, B).product == ONCE
    assert cost(lambda a, b: loop(a, b) + jnp.sum(b @ (b.T @ b)), A, B).product == 2 * 5 * 4 * 5
    assert cost(jax.vmap(loop, (0, None)), np.stack([A, A]), B).product == 2 * ONCE
    # Two products that have no operand in common are made one after the other.
    assert cost(jax.vmap(loop), np.stack([A, A]), np.stack([B, B])).product == ONCE
    assert cost(jax.vmap(loop), np.stack([A, A]), np.stack([B, B])).flops == 2 * cost(loop, A, B).flops
    assert cost(jnp.sin, A).product == 0


def test_bytes_are_those_of_every_value_a_loop_once_a_choice_its_dearest():
    def loop(x):
        return jax.lax.scan(lambda carry, _: (carry + 1, None), x, length=7)[0]

    def choice(x):
        return jax.lax.cond(True, lambda: x + 1, lambda: x.astype(jnp.bfloat16).astype(jnp.float32) * 2)

    x = np.ones(100, np.float32)
    assert cost(lambda x: x * 2 + 1, x).bytes == 800
    assert cost(loop, x).bytes == 400
    assert cost(choice, x).bytes == 200 + 400 + 400
    assert cost(jax.vmap(jnp.sin), x).bytes == 400
    assert cost(lambda key: jax.random.split(key, 2), jax.random.key(0)).bytes == 16


@pytest.mark.usefixtures("optax_promotion")
def test_figure_10_is_counted_as_its_formula_counts_it():
    """Every loop of the program: blocks, steps, and the seeds side by side on each of two devices."""
    study = subsim.load_study("mnist_aux_logits").at_size("mnist")
    training = TrainingConfig(epochs=2, batch=479)  # a third of the digits: no step is filled up
    student = dataclasses.replace(study.config.student, epochs=2, batch=128, n_inputs=1024)
    config = dataclasses.replace(study.config, data="digits", widths=(32, 16), teacher=training, student=student)
    program = trace(study, [config], study.hyper, (), 0, "float32")
    formula = roofline.figure10_flops((64, 32, 16), 10, 3, train=1437, noise=1024, test=360, teacher_epochs=2, epochs=2)
    # The teacher's head computes the logits that no loss uses, too.
    assert 1 <= program.cost.flops / formula < 1.05
    of_a_call = cost_of(batched(program, Plan(chunk=6, at_once=3), local_mesh()))
    assert of_a_call.flops == pytest.approx(3 * program.cost.flops, rel=0.01)
