"""A network as pure functions of its parameters and one example."""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import optax
from jaxtyping import Array, Float, Key

from subsim.options import UserError

Params = Any  # a pytree of arrays; theory and training make no use of its structure
One = Callable[[Params, Array], Array]  # a function of parameters and one example


class Network(NamedTuple):
    """A network as pure functions of one example, without batches, seeds or students.

    `init(key)` returns the initial parameters of one network. `apply(params, x)` maps one example to its logits, shape
    (n_class + n_aux,), class logits first. `features(params, x)` returns the units of the last hidden layer, in which
    the logits are affine; None if they are unknown. `groups` maps the dotted path of a parameter to the name of its
    group; parameters are shared, mixed and frozen by group. If `groups` is None, the first part of the path is the
    group.

    `batched(params, x)` is an optional faster form of `apply`: it maps examples of shape (n, ...) to logits of shape
    (n, n_class + n_aux). If it is None, `apply` is vmapped. `rebuild(params)` returns the user's module with these
    parameters; None: return the parameters.
    """

    init: Callable[[Key[Array, ""]], Params]
    apply: One
    features: One | None = None
    groups: Callable[[str], str] | None = None
    batched: One | None = None
    rebuild: Callable[[Params], Any] | None = None


Factory = Callable[[int, int, int], Network]
"""A function that makes a network for (n_pixels, n_class, n_aux)."""


def logits(network: Network, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n logits"]:
    """Return the network's logits on every example."""
    if network.batched is not None:
        return network.batched(params, x)
    return jax.vmap(network.apply, (None, 0))(params, x)


def features(network: Network, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n width"]:
    """Return the units of the last hidden layer on every example; raise `UserError` if the network has no features."""
    if network.features is None:
        raise UserError("network: the units of its last hidden layer are unknown; give it features=...")
    return jax.vmap(network.features, (None, 0))(params, x)


def path_of(path: Any) -> tuple[str, ...]:
    """Return the names along the path to a leaf of a pytree: attributes, keys and indices.

    flax keeps an array in the attribute `value` of a variable; this name is left out.
    """
    attribute = jax.tree_util.GetAttrKey
    if len(path) > 1 and path[-1] == attribute("value") and not isinstance(path[-2], attribute):
        path = path[:-1]
    return tuple(jax.tree_util.keystr((part,), simple=True) for part in path)


def groups_of(network: Network, params: Params) -> dict[str, None]:
    """Return the names of the network's parameter groups, in the order of the pytree."""
    return {_group(network, path): None for path, _ in jax.tree_util.tree_leaves_with_path(params)}


def in_groups(network: Network, params: Params, groups: Collection[str]) -> Params:
    """Return a pytree of booleans like `params`: whether each array belongs to one of `groups`.

    Raises `UserError` for a group that the network does not have.
    """
    known = groups_of(network, params)
    for group in groups:
        if group not in known:
            raise UserError(f"groups: the network has no parameters in {group!r}; choose from {', '.join(known)}.")
    return jax.tree_util.tree_map_with_path(lambda path, _: _group(network, path) in groups, params)


def _group(network: Network, path: Any) -> str:
    names = path_of(path)
    return network.groups(".".join(names)) if network.groups else (names[0] if names else "all")


def linearise(f: Callable[[Params, Any], Array], theta_0: Params) -> Callable[[Params, Any], Array]:
    """Return the linearisation f_lin(theta, x) = f(theta_0, x) + J(x) (theta - theta_0) of `f(theta, x)`.

    It costs one `jax.jvp`, for one example x or for many. `f` must have a forward derivative; products rounded to
    bfloat16 have none.
    """

    def f_lin(theta: Params, x: Any) -> Array:
        value, change = jax.jvp(lambda params: f(params, x), (theta_0,), (optax.tree.sub(theta, theta_0),))
        return value + change

    return f_lin


def linearised(network: Network, start: Params) -> Network:
    """Return the first-order expansion of `network` at `start`: affine in its parameters, and equal to it at `start`.

    Its logits are not affine in any hidden units, so it has no `features`.
    """
    batched = None if network.batched is None else linearise(network.batched, start)
    return Network(network.init, linearise(network.apply, start), groups=network.groups, batched=batched)
