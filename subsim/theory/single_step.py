"""Lemma 1 and Theorem 1: one gradient step of imitation from a shared initialisation (arXiv 2507.14805, appendix C).

Notation: reference theta_0; teacher theta_T = theta_0 + eps d_T with d_T = -grad L_T(theta_0); student
theta_S = theta_S0 + alpha d_S with d_S = -grad E_x L_S(f_theta(x), f_theta_T(x)) at theta_S0.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Num

from subsim.networks.network import Params

Model = Callable[[Params, Any], Float[Array, " logits"]]
TraitLoss = Callable[[Params], Float[Array, ""]]
OutputLoss = Callable[[Float[Array, " logits"], Float[Array, " logits"]], Float[Array, ""]]
Number = float | Float[Array, ""]


class SingleStep(NamedTuple):
    """The effect of one imitation step, the theorem's prediction, and the difference. All scalars.

    `inner_product` is d_S . d_T, `predicted` is its leading term eps A, and `remainder` is their difference, O(eps^2).
    `trait_change` is L_T(theta_S0 + alpha d_S) - L_T(theta_S0), and `predicted_trait_change` is its leading term
    -eps alpha A. Both predictions assume a student that starts from theta_0.
    """

    inner_product: Float[Array, ""]
    predicted: Float[Array, ""]
    remainder: Float[Array, ""]
    trait_change: Float[Array, ""]
    predicted_trait_change: Float[Array, ""]


class Imitation(NamedTuple):
    """One imitation step: its direction d_S, a pytree like the parameters, and Lemma 1's three scalars."""

    d_s: Params
    inner_product: Float[Array, ""]
    predicted: Float[Array, ""]
    remainder: Float[Array, ""]


def descent(loss: TraitLoss, theta: Params) -> Params:
    """Return -grad loss at theta."""
    return optax.tree.scale(-1.0, jax.grad(loss)(theta))


def number(value: float) -> Float[Array, ""]:
    """Return `value` as an array in the current float dtype; derivatives need an array."""
    return jnp.asarray(value, jnp.result_type(float))


def imitation_directions(
    f: Model,
    theta_0: Params,
    d_t: Params,
    loss: OutputLoss,
    inputs: Num[Array, "n ..."],
    *,
    student: Params | None = None,
    linear_teacher: bool = False,
) -> Callable[[Number], Params]:
    """Return d_S as a function of the teacher's step: eps -> -grad_theta E_x L_S(f_theta(x), f_(theta_0 + eps d_T)(x)).

    The gradient is taken at `student`, or at theta_0 if `student` is None. `linear_teacher` replaces the teacher's
    outputs by their first order, f_(theta_0)(x) + eps J(x) d_T. Terms that do not depend on eps are computed once.
    """

    def outputs(theta: Params) -> Float[Array, "n logits"]:
        return jax.vmap(lambda x: f(theta, x))(inputs)

    z, pull_back = jax.vjp(outputs, theta_0 if student is None else student)
    if linear_teacher:
        y_0, v = jax.jvp(outputs, (theta_0,), (d_t,))

    def teacher_outputs(eps: Number) -> Float[Array, "n logits"]:
        return y_0 + eps * v if linear_teacher else outputs(optax.tree.add_scale(theta_0, eps, d_t))

    def d_s(eps: Number) -> Params:
        pull = jax.vmap(jax.grad(loss))(z, teacher_outputs(eps))
        return pull_back(-pull / z.shape[0])[0]

    return d_s


def quadratic_form(loss: OutputLoss, z: Float[Array, " logits"], v: Float[Array, " logits"]) -> Float[Array, ""]:
    """Return v' M v at y = z, with M_ij = -d^2 L_S / dy_j dz_i: the strength of imitation along an output change v.

    Two nested derivatives in the space of logits give it for any loss; M is never formed.
    """

    def pull_along_v(y: Array) -> Array:
        return -jnp.vdot(jax.grad(loss)(z, y), v)

    return jax.jvp(pull_along_v, (z,), (v,))[1]


def leading_coefficient(
    f: Model, theta_0: Params, d_t: Params, loss: OutputLoss, inputs: Num[Array, "n ..."]
) -> Float[Array, ""]:
    """Return A = E_x[v(x)' M(x) v(x)] with v(x) = J(x) d_T, the coefficient of the lemma's expansion.

    One jvp of `f` for each sample gives v; no Jacobian is materialised. `inputs` are samples of D, along the first
    axis.
    """

    def sample(x: Array) -> Array:
        z, v = jax.jvp(lambda theta: f(theta, x), (theta_0,), (d_t,))
        return quadratic_form(loss, z, v)

    return jnp.mean(jax.vmap(sample)(inputs))


def imitate(
    f: Model,
    theta_0: Params,
    d_t: Params,
    loss: OutputLoss,
    inputs: Num[Array, "n ..."],
    *,
    eps: Number,
    student: Params | None = None,
) -> Imitation:
    """Take one imitation step towards the teacher at theta_0 + eps d_T, and compare it with Lemma 1.

    **Lemma 1.** Let the student start from theta_0, and let L_S be squared error with weights >= 0 or softmax
    cross-entropy (or KL, which has the same gradient), on any fixed subset of the logits. Then d_S . d_T >= 0 for all
    small enough eps and every direction d_T:  d_S . d_T = eps A + O(eps^2).

    Args:
        f: the model; `f(theta, x)` returns the logits of one example.
        theta_0: the reference's parameters, any pytree; use float64 for reliable signs at small eps.
        d_t: the teacher's direction, a pytree like theta_0: a gradient, or any other direction.
        loss: L_S(z, y) of one example, student's logits first; twice differentiable.
        inputs: samples of D, along the first axis.
        eps: the teacher's step size.
        student: theta_S0; None: theta_0.
    """
    d_s = imitation_directions(f, theta_0, d_t, loss, inputs, student=student)(eps)
    inner_product = optax.tree.vdot(d_s, d_t)
    predicted = eps * leading_coefficient(f, theta_0, d_t, loss, inputs)
    return Imitation(d_s, inner_product, predicted, inner_product - predicted)


def single_step(
    f: Model,
    theta_0: Params,
    trait_loss: TraitLoss,
    imitation_loss: OutputLoss,
    inputs: Num[Array, "n ..."],
    *,
    eps: Number,
    alpha: Number,
    student: Params | None = None,
) -> SingleStep:
    """Take one teacher step and one imitation step, and compare them with Lemma 1 and Theorem 1.

    **Theorem 1.** If Lemma 1 (see `imitate`) applies and d_T = -grad L_T(theta_0), as here, then either d_S . d_T = 0
    for every eps, or L_T falls for all small enough eps:  L_T(theta_S) - L_T(theta_0) = -eps alpha A + O(eps^2).

    Both statements hold for every distribution of inputs. Neither covers another initialisation of the `student`, many
    steps, or a preconditioned step.

    Args:
        f: the model; `f(theta, x)` returns the logits of one example.
        theta_0: the reference's parameters, any pytree; use float64 for reliable signs at small eps.
        trait_loss: L_T, a scalar function of the parameters.
        imitation_loss: L_S(z, y) of one example, student's logits first; twice differentiable.
        inputs: samples of D, along the first axis.
        eps: the teacher's step size.
        alpha: the student's step size.
        student: theta_S0; None: theta_0.
    """
    start = theta_0 if student is None else student
    step = imitate(f, theta_0, descent(trait_loss, theta_0), imitation_loss, inputs, eps=eps, student=student)
    return SingleStep(
        inner_product=step.inner_product,
        predicted=step.predicted,
        remainder=step.remainder,
        trait_change=trait_loss(optax.tree.add_scale(start, alpha, step.d_s)) - trait_loss(start),
        predicted_trait_change=-alpha * step.predicted,
    )
