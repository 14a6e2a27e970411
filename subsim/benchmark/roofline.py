"""The two sides of a roofline: the FLOPs of a work's matrix products, and the machine's peak of FLOP/s."""

import itertools
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp

Sizes = Sequence[int]  # units of each layer, inputs first and outputs last


def _products(sizes: Sizes) -> list[int]:
    """Return the FLOPs of each layer's matrix product for one example: a multiplication and an addition per weight."""
    return [2 * fan_in * fan_out for fan_in, fan_out in itertools.pairwise(sizes)]


def forward_flops(sizes: Sizes) -> int:
    """Return the FLOPs of the matrix products in one example's forward pass."""
    return sum(_products(sizes))


def gradient_flops(sizes: Sizes) -> int:
    """Return the FLOPs of the matrix products in one example's forward and backward pass.

    In the backward pass every layer has one product for its weights and one for its inputs; the first layer needs no
    gradient of its inputs.
    """
    return 3 * forward_flops(sizes) - _products(sizes)[0]


def tangent_flops(sizes: Sizes) -> int:
    """Return the FLOPs that a jvp in all weights adds to one example's forward pass; the inputs have no tangent."""
    return 2 * forward_flops(sizes) - _products(sizes)[0]


def figure10_flops(
    hidden: Sizes, n_class: int, n_aux: int, train: int, noise: int, test: int, teacher_epochs: int, epochs: int
) -> int:
    """Return the FLOPs of one seed of the Figure 10 protocol: teacher, targets, four students, six accuracies.

    `hidden` are the sizes of the inputs and hidden layers; `train`, `noise` and `test` are numbers of images. The count
    has only matrix products, for the logits that a step uses: all other work lowers a program's fraction of the
    roofline.
    """
    classes, aux, everything = ((*hidden, outputs) for outputs in (n_class, n_aux, n_class + n_aux))
    teacher = teacher_epochs * train * gradient_flops(classes)
    students = epochs * noise * 2 * (gradient_flops(aux) + gradient_flops(everything))
    return teacher + students + noise * forward_flops(everything) + 6 * test * forward_flops(classes)


def single_step_flops(hidden: Sizes, n_class: int, n_aux: int, batch: int) -> int:
    """Return the FLOPs of one seed of the single-step check for a shared initialisation, as `figure10_flops` counts.

    The check computes the gradient of L_T, L_T after the student's step, the teacher's outputs, the gradient of L_S,
    and the jvp along the teacher's step. The primal of the jvp is the student's forward pass.
    """
    classes, aux = (*hidden, n_class), (*hidden, n_aux)
    trait = gradient_flops(classes) + forward_flops(classes)
    return batch * (trait + forward_flops(aux) + gradient_flops(aux) + tangent_flops(aux))


def precisions() -> list[str]:
    """Return the precisions of the matrix products that are timed on this machine; only GPUs have TF32."""
    return ["float32", *(["tf32"] if jax.default_backend() == "gpu" else []), "bfloat16"]


def matmul_peak(precision: str, sizes: Sizes = (1024, 2048, 4096), repeats: int = 3) -> float:
    """Return the FLOP/s of the fastest square matrix product over `sizes`: operands in `precision`, float32 sums."""
    asked, dtype = ("high", "float32") if precision == "tf32" else ("highest", precision)

    @jax.jit
    def product(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.matmul(a, b, precision=asked, preferred_element_type=jnp.float32)

    best = 0.0
    for size in sizes:
        a, b = jax.random.normal(jax.random.key(size), (2, size, size)).astype(dtype)
        product(a, b).block_until_ready()
        for _ in range(repeats):
            start = time.perf_counter()
            product(a, b).block_until_ready()
            best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best
