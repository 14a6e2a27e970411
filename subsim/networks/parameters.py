"""Parameters as vectors: rotate, perturb, rescale and mix them, and compare displacements, whole or by layer."""

from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from subsim.networks.network import Network, Params, in_groups, path_of


def _where_drawn(combine: Callable[[Array, Array], Array], a: Params, b: Params) -> Params:
    """Combine two initialisations array by array; what both have alike, such as a scale of 1, nobody drew: it stays."""
    return jax.tree.map(lambda x, y: jnp.where(x == y, x, combine(x, y)), a, b)


def rotated(a: Params, b: Params, angle: Any) -> Params:
    """Return cos(angle) a + sin(angle) b for two initialisations; `angle` in radians, may be traced.

    Of two independent draws of weights N(0, s^2) it is again such a draw, at every angle: (1 - t) a + t b would
    shrink their variance, and be another experiment. Uniform weights keep their mean and variance, not their law.
    """

    def turn(x: Array, y: Array) -> Array:
        angle_ = jnp.asarray(angle, x.dtype)
        return jnp.cos(angle_) * x + jnp.sin(angle_) * y

    return _where_drawn(turn, a, b)


def perturbed(a: Params, b: Params, distance: Any) -> Params:
    """Return a + distance b, which may be traced: of two draws, noise of `distance` of their standard deviations.

    Every weight then varies sqrt(1 + distance^2) times as much.
    """
    return _where_drawn(lambda x, y: x + jnp.asarray(distance, x.dtype) * y, a, b)


def rescaled(params: Params, factor: Any) -> Params:
    """Return initial parameters with every weight and bias multiplied by `factor`, which may be traced."""
    return jax.tree.map(lambda leaf: leaf * jnp.asarray(factor, leaf.dtype), params)


def mixed(network: Network, a: Params, b: Params, groups: Collection[str]) -> Params:
    """Return the parameters of `a` in these groups of the network, and those of `b` in all others."""
    return jax.tree.map(lambda of_a, x, y: x if of_a else y, in_groups(network, a, groups), a, b)


def displacement(params: Params, reference: Params) -> Params:
    """Return theta - theta_0, a pytree like its arguments; exactly 0 where it is within the rounding of theta_0.

    A compiler may compute theta_0 anew, with other rounding, where it is subtracted: a layer that no gradient reaches
    would seem to move, in a direction of its own.
    """

    def moved(now: Array, then: Array) -> Array:
        change = now - then
        return jnp.where(jnp.abs(change) <= jnp.finfo(change.dtype).eps * jnp.abs(then), 0.0, change)

    return jax.tree.map(moved, params, reference)


def alignment(a: Params, b: Params) -> Float[Array, ""]:
    """Return the cosine of two displacements or gradients over all parameters; 0 where one of them is exactly zero.

    A student that nothing moves (one logit under cross-entropy) is aligned with nothing; NaN is kept for divergence.
    """
    return ratio(optax.tree.vdot(a, b), optax.tree.norm(a) * optax.tree.norm(b))


def layers(params: Params) -> dict[str, list[Array]]:
    """Return the arrays of each layer by its name, in the order of the pytree.

    A layer's name is the path to its arrays less their last part; of a flat pytree it is the array's own.
    """
    found: dict[str, list[Array]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        names = path_of(path)
        found.setdefault(".".join(names[:-1] or names), []).append(leaf)
    return found


def by_layer(measure: Callable[[Any, Any], Array], a: Params, b: Params) -> dict[str, Array]:
    """Return `measure` of two displacements or gradients, such as `alignment`, layer by layer: names as in `layers`.

    Of an MLP: aux_head, class_head, hidden.0, hidden.1, and so on.
    """
    pairs = zip(layers(a).items(), layers(b).values(), strict=True)
    return {name: measure(x, y) for (name, x), y in pairs}


def ratio(part: Array, whole: Array) -> Array:
    """Return part / whole; 0 where `whole` is exactly zero. NaN is kept, for divergence."""
    return jnp.where(whole == 0, 0.0, part / jnp.where(whole == 0, 1.0, whole))
