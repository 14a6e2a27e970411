"""Chains of students: the part of a teacher's displacement that arrives after several hops.

Notation of `linearised` and `kernel`: every student starts at theta_0, is linearised there, imitates under squared
error, and teaches the next student; d_0 = d_T. The inputs of hop k have the Jacobian J_k, the kernel K_k = J_k J_k' and
its eigenvectors u. The target of the student is r = J_k d_{k-1}, and it learns the share p of u' r, its `progress`:

    d_k = G_k d_{k-1},   G_k = sum_i p_i v_i v_i',   v_i = J_k' u_i / sqrt(lambda_i)  orthonormal.

**The same inputs.** All G_k equal one G, and d_k = sum_i p_i^k v_i v_i' d_T. A converged student has p = 1 and G = P, a
projection: P^2 = P, and **nothing is lost after the first hop**. After few steps each hop keeps a share p < 1 of a
mode. If momentum overshoots (p > 1), the mode grows.

This holds without linearisation and squared error, too. A student that fits its teacher's imitated
logits exactly has the same targets to pass on: the next student, with the same start, inputs, order and optimiser, is
the same network.

**Fresh inputs.** If every hop draws its inputs anew, the G_k are independent of each other, and given theta_0 and d_T

    E d_k = M^k d_T,   M = E G.

If p is in [0, 1], so are the eigenvalues gamma_i of M, with eigenvectors w_i. Then
E d_k . d_T = sum_i gamma_i^k (w_i' d_T)^2 falls as a mixture of geometric decays: fast at first, then as slowly as the
best learned modes.

**M from the spectrum.** Let Sigma = E j j' be the second moment of a row j of J, with eigenvalues lambda. Let a hop of
n independent rows end at the ridge solution: p = k / (k + delta) for a mode with eigenvalue k (delta = 0: converged).
For many rows and parameters, if every j' A j is close to trace(A Sigma), as for normal rows,

    M = Sigma (Sigma + kappa)^-1,   kappa from   sum_i lambda_i / (lambda_i + kappa) + delta / kappa = n,

the deterministic equivalent of sample covariances (Marchenko and Pastur, 1967; for kernel regression, Simon et al.,
arXiv 2110.03922). The law ignores two facts: rows of ReLU networks differ in length, and the m rows of one input
depend on each other.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from subsim.networks.network import Params
from subsim.theory.kernel import displaced
from subsim.theory.linearised import Kernel
from subsim.theory.single_step import Number


def on_same_inputs(
    kernel: Kernel, theta_0: Params, progress: Float[Array, " N"], hops: int, r: Float[Array, " N"]
) -> Params:
    """Return d_k after `hops` hops on the same inputs; `r` is the first teacher's target, J d_T."""
    return displaced(kernel, theta_0, progress**hops, r)


def shrinkage(eigenvalues: Float[Array, " P"], n_rows: int | Number, *, ridge: Number = 0.0) -> Float[Array, ""]:
    """Return kappa of a hop on `n_rows` independent rows whose second moment has these eigenvalues.

    If `ridge` = 0 and there are at least as many rows as positive eigenvalues, the equation has no solution, and kappa
    is 0.
    """
    values = jnp.maximum(eigenvalues, 0)
    total = jnp.sum(values)

    def learned(kappa: Array) -> Array:
        return jnp.sum(values / (values + kappa)) + ridge / kappa

    # Every mode adds at most lambda / kappa, so that kappa is at most (sum of lambda + ridge) / n_rows.
    low = jnp.log(total) + jnp.log(jnp.finfo(values.dtype).eps) * 2
    high = jnp.log((total + ridge) / n_rows)

    def halve(_: Array | int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        middle = (ends[0] + ends[1]) / 2
        more = learned(jnp.exp(middle)) > n_rows
        return jnp.where(more, middle, ends[0]), jnp.where(more, ends[1], middle)

    _, found = jax.lax.fori_loop(0, 100, halve, (low, high))
    return jnp.where(found - low < 1e-3, 0.0, jnp.exp(found))


def expected_share(
    eigenvalues: Float[Array, " P"], squares: Float[Array, " P"], kappa: Number, hops: int
) -> Float[Array, " hops"]:
    """Return E d_k . d_T / |d_T|^2 after 1, ..., `hops` hops on fresh inputs.

    `squares` are the squared components of d_T along the eigenvectors of Sigma; their sum is |d_T|^2.
    """
    values = jnp.maximum(eigenvalues, 0)
    gamma = values / jnp.where(values + kappa > 0, values + kappa, 1)
    left = [jnp.sum(squares * gamma**hop) for hop in range(1, hops + 1)]
    return jnp.stack(left) / jnp.sum(squares)
