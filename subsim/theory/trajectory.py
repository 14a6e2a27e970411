"""Many steps: the theorem's products along a student's training, and two interventions on its gradient.

All are gradient transformations, so that they work with any optimiser in any training loop.
Signs: g = grad L_S and t = grad L_T at the student's current parameters; g . t > 0 says that a small gradient step of
imitation lowers the teacher's loss, as Lemma 1 says it does at the first step from a shared initialisation.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from subsim.networks.network import Params
from subsim.networks.parameters import alignment, by_layer

Loss = Callable[[Params], Float[Array, ""]]


class Moment(NamedTuple):
    """The relation of one student step to the trait.

    `trait_loss` is L_T before the step. `running_sum` is the sum of the first-order changes u . t over all earlier
    steps, where u is the update of a step. `inner_product` and `cosine` compare g and t over all parameters, `products`
    and `cosines` in each layer. `update_product` is -u . t, and `update_cosine` is the cosine of -u and t. For plain
    gradient descent these are the step size times g . t and the cosine of g and t; for Adam they are in the metric of
    its step.
    """

    trait_loss: Float[Array, ""]
    running_sum: Float[Array, ""]
    inner_product: Float[Array, ""]
    cosine: Float[Array, ""]
    products: Float[Array, " layer"]
    cosines: Float[Array, " layer"]
    update_product: Float[Array, ""]
    update_cosine: Float[Array, ""]


def moment(
    value: Float[Array, ""], trait: Params, gradient: Params, update: Params, running_sum: Float[Array, ""]
) -> Moment:
    """Return the `Moment` of a step from L_T, its gradient `trait`, the imitation gradient, the update and the sum."""
    return Moment(
        trait_loss=value,
        running_sum=running_sum,
        inner_product=optax.tree.vdot(gradient, trait),
        cosine=alignment(gradient, trait),
        products=jnp.stack(list(by_layer(optax.tree.vdot, gradient, trait).values())),
        cosines=jnp.stack(list(by_layer(alignment, gradient, trait).values())),
        update_product=-optax.tree.vdot(update, trait),
        update_cosine=-alignment(update, trait),
    )


class Watched(NamedTuple):
    """The state of `watched`: the inner optimiser's state, the steps taken, the running sum, and the moments so far."""

    inner: Any
    steps: Array
    running_sum: Float[Array, ""]
    moments: Moment


def watched(
    optimiser: optax.GradientTransformation, trait_loss: Loss, every: int, steps: int
) -> optax.GradientTransformation:
    """Return `optimiser` with the same updates, which records the `Moment` of every `every`-th of `steps` steps.

    The moments are in its state; each of their fields has a leading axis `moment`. Each step costs one gradient of
    `trait_loss`, so that the running sum is exact. Memory grows only with the number of moments.
    """
    rows = -(-steps // every)

    def init(params: Params) -> Watched:
        value, trait = jax.eval_shape(jax.value_and_grad(trait_loss), params)
        shapes = jax.eval_shape(moment, value, trait, params, params, value)
        empty = jax.tree.map(lambda shape: jnp.full((rows, *shape.shape), jnp.nan, shape.dtype), shapes)
        return Watched(optimiser.init(params), jnp.zeros((), int), jnp.zeros((), value.dtype), empty)

    def update(gradient: Params, state: Watched, params: Params | None = None) -> tuple[Params, Watched]:
        updates, inner = optimiser.update(gradient, state.inner, params)
        value, trait = jax.value_and_grad(trait_loss)(params)

        def recorded() -> Moment:
            now = moment(value, trait, gradient, updates, state.running_sum)
            return jax.tree.map(lambda all_, one: all_.at[state.steps // every].set(one), state.moments, now)

        moments = jax.lax.cond(state.steps % every == 0, recorded, lambda: state.moments)
        total = state.running_sum + optax.tree.vdot(updates, trait)
        return updates, Watched(inner, state.steps + 1, total, moments)

    return optax.GradientTransformation(init, update)


def without(direction: Params, gradient: Params, *, only_while_positive: bool = False) -> Params:
    """Return `gradient` minus its component along `direction`.

    With `only_while_positive`, the component is removed only if their product is positive. A zero `direction` removes
    nothing. The result is orthogonal to `direction`, so that a second removal changes nothing.
    """
    square = optax.tree.vdot(direction, direction)
    share = optax.tree.vdot(gradient, direction) / jnp.where(square == 0, 1.0, square)
    if only_while_positive:
        share = jnp.maximum(share, 0.0)
    return optax.tree.add_scale(gradient, -share, direction)


def trait_projected_out(trait_loss: Loss, *, only_while_positive: bool = False) -> optax.GradientTransformation:
    """Remove the gradient's component along grad L_T at the current parameters: see `without`."""

    def update(gradient: Params, state: Any, params: Params | None = None) -> tuple[Params, Any]:
        return without(jax.grad(trait_loss)(params), gradient, only_while_positive=only_while_positive), state

    return optax.GradientTransformation(lambda _: optax.EmptyState(), update)


def liminal(pull: Loss, weight: float | Array, steps: int | Array) -> optax.GradientTransformation:
    """Add `weight` times the gradient of `pull` in the first `steps` steps: a pull towards the reference."""

    def update(gradient: Params, count: Array, params: Params | None = None) -> tuple[Params, Array]:
        strength = jnp.where(count < steps, weight, 0.0)
        return optax.tree.add_scale(gradient, strength, jax.grad(pull)(params)), count + 1

    return optax.GradientTransformation(lambda _: jnp.zeros((), int), update)
