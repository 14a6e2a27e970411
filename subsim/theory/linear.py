"""Linear networks: the converged student's weights, and their overlap with the teacher's change.

f(W, x) = [B_C; B_A] W x with inputs x in D dimensions, d hidden units, and fixed heads: B_C for the classes, and B_A
for the m auxiliary logits. The teacher is W_0 + dW_T with any dW_T. The student starts at W_0 and imitates the
auxiliary logits on n inputs, the rows of X, under squared error.

**Statement.** Full-batch descent with stable steps ends at

    dW_S = P_A dW_T P_X,

where P_A is the orthogonal projection on the row space of B_A (in d dimensions), and P_X is the orthogonal projection
on the span of the inputs (in D dimensions). The class logits change by B_C P_A dW_T P_X x. So only one part of dW_T
counts: its columns lie in the row space of B_A, and it acts on the span of the inputs.

Proof. The gradient is B_A' (...) X, so that dW_S stays in the image of D -> P_A D P_X. On this image D -> B_A D X' is
one to one, and only P_A dW_T P_X has zero loss, since B_A P_A dW_T P_X X' = B_A dW_T X'. This is the statement of
`kernel` with K_AA = B_A B_A' (x) X X' and P = P_A (x) P_X.

**Overlap.** If the direction of dW_T is isotropic, E[dW_S . dW_T / |dW_T|^2] = (rank B_A / d) (rank X / D): the trace
of P_A (x) P_X divided by the trace of the identity. A dW_T trained on labels is not isotropic: its columns lie in the
row space of B_C.

**Trained heads.** The student may then fit with its head in place of its hidden weights. Linearised at (B_A, W_0), with
B_A B_A' = sum_i a_i u_i u_i' and full-batch steps as above, it ends at

    dW_S = sum_i B_A' u_i y_i X,   y_i X (a_i 1 + W_0' W_0) X' = u_i' B_A dW_T X',

with the shortest such y_i. If the inputs span all D dimensions, this is, with P_i the projection on B_A' u_i,

    dW_S = sum_i P_i dW_T a_i (a_i 1 + W_0' W_0)^-1.

So the student gets the share a_i / (a_i + s^2) of the component of P_i dW_T along a right singular vector of W_0 with
singular value s. Larger heads and smaller hidden weights pass on more.

Proof. K_AA = B_A B_A' (x) X X' + 1 (x) X W_0' W_0 X', and r = B_A dW_T X', because the teacher's auxiliary head has not
moved. u diagonalises the first factors of both terms. The real network follows its linearisation as long as its heads
have moved little: W W' - B_A' B_A is conserved under gradient flow (Saxe et al., arXiv 1312.6120). We know no closed
form of its end for all heads and inputs.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from subsim.data.factorisations import eigh
from subsim.theory.linearised import inverse_eigenvalues


def row_projection(a: Float[Array, "n d"], *, rcond: float | None = None) -> Float[Array, "d d"]:
    """Return the orthogonal projection on the span of the rows of `a`.

    Eigenvalues of a'a below `rcond` times the largest count as zero; by default max(n, d) times the rounding unit.
    """
    values, vectors = eigh(a.T @ a)
    cut = max(a.shape) * jnp.finfo(values.dtype).eps if rcond is None else rcond
    basis = jnp.where((values > cut * values[-1])[None], vectors, 0)
    return basis @ basis.T


def converged(b_a: Float[Array, "m d"], x: Float[Array, "n D"], teacher: Float[Array, "d D"]) -> Float[Array, "d D"]:
    """Return dW_S = P_A dW_T P_X of a converged student with heads `b_a` and inputs `x`; `teacher` is dW_T."""
    return row_projection(b_a) @ teacher @ row_projection(x)


def converged_with_heads(
    b_a: Float[Array, "m d"], w_0: Float[Array, "d D"], x: Float[Array, "n D"], teacher: Float[Array, "d D"]
) -> Float[Array, "d D"]:
    """Return dW_S of a converged linearised student that also trains its head `b_a`; `teacher` is dW_T."""
    values, vectors = eigh(b_a @ b_a.T)
    outer, through = x @ x.T, x @ w_0.T @ w_0 @ x.T

    def shortest(a: Array, r: Float[Array, " n"]) -> Float[Array, " n"]:
        modes, directions = eigh(a * outer + through)
        return directions @ (inverse_eigenvalues(modes) * (directions.T @ r))

    y = jax.vmap(shortest)(values, vectors.T @ b_a @ teacher @ x.T)
    return b_a.T @ vectors @ y @ x


def expected_overlap(b_a: Float[Array, "m d"], x: Float[Array, "n D"]) -> Float[Array, ""]:
    """Return (rank B_A / d) (rank X / D), the mean of dW_S . dW_T / |dW_T|^2 over isotropic dW_T."""
    return jnp.trace(row_projection(b_a)) / b_a.shape[1] * jnp.trace(row_projection(x)) / x.shape[1]
