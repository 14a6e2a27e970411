"""Targets of a student: its teacher's logits, labels drawn from them, or a coarser version."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

TargetName = Literal["soft", "noisy", "sampled", "argmax", "top_k", "quantised"]
Logits = Float[Array, " logits"]
Mask = Bool[Array, " logits"]


def targets_of(
    name: TargetName, key: Key[Array, ""], y: Logits, mask: Mask, *, samples: int, k: int, bits: int
) -> Logits:
    """Return the targets of kind `name` from one example's teacher logits `y`, shape (logits,), as logits.

    A logit of -inf stands for the probability 0. Values outside `mask` are not used.
    """
    if name == "sampled":
        return sampled(key, y, mask, samples)
    if name in ("argmax", "top_k"):
        return top_k(y, mask, 1 if name == "argmax" else k)
    return quantised(y, mask, bits) if name == "quantised" else y


def sampled(key: Key[Array, ""], y: Logits, mask: Mask, samples: int) -> Logits:
    """Return the log frequencies of `samples` labels drawn from softmax(y) over the mask.

    The frequencies average to softmax(y), so that the expected gradient is that of the soft targets.
    """
    # Each label costs one random number, compared with the cumulative probabilities: random numbers dominate the cost.
    cumulated = jnp.cumsum(jax.nn.softmax(jnp.where(mask, y, -jnp.inf)))
    uniforms = jax.random.uniform(key, (samples, 1), y.dtype) * cumulated[-1]
    not_above = jnp.sum(uniforms < cumulated[None], axis=0, dtype=y.dtype)
    return jnp.log(jnp.diff(not_above, prepend=0) / samples)


def top_k(y: Logits, mask: Mask, k: int) -> Logits:
    """Return the k largest logits within the mask; all others are -inf. Among equal logits the first ones win."""
    order = jnp.argsort(jnp.where(mask, y, -jnp.inf), descending=True)
    rank = jnp.argsort(order)
    largest = jnp.where((rank < k) & mask, y, -jnp.inf)
    return jnp.where(largest > -jnp.inf, 0.0, -jnp.inf) if k == 1 else largest


def quantised(y: Logits, mask: Mask, bits: int) -> Logits:
    """Return the logits rounded to the nearest of 2^bits levels, evenly spaced between the extreme logits in `mask`."""
    low, high = jnp.min(y, where=mask, initial=jnp.inf), jnp.max(y, where=mask, initial=-jnp.inf)
    step = (high - low) / (2**bits - 1)
    return jnp.where(step > 0, low + step * jnp.round((y - low) / jnp.where(step > 0, step, 1.0)), y)
