"""The linearised student: the end of imitation under squared error, in closed form.

Notation: f(theta, x) are the m imitated logits of one input. J is their Jacobian over the n inputs of D_S at theta_0,
with N = n m rows, and K = J J' is their tangent kernel. d_T = theta_T - theta_0. y are the teacher's outputs, and
r = y - f(theta_0) is the student's target. The linearisation is

    f_lin(theta, x) = f(theta_0, x) + J(x) (theta - theta_0),

which wide networks follow under gradient descent (Lee et al., arXiv 1902.06720; for K see Jacot et al., 1806.07572).

**The end of the student.** The squared error of f_lin, averaged over inputs and logits, has the gradient
(2/N) J' (J d - r) at theta_0 + d. The gradient is always in the row space of J, the span of the imitated logits'
gradients. Gradient descent from theta_0 never leaves this span, which has exactly one minimiser, J^+ r. Hence the
claims of `limit`, `limit_by_cg` and `after_steps`.

**Consequences for transfer.** If the teacher is linearised, y = f_lin(theta_T), then r = J d_T, and the student's
displacement ends at P d_T, where P = J^+ J is the orthogonal projection onto the span. On the way the displacement is
J' g(K) J d_T, with g >= 0 for stable steps. So d_S . d_T >= 0 after any number of steps and for d_T of any size: the
sign of Lemma 1 holds beyond one step. If the teacher is real, y = f(theta_T), then r = J d_T + O(|d_T|^2) for smooth f.
The limit is the least-squares solution of smallest norm, P d_T + J^+ O(|d_T|^2), and its sign is not determined. A ReLU
that changes sign changes gradients by a jump. Over many units and inputs a share of about |d_T|/|theta_0| changes sign.
The relative distance of the student from the linearised student is of the order of the root of this share. With a
smooth activation it is of the order of |d_T|/|theta_0|.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key, Num

from subsim.data.factorisations import eigh
from subsim.networks.network import Params
from subsim.theory.single_step import Model, Number


def _outputs(f: Model, theta: Params, inputs: Num[Array, "n ..."]) -> Float[Array, "n m"]:
    return jax.vmap(f, (None, 0))(theta, inputs)


class Kernel(NamedTuple):
    """The kernel K = J J': its eigenvalues in ascending order, its eigenvectors in columns, and J, shape (N, P)."""

    eigenvalues: Float[Array, " N"]
    eigenvectors: Float[Array, "N N"]
    jacobian: Float[Array, "N P"]


def dense_jacobian(f: Model, theta_0: Params, inputs: Num[Array, "n ..."]) -> Float[Array, "N P"]:
    """Return J, with the rows and columns of `tangent_kernel`."""
    flat, unravel = ravel_pytree(theta_0)
    jacobian = jax.vmap(jax.jacrev(lambda theta, x: f(unravel(theta), x)), (None, 0))(flat, inputs)
    return jacobian.reshape(-1, flat.size)


def tangent_kernel(f: Model, theta_0: Params, inputs: Num[Array, "n ..."]) -> Kernel:
    """Return the dense kernel of `f` over `inputs`; it takes memory for N P numbers and N^2 P multiplications.

    The rows of J are the outputs, shape (n, m), in row-major order. The columns are the parameters in the order of
    `jax.flatten_util.ravel_pytree`.
    """
    jacobian = dense_jacobian(f, theta_0, inputs)
    eigenvalues, eigenvectors = eigh(jacobian @ jacobian.T)
    return Kernel(eigenvalues, eigenvectors, jacobian)


def filtered(kernel: Kernel, theta_0: Params, weights: Array, r: Array) -> Params:
    """Return J' g(K) r, with `weights` the values of g at the eigenvalues of K."""
    u = kernel.eigenvectors
    _, unravel = ravel_pytree(theta_0)
    return unravel((u @ (weights * (u.T @ r.ravel()))) @ kernel.jacobian)


def inverse_eigenvalues(values: Float[Array, " N"], rcond: float | None = None) -> Float[Array, " N"]:
    """Return the eigenvalues of K^+ from the eigenvalues `values` of K in ascending order.

    Eigenvalues below `rcond` times the largest count as zero; by default N times the rounding unit.
    """
    cut = values.size * jnp.finfo(values.dtype).eps if rcond is None else rcond
    nonzero = values > cut * values[-1]
    return jnp.where(nonzero, 1 / jnp.where(nonzero, values, 1), 0)


def limit(
    f: Model,
    theta_0: Params,
    inputs: Num[Array, "n ..."],
    targets: Float[Array, "n m"],
    *,
    kernel: Kernel | None = None,
    rcond: float | None = None,
) -> Params:
    """Return J^+ r, the final displacement of the linearised student, by the dense pseudo-inverse J' K^+ r.

    **Claim.** The loss is squared error averaged over `inputs` and logits, and training starts at theta_0. Full-batch
    gradient descent with a step below 2 / lambda_max((2/N) J'J), with or without heavy-ball momentum, ends at J^+ r. So
    does minibatch SGD with a small enough step if some parameters fit all targets, for example if the teacher is
    linearised; otherwise SGD hovers about J^+ r. Adam leaves the span and ends elsewhere.

    Args:
        f: the model restricted to the imitated logits; `f(theta, x)` has shape (m,) for one example.
        theta_0: the student's initial parameters, any pytree.
        inputs: all inputs of D_S, along the first axis.
        targets: the teacher's imitated logits on `inputs`: f(theta_T), or f_lin(theta_T).
        kernel: `tangent_kernel(f, theta_0, inputs)`, if it is already known.
        rcond: eigenvalues of K below `rcond` times its largest count as zero; by default N times the rounding unit.
    """
    kernel = tangent_kernel(f, theta_0, inputs) if kernel is None else kernel
    return filtered(
        kernel, theta_0, inverse_eigenvalues(kernel.eigenvalues, rcond), targets - _outputs(f, theta_0, inputs)
    )


def after_steps(
    f: Model,
    theta_0: Params,
    inputs: Num[Array, "n ..."],
    targets: Float[Array, "n m"],
    *,
    learning_rate: Number,
    steps: int,
    kernel: Kernel | None = None,
) -> Params:
    """Return the displacement of the linearised student after `steps` full-batch gradient steps: J' g(K) r.

    **Claim.** Under the assumptions of `limit`, but without momentum, and for every step size:
    g(k) = (1 - (1 - 2 eta k / N)^steps) / k, which is 2 eta steps / N at k = 0 and tends to 1/k.
    """
    kernel = tangent_kernel(f, theta_0, inputs) if kernel is None else kernel
    rate = 2 * learning_rate / kernel.eigenvalues.size
    x = rate * kernel.eigenvalues
    slow = jnp.where(x < 0.5, x, 0)  # there 1 - (1 - x)^steps loses its digits
    gone = jnp.where(x < 0.5, -jnp.expm1(steps * jnp.log1p(-slow)), 1 - (1 - x) ** steps)
    weights = rate * jnp.where(x == 0, steps, gone / jnp.where(x == 0, 1, x))
    return filtered(kernel, theta_0, weights, targets - _outputs(f, theta_0, inputs))


class Solution(NamedTuple):
    """A displacement, and its gradient norm relative to the gradient at theta_0: 0 at the limit, 1 at the start."""

    displacement: Params
    residual: Float[Array, ""]


def limit_by_cg(
    f: Model,
    theta_0: Params,
    inputs: Num[Array, "n ..."],
    targets: Float[Array, "n m"],
    *,
    tolerance: float | None = None,
    iterations: int = 1000,
) -> Solution:
    """Return J^+ r as in `limit`, with the same assumptions, by conjugate gradients on J'J d = J' r, without forming J.

    Started at zero, conjugate gradients stay in the span, as gradient descent does, and need no pseudo-inverse. They
    stop when the gradient is below `tolerance` times the first gradient (by default 100 times the rounding unit), or
    after `iterations`. An iteration costs one forward and one backward product with J. A much smaller tolerance does
    harm: rounding leaves a gradient outside the span that cannot be reduced, and the iteration would follow it out of
    the span.
    """
    value, push = jax.linearize(lambda theta: _outputs(f, theta, inputs), theta_0)
    transpose = jax.linear_transpose(push, theta_0)

    def pull(u: Array) -> Params:
        return transpose(u)[0]

    def normal(d: Params) -> Params:
        return pull(push(d))

    start = pull(targets - value)
    size = optax.tree.norm(start)
    enough = 100 * jnp.finfo(size.dtype).eps if tolerance is None else tolerance
    d, _ = jax.scipy.sparse.linalg.cg(normal, start, tol=enough, maxiter=iterations)
    left = optax.tree.norm(optax.tree.sub(normal(d), start))
    return Solution(d, jnp.where(size == 0, 0.0, left / jnp.where(size == 0, 1.0, size)))


def project(
    f: Model, theta_0: Params, inputs: Num[Array, "n ..."], d: Params, *, kernel: Kernel | None = None
) -> Params:
    """Return P d, the orthogonal projection of a displacement onto the span of the imitated logits' gradients; dense.

    The student of a linearised teacher theta_T = theta_0 + d ends at P d: it is `limit` with r = J d. To avoid a dense
    kernel, give `limit_by_cg` the targets f_lin(theta_0 + d).
    """
    kernel = tangent_kernel(f, theta_0, inputs) if kernel is None else kernel
    return filtered(kernel, theta_0, inverse_eigenvalues(kernel.eigenvalues), kernel.jacobian @ ravel_pytree(d)[0])


def recovered_fraction(d: Params, d_t: Params) -> Float[Array, ""]:
    """Return d . d_T / |d_T|^2, the share of the teacher's displacement in the student's; 0 for a teacher at rest.

    For d = P d_T it is |P d_T|^2 / |d_T|^2, in [0, 1]. It is 1 if the imitated logits on D_S determine the teacher's
    whole displacement, and 0 if the displacement does not move them. For other displacements it may be any number.
    """
    size = optax.tree.vdot(d_t, d_t)
    return jnp.where(size == 0, 0.0, optax.tree.vdot(d, d_t) / jnp.where(size == 0, 1.0, size))


def sharpness(
    loss: Callable[[Params], Float[Array, ""]], theta: Params, key: Key[Array, ""], *, iterations: int = 50
) -> Float[Array, ""]:
    """Return the largest eigenvalue of the Hessian of a convex `loss` at `theta`, by power iteration from below.

    Gradient descent on the quadratic approximation is stable for steps below 2 / sharpness. For a linearised model the
    Hessian of squared error is (2/N) J'J, for all parameters and targets.
    """

    def scaled(d: Params) -> Params:
        return optax.tree.scale(1 / optax.tree.norm(d), d)

    def bent(d: Params) -> Params:
        return jax.jvp(jax.grad(loss), (theta,), (d,))[1]

    start = scaled(optax.tree.random_like(key, theta))
    direction = jax.lax.fori_loop(0, iterations, lambda _, d: scaled(bent(d)), start)
    return optax.tree.vdot(direction, bent(direction))
