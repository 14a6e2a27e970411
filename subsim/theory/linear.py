"""Linear networks with fixed heads: the converged student's weights, and how much of the teacher's change they have.

f(W, x) = [B_C; B_A] W x with inputs x of D numbers, d hidden units, and heads that nobody trains: B_C of the classes,
B_A of the m auxiliary logits. The teacher is W_0 + dW_T, whatever training made dW_T; the student starts at W_0 and
imitates the auxiliary logits on n inputs, the rows of X, under squared error.

**Statement.** Full-batch descent with stable steps ends at

    dW_S = P_A dW_T P_X,

P_A the orthogonal projection on the row space of B_A (in the d hidden units), P_X that on the span of the inputs (in
their D numbers). The class logits change by B_C P_A dW_T P_X x: of the teacher's change there is what both can see.

Proof. The gradient is B_A' (...) X, so that dW_S stays in the image of D -> P_A D P_X; on it D -> B_A D X' is one to
one, and the loss is zero at P_A dW_T P_X alone, since B_A P_A dW_T P_X X' = B_A dW_T X'. It is the kernel's statement
(`kernel`): K_AA = B_A B_A' (x) X X', and P = P_A (x) P_X.

**Overlap.** For a dW_T whose direction is isotropic, E[dW_S . dW_T / |dW_T|^2] = (rank B_A / d) (rank X / D): the trace
of P_A (x) P_X over that of the identity. A trained dW_T is not isotropic: it has the rank of its labels.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from subsim.data.factorisations import eigh


def row_projection(a: Float[Array, "n d"], *, rcond: float | None = None) -> Float[Array, "d d"]:
    """Return the orthogonal projection on the span of the rows of `a`.

    Eigenvalues of a'a below `rcond` times the largest count as zero; by default max(n, d) times the rounding unit.
    """
    values, vectors = eigh(a.T @ a)
    cut = max(a.shape) * jnp.finfo(values.dtype).eps if rcond is None else rcond
    kept = jnp.where((values > cut * values[-1])[None], vectors, 0)
    return kept @ kept.T


def converged(b_a: Float[Array, "m d"], x: Float[Array, "n D"], teacher: Float[Array, "d D"]) -> Float[Array, "d D"]:
    """Return P_A dW_T P_X, the weights' change of a converged student with heads `b_a` and inputs `x`; `teacher` is
    dW_T."""
    return row_projection(b_a) @ teacher @ row_projection(x)


def expected_overlap(b_a: Float[Array, "m d"], x: Float[Array, "n D"]) -> Float[Array, ""]:
    """Return (rank B_A / d) (rank X / D), the mean of dW_S . dW_T / |dW_T|^2 over isotropic dW_T."""
    return jnp.trace(row_projection(b_a)) / b_a.shape[1] * jnp.trace(row_projection(x)) / x.shape[1]
