"""Rotate, perturb, rescale and mix parameters; compare displacements over all parameters or by layer."""

from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from subsim.networks.network import Network, Params, in_groups, path_of


def _where_drawn(combine: Callable[[Array, Array], Array], a: Params, b: Params) -> Params:
    """Combine two initialisations entry by entry; keep entries that are equal in both, such as a scale of 1."""
    return jax.tree.map(lambda x, y: jnp.where(x == y, x, combine(x, y)), a, b)


def rotated(a: Params, b: Params, angle: Any) -> Params:
    """Return cos(angle) a + sin(angle) b for two initialisations; `angle` is in radians and may be traced.

    For two independent draws of weights N(0, s^2) the result is N(0, s^2) too, at every angle. The interpolation
    (1 - t) a + t b would shrink the variance. Uniform weights keep their mean and variance, not their distribution.
    """

    def turn(x: Array, y: Array) -> Array:
        angle_ = jnp.asarray(angle, x.dtype)
        return jnp.cos(angle_) * x + jnp.sin(angle_) * y

    return _where_drawn(turn, a, b)


def perturbed(a: Params, b: Params, distance: Any) -> Params:
    """Return a + distance b for two initialisations: `a` with noise of `distance` standard deviations of the init.

    The standard deviation of every weight grows by sqrt(1 + distance^2). `distance` may be traced.
    """
    return _where_drawn(lambda x, y: x + jnp.asarray(distance, x.dtype) * y, a, b)


def rescaled(params: Params, factor: Any) -> Params:
    """Return initial parameters with every weight and bias multiplied by `factor`, which may be traced."""
    return jax.tree.map(lambda leaf: leaf * jnp.asarray(factor, leaf.dtype), params)


def mixed(network: Network, a: Params, b: Params, groups: Collection[str]) -> Params:
    """Return the parameters of `a` in these groups of the network, and the parameters of `b` in all others."""
    return jax.tree.map(lambda of_a, x, y: x if of_a else y, in_groups(network, a, groups), a, b)


def displacement(params: Params, reference: Params) -> Params:
    """Return theta - theta_0, a pytree like its arguments; exactly 0 where it is within the rounding of theta_0.

    The compiler may recompute theta_0 with other rounding for the subtraction. Without the threshold, a layer that gets
    no gradient would seem to move.
    """

    def moved(now: Array, then: Array) -> Array:
        change = now - then
        return jnp.where(jnp.abs(change) <= jnp.finfo(change.dtype).eps * jnp.abs(then), 0.0, change)

    return jax.tree.map(moved, params, reference)


def alignment(a: Params, b: Params) -> Float[Array, ""]:
    """Return the cosine of two displacements or gradients over all parameters; 0 if one of them is exactly zero.

    A student that does not move (one logit under cross-entropy) has alignment 0. NaN means divergence.
    """
    return ratio(optax.tree.vdot(a, b), optax.tree.norm(a) * optax.tree.norm(b))


def layers(params: Params) -> dict[str, list[Array]]:
    """Return the arrays of each layer by its name, in the order of the pytree.

    A layer's name is the path to its arrays without the last part. In a flat pytree it is the name of the array.
    """
    found: dict[str, list[Array]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        names = path_of(path)
        found.setdefault(".".join(names[:-1] or names), []).append(leaf)
    return found


def by_layer(measure: Callable[[Any, Any], Array], a: Params, b: Params) -> dict[str, Array]:
    """Return `measure` of two displacements or gradients, such as `alignment`, for each layer, by name as in `layers`.

    The layers of an MLP are aux_head, class_head, hidden.0, hidden.1, and so on.
    """
    pairs = zip(layers(a).items(), layers(b).values(), strict=True)
    return {name: measure(x, y) for (name, x), y in pairs}


def ratio(part: Array, whole: Array) -> Array:
    """Return part / whole; 0 where `whole` is exactly zero. NaN stays NaN and means divergence."""
    return jnp.where(whole == 0, 0.0, part / jnp.where(whole == 0, 1.0, whole))
