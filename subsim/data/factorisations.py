"""Factorisations that a batch of seeds may ask for: one matrix after the other.

On a CPU, a batch of matrices goes to the threads that also run the program, and whoever handed it in waits: with as
many batches at once as there are threads, nobody is left to work, and the program stands still. A single matrix is done
on the spot.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.custom_batching.sequential_vmap
def eigh(a: Float[Array, "n n"]) -> tuple[Float[Array, " n"], Float[Array, "n n"]]:
    """Eigenvalues of a symmetric matrix, ascending, and its eigenvectors in columns."""
    values, vectors = jnp.linalg.eigh(a)
    return values, vectors


@jax.custom_batching.sequential_vmap
def qr(a: Float[Array, "n m"]) -> tuple[Float[Array, "n k"], Float[Array, "k m"]]:
    """Orthonormal columns, as many as the lesser of n and m, and the upper triangle that makes `a` of them."""
    q, r = jnp.linalg.qr(a)
    return q, r


@jax.custom_batching.sequential_vmap
def solve(a: Float[Array, "n n"], b: Float[Array, "n *k"]) -> Float[Array, "n *k"]:
    """The solution x of a x = b for a positive definite matrix a."""
    return jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(a), b)


def inverse(a: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The inverse of a positive definite matrix."""
    return solve(a, jnp.eye(len(a), dtype=a.dtype))
