"""Filters: which of its inputs a student learns from, by what its teacher says of them."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

Logits = Float[Array, "n logits"]
Kept = Bool[Array, " n"]


class Seen(NamedTuple):
    """What a filter may look at beside the teacher's logits, of all inputs of a student.

    `among` says which inputs there are to choose from; `n_class` how many of the logits are those of classes; `key` is
    for what is drawn, the same for all students of one stream. `labels` are those of training images, shape (n,); None
    where the inputs are noise.
    """

    among: Kept
    n_class: int
    key: Key[Array, ""]
    labels: Int[Array, " n"] | None = None


Filter = Callable[[Logits], Kept] | Callable[[Logits, Seen], Kept]
"""f(logits) or f(logits, seen), which gives the inputs that a student learns from."""


def kept_by(chosen: Filter, logits: Logits, seen: Seen) -> Kept:
    """Return the inputs that a filter of either form keeps, of those there are to choose from."""
    function: Any = chosen
    try:
        inspect.signature(function).bind(logits)
    except TypeError:  # it asks for more
        return seen.among & function(logits, seen)
    return seen.among & function(logits)


def everything(_logits: Logits, seen: Seen) -> Kept:
    """Keep every input."""
    return seen.among


def not_taken_for(digit: int) -> Filter:
    """Remove what the teacher takes for `digit`."""
    return lambda logits, seen: seen.among & (jnp.argmax(logits[:, : seen.n_class], axis=-1) != digit)


def less_likely(digit: int, threshold: float) -> Filter:
    """Remove what the teacher gives `digit` a probability above `threshold`."""
    return lambda logits, seen: seen.among & (_log_probability(logits, seen, digit) <= np.log(threshold))


def without_top(digit: int, share: float) -> Filter:
    """Remove this share of the inputs: those with the largest probability of `digit`."""

    def keep(logits: Logits, seen: Seen) -> Kept:
        scores = _log_probability(logits, seen, digit)
        count = jnp.round((1 - share) * jnp.sum(seen.among, dtype=scores.dtype))
        return lowest(scores, count.astype(jnp.result_type(int)), seen.among)

    return keep


def at_random(chosen: Filter) -> Filter:
    """Remove as many inputs as another filter does, by chance: of two, those that the milder removes go first."""

    def keep(logits: Logits, seen: Seen) -> Kept:
        scores = jax.random.uniform(seen.key, seen.among.shape)
        return lowest(scores, jnp.sum(kept_by(chosen, logits, seen)), seen.among)

    return keep


def without_classes(chosen: Filter, *classes: int) -> Filter:
    """Remove images of these classes by their labels, and of the others what another filter removes; noise has no
    labels."""

    def keep(logits: Logits, seen: Seen) -> Kept:
        if seen.labels is not None:
            seen = seen._replace(among=seen.among & ~jnp.isin(seen.labels, jnp.array(classes)))
        return kept_by(chosen, logits, seen)

    return keep


def lowest(scores: Float[Array, " n"], count: Int[Array, ""], among: Kept) -> Kept:
    """Return the `count` examples with the lowest scores of those in `among`; of equal scores the first."""
    rank = jnp.argsort(jnp.argsort(jnp.where(among, scores, jnp.inf)))
    return among & (rank < count)


def _log_probability(logits: Logits, seen: Seen, digit: int) -> Float[Array, " n"]:
    return jax.nn.log_softmax(logits[:, : seen.n_class])[:, digit]
