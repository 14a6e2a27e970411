"""Beyond one step, by kernels: the part of the teacher's change in a linearised student, at the end and on the way.

Notation as in `linearised`, and: A are the imitated logits on the student's inputs, N outputs in all. C are any M
outputs of interest, such as the class logits of test images. J_A and J_C are their Jacobians at theta_0, and
K_XY = J_X J_Y'. lambda and u are the eigenvalues and eigenvectors of K_AA. r is the student's target on A.

**Where the student ends.** Under squared error its displacement ends at J_A^+ r (`linearised.limit`), so that its
outputs change by K_CA K_AA^+ r. A linearised teacher that was trained by gradients of its own outputs on C has the
displacement J_C' c. Its outputs on C change by K_CC c, and its student's outputs change by T c,

    T = K_CA K_AA^+ K_AC = J_C P J_C',   P = J_A^+ J_A.

T is the Nystroem approximation of K_CC on A (Williams and Seeger, NIPS 2000). P is an orthogonal projection, 0 <= P <=
1, hence **0 <= T <= K_CC** in the order of quadratic forms. More inputs or more imitated logits enlarge the space on
which P projects, and so **never lower T**. T = 0 if no parameter has gradients through both A and C.

**On the way.** Full-batch steps on squared error, averaged over the N outputs, treat every mode separately: the share e
of u' r is still missing. With h = 2 lambda / N,

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
    """Return T, the part of the teacher's kernel on C in a converged student that imitates A; `kernel` is K_AA.

    Eigenvalues of K_AA below `rcond` times its largest count as zero; by default N times the rounding unit.
    """
    half = jacobian_c @ kernel.jacobian.T @ kernel.eigenvectors
    return jnp.einsum("ik,k,jk->ij", half, inverse_eigenvalues(kernel.eigenvalues, rcond), half)


class Product(NamedTuple):
    """T c, shape (n, K), and the residual gradient of the conjugate gradients, relative to the gradient at theta_0."""

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
    """Return T c for large networks, without a Jacobian or a kernel.

    `f_c(theta, x)` returns the outputs of interest for one of the `test_inputs`, and `f_a(theta, x)` returns the
    imitated logits for one of the student's `inputs`. J_C' c is the displacement of a linearised teacher.
    `linearised.limit_by_cg` finds the displacement of its student, with `tolerance` and `iterations`, and J_C maps this
    displacement to outputs.
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

    `n_outputs` is N; give it if some rows of the kernel are masked.
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
    """Return 1 - e, the exact share of every mode that heavy-ball SGD has learned after 0, 1, ..., `steps` steps.

    Steps are full-batch. `n_outputs` is N; give it if some rows of the kernel are masked.
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
    """Return K_CA u (progress / lambda) u' r, the change of the outputs on C, from kernels only."""
    cross = jacobian_c @ kernel.jacobian.T @ kernel.eigenvectors
    return jnp.einsum(
        "...k,k,ik->...i", progress, inverse_eigenvalues(kernel.eigenvalues) * (kernel.eigenvectors.T @ r), cross
    )


def displaced(kernel: Kernel, theta_0: Params, progress: Float[Array, " N"], r: Float[Array, " N"]) -> Params:
    """Return J_A' u (progress / lambda) u' r, the student's displacement; `learned` gives its outputs."""
    return filtered(kernel, theta_0, progress * inverse_eigenvalues(kernel.eigenvalues), r)
