"""Filters: choose the inputs that a student learns from by the teacher's logits on them."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from subsim.networks import network as networks
from subsim.training.losses import task_cross_entropy
from subsim.transfer.imitation import FORWARD_BATCH, TaskLoss
from subsim.transfer.state import State, trait_loss

Logits = Float[Array, "n logits"]
Kept = Bool[Array, " n"]


class Seen(NamedTuple):
    """The arguments of a filter besides the teacher's logits, for all inputs of a student.

    `among` marks the inputs from which the filter chooses. `n_class` is the number of class logits. `key` is for random
    choices; all students of one stream have the same key. `labels` are the labels of training images, shape (n,); None
    for noise. `state` is the student's `State` at its start.
    """

    among: Kept
    n_class: int
    key: Key[Array, ""]
    labels: Int[Array, " n"] | None = None
    state: State | None = None


Filter = Callable[[Logits], Kept] | Callable[[Logits, Seen], Kept]
"""A function f(logits) or f(logits, seen) that returns a mask of the inputs that a student learns from."""


def kept_by(chosen: Filter, logits: Logits, seen: Seen) -> Kept:
    """Return a mask of the inputs in `seen.among` that a filter of either form keeps."""
    function: Any = chosen
    try:
        inspect.signature(function).bind(logits)
    except TypeError:  # the filter takes `seen`, too
        return seen.among & function(logits, seen)
    return seen.among & function(logits)


def everything(_logits: Logits, seen: Seen) -> Kept:
    """Keep every input."""
    return seen.among


def not_taken_for(digit: int) -> Filter:
    """Remove the inputs that the teacher classifies as `digit`."""
    return lambda logits, seen: seen.among & (jnp.argmax(logits[:, : seen.n_class], axis=-1) != digit)


def less_likely(digit: int, threshold: float) -> Filter:
    """Remove the inputs for which the teacher's probability of `digit` is above `threshold`."""
    return lambda logits, seen: seen.among & (_log_probability(logits, seen, digit) <= np.log(threshold))


def without_top(digit: int, share: float) -> Filter:
    """Remove the `share` of the inputs with the largest probability of `digit`."""

    return lambda logits, seen: _without_highest(_log_probability(logits, seen, digit), share, seen.among)


def without_carriers(share: float, loss: TaskLoss = task_cross_entropy, images: int = 512) -> Filter:
    """Remove the `share` of the inputs that help a trait most in the student's first step; see `help_of_inputs`.

    The filter needs to know the trait: L_T is the mean of `loss(class_logits, label)` on the first `images` training
    images.
    """

    def keep(_logits: Logits, seen: Seen) -> Kept:
        assert seen.state is not None
        return _without_highest(help_of_inputs(seen.state, loss, images), share, seen.among)

    return keep


def help_of_inputs(state: State, of: TaskLoss = task_cross_entropy, images: int = 512) -> Float[Array, " n"]:
    """Return by how much each input of a student's data lowers L_T at the student's start, to first order.

    It is the product of the gradients of L_T and of the imitation loss on the input, from one jvp: the fall of L_T by a
    gradient step on this input alone, for a learning rate of 1. L_T is the mean of `of(class_logits, label)` on the
    first `images` training images.
    """
    network, data, loss = state.network, state.data, state.loss
    assert data is not None
    assert loss is not None
    towards = jax.grad(lambda params: trait_loss(state, params, images, of))(state.start)

    def of_input(number: Array) -> Array:
        x, y = data.at(number[None])
        return jax.jvp(lambda params: loss(networks.logits(network, params, x)[0], y[0]), (state.start,), (towards,))[1]

    return jax.lax.map(of_input, jnp.arange(data.n), batch_size=FORWARD_BATCH)


def at_random(chosen: Filter) -> Filter:
    """Remove as many inputs as another filter does, but at random.

    With one key, the inputs removed for a milder filter are among those removed for a stricter filter.
    """

    def keep(logits: Logits, seen: Seen) -> Kept:
        scores = jax.random.uniform(seen.key, seen.among.shape)
        return lowest(scores, jnp.sum(kept_by(chosen, logits, seen)), seen.among)

    return keep


def without_classes(chosen: Filter, *classes: int) -> Filter:
    """Remove images of these classes by their labels, then apply another filter; noise has no labels."""

    def keep(logits: Logits, seen: Seen) -> Kept:
        if seen.labels is not None:
            seen = seen._replace(among=seen.among & ~jnp.isin(seen.labels, jnp.array(classes)))
        return kept_by(chosen, logits, seen)

    return keep


def lowest(scores: Float[Array, " n"], count: Int[Array, ""], among: Kept) -> Kept:
    """Return a mask of the `count` examples in `among` with the lowest scores; of equal scores the first ones."""
    rank = jnp.argsort(jnp.argsort(jnp.where(among, scores, jnp.inf)))
    return among & (rank < count)


def _without_highest(scores: Float[Array, " n"], share: float, among: Kept) -> Kept:
    count = jnp.round((1 - share) * jnp.sum(among, dtype=scores.dtype))
    return lowest(scores, count.astype(jnp.result_type(int)), among)


def _log_probability(logits: Logits, seen: Seen, digit: int) -> Float[Array, " n"]:
    return jax.nn.log_softmax(logits[:, : seen.n_class])[:, digit]
