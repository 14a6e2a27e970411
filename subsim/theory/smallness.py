"""How small is sufficiently small: the teacher's step size at which Theorem 1 stops holding.

Notation as in `single_step`. Along the teacher's ray the student's gain is phi(eps) = L_T(theta_0 + alpha d_S(eps)) -
L_T(theta_0), with phi(0) = 0 and phi'(0) = -alpha A <= 0. Theorem 1 says phi < 0 for all small enough eps > 0; the
critical eps is the first at which phi becomes positive.
"""

from collections.abc import Callable
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
    number,
)

Ray = Callable[[Float[Array, ""]], Float[Array, ""]]


class Crossings(NamedTuple):
    """Critical eps predicted from derivatives of phi at 0, scalars; infinite if no crossing is predicted, NaN if A = 0.

    `quadratic` is -2 phi' / phi''. `cubic` is the first positive root of the third-order polynomial. `pade` is the root
    of the [1/1] Pade form of phi(eps) / eps, from the same three derivatives.
    """

    quadratic: Float[Array, ""]
    cubic: Float[Array, ""]
    pade: Float[Array, ""]


class Smallness(NamedTuple):
    """The measured critical eps, its predictions, and two variants with one nonlinearity removed.

    `measured` is the first sign change of phi. `predicted` comes from `derivatives`: phi', phi'' and phi''' at 0.
    `linear_teacher` is the critical eps if the teacher's outputs are first order in eps, with exact d_S and L_T.
    `quadratic_trait` is the critical eps if L_T is second order in alpha d_S, with exact d_S. Infinity means no
    crossing on the scan.
    """

    measured: Float[Array, ""]
    predicted: Crossings
    linear_teacher: Float[Array, ""]
    quadratic_trait: Float[Array, ""]
    derivatives: Float[Array, " order"]


def _slope(function: Ray) -> Ray:
    return lambda eps: jax.jvp(function, (eps,), (jnp.ones_like(eps),))[1]


def derivatives_at_zero(phi: Ray, orders: int = 3) -> Float[Array, " orders"]:
    """Return phi'(0), phi''(0) and so on up to `orders`, by nested forward differentiation."""
    found = []
    for _ in range(orders):
        phi = _slope(phi)
        found.append(phi(number(0.0)))
    return jnp.stack(found)


def predicted_crossings(derivatives: Float[Array, " 3"]) -> Crossings:
    """Return the critical eps by three extrapolations of phi from its `derivatives` at 0.

    The prediction is infinite if the extrapolation never returns to 0 (for the quadratic: phi'' <= 0). It is NaN if
    phi' is not negative, because the theorem then promises no fall of L_T.
    """
    # phi(eps) / eps = g_0 + g_1 eps + g_2 eps^2 + ...
    g_0, g_1, g_2 = derivatives[0], derivatives[1] / 2, derivatives[2] / 6
    # The root nearest to 0, in the form without cancellation; it exists if the denominator is real and positive.
    root = jnp.sqrt(jnp.square(g_1) - 4 * g_0 * g_2)
    pade = -g_0 * g_1 / (jnp.square(g_1) - g_0 * g_2)
    # Between 0 and its root the Pade form must have no pole: 1 - (g_2 / g_1) eps > 0.
    sound = (pade > 0) & (g_2 / g_1 * pade < 1)
    crossings = Crossings(
        quadratic=jnp.where(g_1 > 0, -g_0 / g_1, jnp.inf),
        cubic=jnp.where(g_1 + root > 0, -2 * g_0 / (g_1 + root), jnp.inf),
        pade=jnp.where(sound, pade, jnp.inf),
    )
    return jax.tree.map(lambda crossing: jnp.where(g_0 < 0, crossing, jnp.nan), crossings)


def first_crossing(
    phi: Ray, *, nearest: Number, farthest: Number, points: int = 61, bisections: int = 24
) -> Float[Array, ""]:
    """Return the first eps at which phi becomes positive, up to 2^-bisections of the scan's spacing.

    phi is scanned at `points` values from `nearest` to `farthest`, evenly spaced on a log scale, until it is positive;
    the bracket is then halved `bisections` times. The result is infinite if phi is positive nowhere on the scan. The
    scan misses a pair of crossings between two neighbouring points.
    """
    grid = jnp.geomspace(number(1.0) * nearest, number(1.0) * farthest, points)

    def unfinished(state: tuple[Array, Array]) -> Array:
        place, positive = state
        return (place < points) & ~positive

    def advance(state: tuple[Array, Array]) -> tuple[Array, Array]:
        place, _ = state
        positive = phi(grid[place]) > 0
        return place + jnp.where(positive, 0, 1), positive

    place, positive = jax.lax.while_loop(unfinished, advance, (jnp.asarray(0), jnp.asarray(False)))
    place = jnp.minimum(place, points - 1)

    def halve(_: Array | int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = (low + high) / 2
        above = phi(middle) > 0
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    bracket = jnp.where(place > 0, grid[place - 1], 0.0), grid[place]
    low, high = jax.lax.fori_loop(0, bisections, halve, bracket)
    return jnp.where(positive, (low + high) / 2, jnp.inf)


def critical_eps(
    f: Model,
    theta_0: Params,
    trait_loss: TraitLoss,
    imitation_loss: OutputLoss,
    inputs: Num[Array, "n ..."],
    *,
    alpha: Number,
    nearest: Number = 1e-3,
    farthest: Number = 1e3,
    points: int = 61,
    bisections: int = 24,
) -> Smallness:
    """Find the eps at which Theorem 1 stops holding along the teacher's ray, for a student with a shared init.

    L_S and L_T must be three times differentiable along the ray at eps = 0. ReLU networks are so almost surely, but
    each prediction then describes one linear region only. Arguments as in `single_step` and `first_crossing`; use
    float64 for claims about signs.
    """
    d_t = descent(trait_loss, theta_0)
    d_s = imitation_directions(f, theta_0, d_t, imitation_loss, inputs)
    d_s_linear = imitation_directions(f, theta_0, d_t, imitation_loss, inputs, linear_teacher=True)
    before = trait_loss(theta_0)

    def change(step: Params) -> Array:
        return trait_loss(optax.tree.add_scale(theta_0, alpha, step)) - before

    def second_order_change(step: Params) -> Array:
        first = _slope(lambda size: trait_loss(optax.tree.add_scale(theta_0, size, step)))
        slope, curvature = jax.jvp(first, (number(0.0),), (number(1.0),))
        return alpha * slope + alpha**2 / 2 * curvature

    def crossing(phi: Ray) -> Array:
        return first_crossing(phi, nearest=nearest, farthest=farthest, points=points, bisections=bisections)

    def phi(eps: Float[Array, ""]) -> Float[Array, ""]:
        return change(d_s(eps))

    derivatives = derivatives_at_zero(phi)
    return Smallness(
        measured=crossing(phi),
        predicted=predicted_crossings(derivatives),
        linear_teacher=crossing(lambda eps: change(d_s_linear(eps))),
        quadratic_trait=crossing(lambda eps: second_order_change(d_s(eps))),
        derivatives=derivatives,
    )
