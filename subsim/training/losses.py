"""Task and imitation losses of one example; each imitation loss says whether Lemma 1 covers it."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

LossName = Literal["kl", "mse"]
Logits = Float[Array, " logits"]
Mask = Bool[Array, " logits"]


class ImitationLoss(NamedTuple):
    """An imitation loss L_S(z, y) on the logits in a mask, and whether Lemma 1 covers it.

    `value(z, y, mask)` is the loss of one example, a scalar, for the student's logits z and the teacher's logits y, of
    shape (logits,). `covered` says whether Lemma 1 (arXiv 2507.14805, appendix C) covers the loss; `reason` says why.
    """

    value: Callable[[Logits, Logits, Mask], Float[Array, ""]]
    covered: bool
    reason: str


def task_cross_entropy(class_logits: Logits, label: Int[Array, ""]) -> Float[Array, ""]:
    """Return the softmax cross-entropy, in nats, of one example's class logits, shape (n_class,), and integer label."""
    return optax.softmax_cross_entropy_with_integer_labels(class_logits, label)


def margin_loss(class_logits: Logits, label: Int[Array, ""]) -> Float[Array, ""]:
    """Return the cross-entropy of the label less its mean over random labels: the mean class logit less the label's.

    Smaller logits lower the cross-entropy of an untrained network whatever its labels are; they do nothing to this.
    """
    return jnp.mean(class_logits) - class_logits[label]


def _log_softmax(z: Logits, mask: Mask) -> Logits:
    # -inf gives logits outside the mask exactly zero probability and zero gradient.
    return jax.nn.log_softmax(jnp.where(mask, z, -jnp.inf))


def target_cross_entropy(z: Logits, p: Logits, mask: Mask) -> Float[Array, ""]:
    """Return -sum_i p_i log softmax(z)_i over the logits in `mask`, in nats; the targets p are 0 outside the mask."""
    return -jnp.sum(p * jnp.where(mask, _log_softmax(z, mask), 0.0))


def imitation_cross_entropy(z: Logits, y: Logits, mask: Mask) -> Float[Array, ""]:
    """Return the cross-entropy of softmax(z) with targets softmax(y), both over the logits in `mask`, in nats.

    It equals KL(softmax(y) || softmax(z)) plus the teacher's entropy.
    """
    return target_cross_entropy(z, jnp.exp(_log_softmax(y, mask)), mask)


def imitation_kl(z: Logits, y: Logits, mask: Mask) -> Float[Array, ""]:
    """Return KL(softmax(y) || softmax(z)), both over the logits in `mask`, in nats.

    It is the softmax cross-entropy minus the teacher's entropy; its gradient in z is softmax(z) - softmax(y) on the
    mask.
    """
    log_p, log_q = _log_softmax(y, mask), _log_softmax(z, mask)
    # Where p is 0, outside the mask or in the teacher's softmax, the term is 0: 0 log 0 = 0.
    return jnp.sum(jnp.exp(log_p) * jnp.where(log_p > -jnp.inf, log_p - log_q, 0.0))


def imitation_mse(z: Logits, y: Logits, mask: Mask) -> Float[Array, ""]:
    """Return the squared error averaged over the logits in `mask`, in squared logits."""
    return jnp.mean(jnp.square(z - y), where=mask)


IMITATION_LOSSES: dict[str, ImitationLoss] = {
    "kl": ImitationLoss(imitation_kl, True, "M = diag(p) - p p' with p the softmax over the mask"),
    "mse": ImitationLoss(imitation_mse, True, "M = 2 diag(w) with w = mask / sum(mask)"),
}


def imitated_logits(
    n_class: int, n_aux: int, n_imitated: Any = None
) -> tuple[Bool[Array, " logits"], Bool[Array, " logits"]]:
    """Return two masks of shape (n_class + n_aux,): the first `n_imitated` auxiliary logits, without and with classes.

    `n_imitated` may be traced; None means all. With weights N(0, 1/fan_in) a network whose first m auxiliary logits are
    imitated *is* a network with m auxiliary logits, so that one compiled program serves every m.
    """
    position = jnp.arange(n_class + n_aux)
    last = n_class + (n_aux if n_imitated is None else n_imitated)
    with_classes = position < last
    return with_classes & (position >= n_class), with_classes
