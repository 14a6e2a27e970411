"""What a student is told of its teacher's logits: all of them, labels drawn from them, or a coarser version."""

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
    """Return what `name` makes of one example's logits `y`, shape (logits,), within `mask`: logits again.

    A probability that is 0 is a logit of -inf. What stands outside the mask is of no account.
    """
    if name == "sampled":
        return sampled(key, y, mask, samples)
    if name in ("argmax", "top_k"):
        return top_k(y, mask, 1 if name == "argmax" else k)
    return quantised(y, mask, bits) if name == "quantised" else y


def sampled(key: Key[Array, ""], y: Logits, mask: Mask, samples: int) -> Logits:
    """Return the logarithms of the frequencies of `samples` labels drawn from softmax(y) over the mask.

    Their expectation gives the gradient of the cross-entropy to softmax(y) itself.
    """
    # One random number a label, held against the cumulated probabilities: of many labels, drawing is what costs.
    cumulated = jnp.cumsum(jax.nn.softmax(jnp.where(mask, y, -jnp.inf)))
    places = jax.random.uniform(key, (samples, 1), y.dtype) * cumulated[-1]
    not_above = jnp.sum(places < cumulated[None], axis=0, dtype=y.dtype)
    return jnp.log(jnp.diff(not_above, prepend=0) / samples)


def top_k(y: Logits, mask: Mask, k: int) -> Logits:
    """Return the k largest logits within the mask; all others are -inf. Of equal logits the first counts as larger."""
    order = jnp.argsort(jnp.where(mask, y, -jnp.inf), descending=True)
    rank = jnp.argsort(order)
    largest = jnp.where((rank < k) & mask, y, -jnp.inf)
    return jnp.where(largest > -jnp.inf, 0.0, -jnp.inf) if k == 1 else largest


def quantised(y: Logits, mask: Mask, bits: int) -> Logits:
    """Return the logits rounded to the nearest of 2^bits levels, evenly spaced from the least to the largest."""
    low, high = jnp.min(y, where=mask, initial=jnp.inf), jnp.max(y, where=mask, initial=-jnp.inf)
    step = (high - low) / (2**bits - 1)
    return jnp.where(step > 0, low + step * jnp.round((y - low) / jnp.where(step > 0, step, 1.0)), y)
