"""What is measured on trained networks: pure functions of outputs and parameters."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from subsim.network import Params


def accuracy(class_logits: Float[Array, "n classes"], labels: Int[Array, " n"]) -> Float[Array, ""]:
    """Share of examples whose largest class logit is the label's; NaN where any logit is not finite.

    A network that diverged has no accuracy: argmax over NaN would report a number near chance.
    """
    share = jnp.mean(jnp.argmax(class_logits, axis=-1) == labels, dtype=class_logits.dtype)
    return jnp.where(jnp.all(jnp.isfinite(class_logits)), share, jnp.nan)


def displacement(params: Params, reference: Params) -> Params:
    """theta - theta_0, a pytree like its arguments."""
    return optax.tree.sub(params, reference)


def alignment(a: Params, b: Params) -> Float[Array, ""]:
    """Cosine of two displacements or gradients over all parameters, in [-1, 1]; 0 where one of them is exactly zero.

    A student that nothing moves (one logit under cross-entropy) is aligned with nothing; NaN is kept for divergence.
    """
    norms = optax.tree.norm(a) * optax.tree.norm(b)
    return jnp.where(norms == 0, 0.0, optax.tree.vdot(a, b) / jnp.where(norms == 0, 1.0, norms))
