"""A network as pure functions of its parameters and one example."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from jaxtyping import Array, Float, Key

Params = Any  # a pytree of arrays; theory and training never look inside


def _no_features(_params: Params, _x: Array) -> Array:
    raise NotImplementedError("This network does not say which of its units are the last hidden layer.")


class Network(NamedTuple):
    """A network as pure functions; none knows of batches, seeds or students.

    `init(key)` gives the initial parameters of one network. `apply(params, x)` maps one example, `x` of shape
    (pixels,), to its logits of shape (n_class + n_aux,): the class logits first. Several examples may come as the
    columns of `x`, shape (pixels, n); their logits are then the columns of the result. `features(params, x)` gives the
    units of the last hidden layer alike, in which the logits are affine; it raises NotImplementedError where nobody
    said which they are.
    """

    init: Callable[[Key[Array, ""]], Params]
    apply: Callable[[Params, Float[Array, "pixels *n"]], Float[Array, "logits *n"]]
    features: Callable[[Params, Float[Array, "pixels *n"]], Float[Array, "width *n"]] = _no_features


def linearise(f: Callable[[Params, Any], Array], theta_0: Params) -> Callable[[Params, Any], Array]:
    """f_lin(theta, x) = f(theta_0, x) + J(x) (theta - theta_0), in place of `f(theta, x)`.

    One `jax.jvp`, whatever x is: one example, or a batch of them in columns. `f` must have a forward derivative, which
    products rounded to bfloat16 have not.
    """

    def f_lin(theta: Params, x: Any) -> Array:
        value, change = jax.jvp(lambda params: f(params, x), (theta_0,), (optax.tree.sub(theta, theta_0),))
        return value + change

    return f_lin
