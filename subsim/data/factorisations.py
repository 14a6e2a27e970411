"""Matrix factorisations that are safe under vmap: they factorise one matrix after the other.

On a CPU, JAX hands a batch of matrices to the threads that also run the program, and the calling thread waits. If all
threads wait for a batch at the same time, no thread is left to work, and the program hangs. The calling thread
factorises a single matrix directly.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.custom_batching.sequential_vmap
def eigh(a: Float[Array, "n n"]) -> tuple[Float[Array, " n"], Float[Array, "n n"]]:
    """Return the eigenvalues of a symmetric matrix, ascending, and its eigenvectors in columns."""
    values, vectors = jnp.linalg.eigh(a)
    return values, vectors


@jax.custom_batching.sequential_vmap
def qr(a: Float[Array, "n m"]) -> tuple[Float[Array, "n k"], Float[Array, "k m"]]:
    """Return the reduced QR decomposition a = q r; q has k = min(n, m) columns."""
    q, r = jnp.linalg.qr(a)
    return q, r


@jax.custom_batching.sequential_vmap
def solve(a: Float[Array, "n n"], b: Float[Array, "n *k"]) -> Float[Array, "n *k"]:
    """Return the solution x of a x = b for a positive definite matrix a."""
    return jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(a), b)


def inverse(a: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Return the inverse of a positive definite matrix."""
    return solve(a, jnp.eye(len(a), dtype=a.dtype))
