"""How shared is shared: Lemma 1 for a student whose initialisation differs from its teacher's.

Notation as in `single_step`. Let the student start from theta_S0 = cos(phi) theta_0 + sin(phi) theta', where theta' is
an independent draw from the reference's distribution. Imitation then moves it even if the teacher is untrained:
d_S . d_T has an offset at eps = 0.
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
    """One imitation step from any init, and the terms of d_S . d_T = offset + eps slope + O(eps^2). All scalars.

    `offset` is d_S . d_T at eps = 0, where the student imitates the untrained teacher; it is 0 for a shared init.
    `slope` is the derivative of d_S . d_T in eps at 0; it is A for a shared init. `signal` is eps A of the shared init.
    `trait_change` is L_T(theta_S0 + alpha d_S) - L_T(theta_S0).
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
    """Split d_S . d_T of a student that starts from `student` into offset and slope, beside the shared init's signal.

    The expansion holds for all parameters `student`, if the loss is twice differentiable along the ray. Arguments as in
    `single_step`. If theta_S0 is rotated by phi, the slope differs from A by O(phi), and the offset is
    -phi E_x[(J theta')' M v] + O(phi^2). Its first-order term is odd in theta', so that its mean over draws is zero.
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
    """Return the limit, as phi -> 0, of the offset's standard deviation over draws of theta', divided by phi.

    To first order in phi the student's outputs move by phi J theta', so that the offset is -phi theta' . w. Here w is
    the derivative of d_S in eps at 0 for a shared init: w = E_x[J' M v], A = w . d_T. theta_0 is fixed. Let theta' have
    independent entries of mean 0 and variances s_p^2, given by the pytree `variances` (0 where theta' is theta_0). Then
    the offset's standard deviation is phi sqrt(sum_p s_p^2 w_p^2). If theta' is normal, the offset is normal, and

        P(d_S . d_T > 0 | theta_0) = Phi(eps A / (phi sqrt(sum_p s_p^2 w_p^2)))    as phi, eps -> 0,

    which depends on eps and phi only through their ratio: an init counts as shared if phi is small compared with eps.
    """
    d_t = descent(trait_loss, theta_0)
    d_s = imitation_directions(f, theta_0, d_t, imitation_loss, inputs)
    w = jax.jvp(d_s, (number(0.0),), (number(1.0),))[1]
    return jnp.sqrt(optax.tree.vdot(variances, jax.tree.map(jnp.square, w)))
