"""Parameters as vectors: rotate, perturb, rescale and mix them, and compare displacements, whole or by layer."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from subsim.networks.mlp import LAYER_GROUPS
from subsim.networks.network import Params


def rotated(a: Params, b: Params, angle: Any) -> Params:
    """cos(angle) a + sin(angle) b for two pytrees of one structure; `angle` in radians, may be traced.

    Of two independent draws of weights N(0, s^2) it is again such a draw, at every angle: (1 - t) a + t b would
    shrink their variance, and be another experiment. Uniform weights keep their mean and variance, not their law.
    """

    def turn(x: Array, y: Array) -> Array:
        turned = jnp.asarray(angle, x.dtype)
        return jnp.cos(turned) * x + jnp.sin(turned) * y

    return jax.tree.map(turn, a, b)


def perturbed(a: Params, b: Params, distance: Any) -> Params:
    """a + distance b, which may be traced: of two draws of one init, noise of `distance` of its standard deviations.

    Every weight then varies sqrt(1 + distance^2) times as much.
    """
    return jax.tree.map(lambda x, y: x + jnp.asarray(distance, x.dtype) * y, a, b)


def rescaled(params: Params, factor: Any) -> Params:
    """Initial parameters with every weight and bias multiplied by `factor`, which may be traced."""
    return jax.tree.map(lambda leaf: leaf * jnp.asarray(factor, leaf.dtype), params)


def mixed(a: Params, b: Params, from_a: Bool[Array, " group"]) -> Params:
    """The parameters of two networks by layer group: those of `a` where `from_a`, which may be traced, else of `b`.

    `from_a` has one entry for each of `LAYER_GROUPS`: the hidden layers, the class head, the auxiliary head.
    """

    def pick(path: Any, x: Array, y: Array) -> Array:
        group = jax.tree_util.keystr(path, simple=True, separator="/").split("/")[0]
        return jnp.where(from_a[LAYER_GROUPS.index(group)], x, y)

    return jax.tree.map_with_path(pick, a, b)


def displacement(params: Params, reference: Params) -> Params:
    """theta - theta_0, a pytree like its arguments; exactly 0 where it is within the rounding of theta_0.

    A compiler may compute theta_0 anew, with other rounding, where it is subtracted: a layer that no gradient reaches
    would seem to move, in a direction of its own.
    """

    def moved(now: Array, then: Array) -> Array:
        change = now - then
        return jnp.where(jnp.abs(change) <= jnp.finfo(change.dtype).eps * jnp.abs(then), 0.0, change)

    return jax.tree.map(moved, params, reference)


def alignment(a: Params, b: Params) -> Float[Array, ""]:
    """Cosine of two displacements or gradients over all parameters, in [-1, 1]; 0 where one of them is exactly zero.

    A student that nothing moves (one logit under cross-entropy) is aligned with nothing; NaN is kept for divergence.
    """
    return ratio(optax.tree.vdot(a, b), optax.tree.norm(a) * optax.tree.norm(b))


def layers(params: Params) -> dict[str, list[Array]]:
    """The arrays of each layer by its name, in the order of the pytree: the path to its arrays less their last part."""
    found: dict[str, list[Array]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        named = tuple(part for part in path if not isinstance(part, jax.tree_util.GetAttrKey))
        found.setdefault(jax.tree_util.keystr(named[:-1], simple=True, separator="."), []).append(leaf)
    return found


def by_layer(measure: Callable[[Any, Any], Array], a: Params, b: Params) -> dict[str, Array]:
    """`measure` of two displacements or gradients, such as `alignment`, layer by layer: the names are `layers`'s.

    Of an MLP: aux_head, class_head, hidden.0, hidden.1, and so on.
    """
    pairs = zip(layers(a).items(), layers(b).values(), strict=True)
    return {name: measure(x, y) for (name, x), y in pairs}


def ratio(part: Array, whole: Array) -> Array:
    """part / whole; 0 where `whole` is exactly zero. NaN is kept, for divergence."""
    return jnp.where(whole == 0, 0.0, part / jnp.where(whole == 0, 1.0, whole))
