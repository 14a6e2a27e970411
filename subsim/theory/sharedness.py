"""How shared is shared: what is left of Lemma 1 when the student's initialisation is not its teacher's.

Notation as in `single_step`. A student that starts from theta_S0 = cos(phi) theta_0 + sin(phi) theta', theta' an
independent draw of the reference's law, imitates even an untrained teacher: d_S . d_T has an offset at eps = 0.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Num

from subsim.networks.network import Params
from subsim.theory.single_step import (
    Model,
    Number,
    OutputLoss,
    TraitLoss,
    descent,
    imitation_directions,
    leading_coefficient,
    number,
)


class Sharedness(NamedTuple):
    """One imitation step of a student of any init, and the terms of d_S . d_T = offset + eps slope + O(eps^2). Scalars.

    `offset` is d_S . d_T at eps = 0, where the student imitates the untrained teacher: 0 for a shared init. `slope` is
    its derivative in eps there: A for a shared init. `signal` is eps A, as for a shared init. `trait_change` is
    L_T(theta_S0 + alpha d_S) - L_T(theta_S0).
    """

    inner_product: Float[Array, ""]
    offset: Float[Array, ""]
    slope: Float[Array, ""]
    signal: Float[Array, ""]
    trait_change: Float[Array, ""]


def against_offset(
    f: Model,
    theta_0: Params,
    trait_loss: TraitLoss,
    imitation_loss: OutputLoss,
    inputs: Num[Array, "n ..."],
    student: Params,
    *,
    eps: Number,
    alpha: Number,
) -> Sharedness:
    """Part d_S . d_T of a student that starts from `student` into its offset, its slope and the shared init's signal.

    The expansion holds for every `student` of f's parameters, for a loss twice differentiable along the ray; arguments
    as in `single_step`. With theta_S0 rotated by phi, the slope differs from A by O(phi) and the offset is
    -phi E_x[(J theta')' M v] + O(phi^2): its first-order part is odd in theta', and so of mean zero over draws.
    """
    d_t = descent(trait_loss, theta_0)
    d_s = imitation_directions(f, theta_0, d_t, imitation_loss, inputs, student=student)

    def product(eps: Number) -> Float[Array, ""]:
        return optax.tree.vdot(d_s(eps), d_t)

    offset, slope = jax.jvp(product, (number(0.0),), (number(1.0),))
    moved = optax.tree.add_scale(student, alpha, d_s(eps))
    return Sharedness(
        inner_product=product(eps),
        offset=offset,
        slope=slope,
        signal=eps * leading_coefficient(f, theta_0, d_t, imitation_loss, inputs),
        trait_change=trait_loss(moved) - trait_loss(student),
    )


def small_angle_spread(
    f: Model,
    theta_0: Params,
    trait_loss: TraitLoss,
    imitation_loss: OutputLoss,
    inputs: Num[Array, "n ..."],
    variances: Params,
) -> Float[Array, ""]:
    """The offset's standard deviation over draws of theta', for given theta_0, divided by phi, as phi -> 0.

    To first order in phi the student's outputs move by phi J theta', so that the offset is -phi theta' . w, with w the
    derivative of d_S in eps at 0 for a shared init: w = E_x[J' M v], A = w . d_T. With independent entries of mean 0
    and `variances` s_p^2, a pytree like theta_0 (0 where theta' is theta_0), its deviation is phi
    sqrt(sum_p s_p^2 w_p^2). Where theta' is normal so is the offset, and

        P(d_S . d_T > 0 | theta_0) = Phi(eps A / (phi sqrt(sum_p s_p^2 w_p^2)))    as phi, eps -> 0,

    which depends on eps and phi through their ratio alone: an init is shared enough where phi is small beside eps.
    """
    d_t = descent(trait_loss, theta_0)
    d_s = imitation_directions(f, theta_0, d_t, imitation_loss, inputs)
    w = jax.jvp(d_s, (number(0.0),), (number(1.0),))[1]
    return jnp.sqrt(optax.tree.vdot(variances, jax.tree.map(jnp.square, w)))
