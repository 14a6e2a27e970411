"""The imitation step d_S as a function of the teacher's step size eps."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Num

from subsim.theory.single_step import Model, Number, OutputLoss, Params


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
    """d_S as a function of the teacher's step: eps -> -grad_theta E_x L_S(f_theta(x), f_(theta_0 + eps d_T)(x)).

    The gradient is taken at `student`, or where that is None at theta_0. `linear_teacher` puts the teacher's outputs
    to their first order, f_(theta_0)(x) + eps J(x) d_T. What does not depend on eps is computed once.
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


def number(value: float) -> Float[Array, ""]:
    """`value` as an array of the precision in force, where derivatives are taken."""
    return jnp.asarray(value, jnp.result_type(float))
