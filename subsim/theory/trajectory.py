"""Many steps: the theorem's products along a student's training, and two interventions on its gradient.

All of it are gradient transformations, so that any optimiser can be watched or intervened upon in any training loop.
Signs: g = grad L_S and t = grad L_T at the student's current parameters; g . t > 0 says that a small gradient step of
imitation lowers the teacher's loss, as Lemma 1 says it does at the first step from a shared initialisation.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

Params = Any  # any pytree of arrays
Loss = Callable[[Params], Float[Array, ""]]


class Moment(NamedTuple):
    """One step of a student, seen from the trait.

    `trait_loss` is L_T before the step and `predicted_change` = u . t its first-order change by the update u. `cosine`
    is that of g and t over all parameters, `by_layer` over those of each layer, and `update_cosine` that of -u and t:
    the same as `cosine` for plain gradient descent, and for Adam that of its own metric.
    """

    trait_loss: Float[Array, ""]
    predicted_change: Float[Array, ""]
    cosine: Float[Array, ""]
    by_layer: Float[Array, " layer"]
    update_cosine: Float[Array, ""]


def layer_names(params: Params) -> list[str]:
    """The layers of a pytree of parameters, in its order: paths to its arrays less their last part."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    return list(dict.fromkeys(_layer(path) for path in paths))


def _layer(path: tuple[Any, ...]) -> str:
    named = [part for part in path if not isinstance(part, jax.tree_util.GetAttrKey)]
    return jax.tree_util.keystr(tuple(named[:-1]), simple=True, separator=".")


def inner_by_layer(a: Params, b: Params) -> Float[Array, " layer"]:
    """a . b over the parameters of each layer, in the order of `layer_names`; they sum to the product over all."""
    products: dict[str, Array] = {}
    for (path, left), right in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True):
        name = _layer(path)
        products[name] = products.get(name, jnp.zeros((), left.dtype)) + jnp.vdot(left, right)
    return jnp.stack(list(products.values()))


def _cosine(product: Array, a_a: Array, b_b: Array) -> Array:
    """a . b / |a| |b| of the three products; 0 where one of the two is exactly zero."""
    norms = jnp.sqrt(a_a) * jnp.sqrt(b_b)
    return jnp.where(norms == 0, 0.0, product / jnp.where(norms == 0, 1.0, norms))


def moment(trait_loss: Loss, params: Params, gradient: Params, update: Params) -> Moment:
    """What `Moment` says, of a student at `params` with the imitation gradient `gradient` that moves by `update`."""
    value, trait = jax.value_and_grad(trait_loss)(params)
    own, both, its = (inner_by_layer(a, b) for a, b in ((gradient, gradient), (gradient, trait), (trait, trait)))
    change = optax.tree.vdot(update, trait)
    return Moment(
        trait_loss=value,
        predicted_change=change,
        cosine=_cosine(both.sum(), own.sum(), its.sum()),
        by_layer=_cosine(both, own, its),
        update_cosine=_cosine(-change, optax.tree.vdot(update, update), its.sum()),
    )


class Watched(NamedTuple):
    """State of `watched`: that of the optimiser inside, steps taken, and the moments so far, (moment, ...) each."""

    inner: Any
    steps: Array
    moments: Moment


def watched(
    optimiser: optax.GradientTransformation, trait_loss: Loss, every: int, steps: int
) -> optax.GradientTransformation:
    """`optimiser`, unchanged, with the `Moment` of every `every`-th of `steps` steps kept in its state.

    A moment costs one gradient of `trait_loss`, and memory grows with the number of moments alone. With `every` above
    1 the running sum of predicted changes is estimated from those kept: see `running_sum`.
    """
    rows = -(-steps // every)

    def init(params: Params) -> Watched:
        shapes = jax.eval_shape(lambda: moment(trait_loss, params, params, params))
        empty = jax.tree.map(lambda shape: jnp.full((rows, *shape.shape), jnp.nan, shape.dtype), shapes)
        return Watched(optimiser.init(params), jnp.zeros((), int), empty)

    def update(gradient: Params, state: Watched, params: Params | None = None) -> tuple[Params, Watched]:
        updates, inner = optimiser.update(gradient, state.inner, params)

        def kept() -> Moment:
            now = moment(trait_loss, params, gradient, updates)
            return jax.tree.map(lambda all_, one: all_.at[state.steps // every].set(one), state.moments, now)

        moments = jax.lax.cond(state.steps % every == 0, kept, lambda: state.moments)
        return updates, Watched(inner, state.steps + 1, moments)

    return optax.GradientTransformation(init, update)


def running_sum(predicted_change: Float[Array, "*n moment"], every: int) -> Float[Array, "*n moment"]:
    """The change of L_T since the first moment that the predicted changes add up to, at each moment.

    Exact sums where every step was kept; otherwise each step between two moments is taken to change L_T by the mean of
    the two (the trapezoidal rule).
    """
    if every == 1:
        between = predicted_change[..., :-1]
    else:
        between = every * (predicted_change[..., :-1] + predicted_change[..., 1:]) / 2
    zero = jnp.zeros_like(predicted_change[..., :1])
    return jnp.concatenate([zero, jnp.cumsum(between, axis=-1)], axis=-1)


def without(direction: Params, gradient: Params, *, only_while_positive: bool = False) -> Params:
    """`gradient` less its component along `direction`; on request only where their product is positive.

    A zero direction takes nothing away. What is left is orthogonal to `direction`, and taking it away again does
    nothing.
    """
    square = optax.tree.vdot(direction, direction)
    share = optax.tree.vdot(gradient, direction) / jnp.where(square == 0, 1.0, square)
    if only_while_positive:
        share = jnp.maximum(share, 0.0)
    return optax.tree.add_scale(gradient, -share, direction)


def trait_projected_out(trait_loss: Loss, *, only_while_positive: bool = False) -> optax.GradientTransformation:
    """Takes the component along grad L_T, at the current parameters, out of the gradient: see `without`."""

    def update(gradient: Params, state: Any, params: Params | None = None) -> tuple[Params, Any]:
        return without(jax.grad(trait_loss)(params), gradient, only_while_positive=only_while_positive), state

    return optax.GradientTransformation(lambda _: optax.EmptyState(), update)


def liminal(pull: Loss, weight: float | Array, steps: int | Array) -> optax.GradientTransformation:
    """Adds `weight` times the gradient of `pull` for the first `steps` steps: a pull to the reference early on."""

    def update(gradient: Params, count: Array, params: Params | None = None) -> tuple[Params, Array]:
        strength = jnp.where(count < steps, weight, 0.0)
        return optax.tree.add_scale(gradient, strength, jax.grad(pull)(params)), count + 1

    return optax.GradientTransformation(lambda _: jnp.zeros((), int), update)
