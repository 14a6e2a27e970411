"""Beyond one step, by kernels: what a linearised student has of its teacher's change, at the end and on the way.

Notation, beside that of `linearised`: A are the imitated logits on the student's inputs, N outputs in all; C any M
outputs of interest, such as the class logits of test images; J_A and J_C their Jacobians at theta_0, K_XY =
J_X J_Y'; lambda and u the eigenvalues and eigenvectors of K_AA; r what the teacher asks of the student on A.

**Where the student ends.** Under squared error its displacement ends at J_A^+ r (`linearised.limit`), so that its
outputs change by K_CA K_AA^+ r. A linearised teacher that was trained by gradients of its own outputs on C has the
displacement J_C' c: its outputs changed by K_CC c, and its student's change by T c,

    T = K_CA K_AA^+ K_AC = J_C P J_C',   P = J_A^+ J_A.

T is the Nystroem approximation of K_CC on A (Williams and Seeger, NIPS 2000). P is an orthogonal projection, 0 <= P <=
1, hence **0 <= T <= K_CC** in the order of quadratic forms; more inputs or more imitated logits enlarge the space on
which P projects, and so **never lower T**. T = 0 where no imitated logit shares a parameter's gradient with C.

**On the way.** Full-batch steps of squared error, averaged over the N outputs, treat every mode alone: of u' r the
share e is still missing. With h = 2 lambda / N,

    gradient flow          e(t) = exp(-h t)
    SGD with heavy ball    e_{s+1} = (1 + mu - eta h) e_s - mu e_{s-1},   e_0 = e_{-1} = 1,

by writing the update in the basis u; mu = 0 is plain descent, e_s = (1 - eta h)^s. The recursion's roots lie inside the
unit circle exactly where 0 < eta h < 2 (1 + mu): steps are **stable below N (1 + mu) / lambda_max** (Polyak, 1964).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from subsim.networks.network import Params
from subsim.theory.linearised import Kernel, filtered, inverse_eigenvalues, limit_by_cg
from subsim.theory.single_step import Model, Number


def nystroem(jacobian_c: Float[Array, "M P"], kernel: Kernel, *, rcond: float | None = None) -> Float[Array, "M M"]:
    """Return T, the part of the teacher's kernel on C that a converged student has by imitating A; `kernel` is A's.

    Eigenvalues of K_AA below `rcond` times its largest count as zero; by default N times the rounding unit.
    """
    half = jacobian_c @ kernel.jacobian.T @ kernel.eigenvectors
    return jnp.einsum("ik,k,jk->ij", half, inverse_eigenvalues(kernel.eigenvalues, rcond), half)


class Product(NamedTuple):
    """T c, shape (n, K), and the gradient that conjugate gradients left of the imitation over that at theta_0."""

    value: Float[Array, "n K"]
    residual: Float[Array, ""]


def nystroem_product(
    f_c: Model,
    f_a: Model,
    theta_0: Params,
    test_inputs: Num[Array, "n ..."],
    inputs: Num[Array, "N ..."],
    c: Float[Array, "n K"],
    *,
    tolerance: float | None = None,
    iterations: int = 1000,
) -> Product:
    """Return T c for large networks: no Jacobian and no kernel is formed.

    `f_c(theta, x)` are the outputs of interest of one of the `test_inputs`, `f_a(theta, x)` the imitated logits of one
    of the student's `inputs`. J_C' c is the displacement of a linearised teacher; `linearised.limit_by_cg`, whose
    `tolerance` and `iterations` these are, finds where its student ends, and J_C what outputs that changes.
    """
    _, push = jax.linearize(lambda theta: jax.vmap(f_c, (None, 0))(theta, test_inputs), theta_0)
    (d_t,) = jax.linear_transpose(push, theta_0)(c)
    y, change = jax.jvp(lambda theta: jax.vmap(f_a, (None, 0))(theta, inputs), (theta_0,), (d_t,))
    ends = limit_by_cg(f_a, theta_0, inputs, y + change, tolerance=tolerance, iterations=iterations)
    return Product(push(ends.displacement), ends.residual)


def flow_progress(
    eigenvalues: Float[Array, " N"], time: float | Float[Array, "*moments"], n_outputs: int | Number | None = None
) -> Float[Array, "*moments N"]:
    """Return 1 - e, the share of every mode that gradient flow has learned after a `time`.

    `n_outputs` is N, if some rows of the kernel are masked.
    """
    h = 2 * eigenvalues / (eigenvalues.size if n_outputs is None else n_outputs)
    return -jnp.expm1(-jnp.multiply.outer(jnp.asarray(time, h.dtype), h))


def momentum_progress(
    eigenvalues: Float[Array, " N"],
    learning_rate: Number,
    steps: int,
    *,
    momentum: Number = 0.0,
    n_outputs: int | Number | None = None,
) -> Float[Array, "moments N"]:
    """Return 1 - e, the share of every mode that SGD with heavy ball has learned after 0, 1, ..., `steps` full-batch
    steps, exactly.

    `n_outputs` is N, if some rows of the kernel are masked.
    """
    h = 2 * eigenvalues / (eigenvalues.size if n_outputs is None else n_outputs)

    def step(missing: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        now, before = missing
        after = (1 + momentum - learning_rate * h) * now - momentum * before
        return (after, now), 1 - after

    one = jnp.ones_like(h)
    _, learned = jax.lax.scan(step, (one, one), length=steps)
    return jnp.concatenate([jnp.zeros_like(h)[None], learned])


def stable_step(
    eigenvalues: Float[Array, " N"], *, momentum: Number = 0.0, n_outputs: int | Number | None = None
) -> Float[Array, ""]:
    """Return the learning rate below which full-batch steps on squared error are stable: N (1 + momentum) / lambda_max.

    Without a dense kernel, `linearised.sharpness` gives 2 lambda_max / N.
    """
    n = eigenvalues.size if n_outputs is None else n_outputs
    return n * (1 + jnp.asarray(momentum)) / jnp.max(eigenvalues)


def learned(
    jacobian_c: Float[Array, "M P"], kernel: Kernel, progress: Float[Array, "*moments N"], r: Float[Array, " N"]
) -> Float[Array, "*moments M"]:
    """Return K_CA u (progress / lambda) u' r, the change of the outputs on C, by kernels alone."""
    cross = jacobian_c @ kernel.jacobian.T @ kernel.eigenvectors
    return jnp.einsum(
        "...k,k,ik->...i", progress, inverse_eigenvalues(kernel.eigenvalues) * (kernel.eigenvectors.T @ r), cross
    )


def displaced(kernel: Kernel, theta_0: Params, progress: Float[Array, " N"], r: Float[Array, " N"]) -> Params:
    """Return J_A' u (progress / lambda) u' r, the student's displacement, with the outputs of `learned`."""
    return filtered(kernel, theta_0, progress * inverse_eigenvalues(kernel.eigenvalues), r)
