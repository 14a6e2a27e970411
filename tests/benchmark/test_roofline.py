"""The formulas for FLOPs against XLA's own count of compiled programs, and the peak against its definition."""

import jax
import jax.numpy as jnp
import pytest

from subsim.benchmark import roofline
from subsim.networks.mlp import MLPConfig, make_mlp
from subsim.theory.single_step import single_step
from subsim.training.losses import IMITATION_LOSSES, task_cross_entropy

# Hidden layers so wide that all but their matrix products is small change.
WIDTHS, PIXELS, N_CLASS, N_AUX, BATCH = (160, 128), 96, 5, 3, 64
HIDDEN = (PIXELS, *WIDTHS)
CLASSES, AUX, EVERYTHING = ((*HIDDEN, outputs) for outputs in (N_CLASS, N_AUX, N_CLASS + N_AUX))
NETWORK = make_mlp(MLPConfig(WIDTHS, N_AUX), PIXELS, N_CLASS)
MASK = jnp.arange(N_CLASS + N_AUX) >= N_CLASS


def arguments():
    own, images, noise = jax.random.split(jax.random.key(0), 3)
    shape = (BATCH, PIXELS)
    return NETWORK.init(own), jax.random.normal(images, shape), jax.random.normal(noise, shape)


def outputs(params, x):
    return jax.vmap(lambda x: NETWORK.apply(params, x))(x)


def trait(params, x):
    return jnp.mean(jax.vmap(task_cross_entropy)(outputs(params, x)[:, :N_CLASS], jnp.arange(BATCH) % N_CLASS))


def imitation(z, y):
    return IMITATION_LOSSES["kl"].value(z, y, MASK)


def check(params, images, noise):
    return single_step(NETWORK.apply, params, lambda p: trait(p, images), imitation, noise, eps=1e-3, alpha=1.0)


# What is counted -> (the program, the formula's FLOPs of one example).
PROGRAMS = {
    "forward": (lambda params, images, noise: outputs(params, images), roofline.forward_flops(EVERYTHING)),
    "gradient": (lambda params, images, noise: jax.grad(trait)(params, images), roofline.gradient_flops(CLASSES)),
    "tangent": (
        lambda params, images, noise: jax.jvp(
            lambda theta: outputs(theta, images), (params,), (jax.tree.map(jnp.cos, params),)
        ),
        roofline.forward_flops(EVERYTHING) + roofline.tangent_flops(EVERYTHING),
    ),
    "single step": (check, roofline.single_step_flops(HIDDEN, N_CLASS, N_AUX, BATCH) / BATCH),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_formulas_agree_with_xla(name):
    program, formula = PROGRAMS[name]
    counted = jax.jit(program).lower(*arguments()).compile().cost_analysis()["flops"] / BATCH
    assert 1 <= counted / formula < 1.05  # XLA counts the activations, losses and unused logits too


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_peak_is_measured(dtype):
    assert 1e6 < roofline.matmul_peak(dtype, sizes=(32, 64), repeats=1) < 1e17
