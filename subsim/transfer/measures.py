"""Measures of trained networks: pure functions of outputs, parameters and hidden features."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from subsim.data.factorisations import eigh, inverse
from subsim.networks.parameters import ratio


def accuracy(class_logits: Float[Array, "n classes"], labels: Int[Array, " n"]) -> Float[Array, ""]:
    """Return the share of examples whose largest class logit is the label's; NaN if any logit is not finite.

    A diverged network has no accuracy: the argmax of NaN would give a number near chance.
    """
    share = jnp.mean(jnp.argmax(class_logits, axis=-1) == labels, dtype=class_logits.dtype)
    return jnp.where(jnp.all(jnp.isfinite(class_logits)), share, jnp.nan)


def centred(features: Float[Array, "n width"]) -> Float[Array, "n width"]:
    """Return `features` minus their mean over the examples."""
    return features - jnp.mean(features, axis=0, keepdims=True)


def feature_cosine(a: Float[Array, "n width"], b: Float[Array, "n width"]) -> Float[Array, ""]:
    """Return the cosine between two networks' features of the same example, averaged over examples; in [-1, 1].

    Centre the features first (`centred`) where units are rectified: raw features are never negative, and even
    independent networks then have a large cosine. An example whose features are all zero in one network counts as 0.
    """
    norms = jnp.linalg.norm(a, axis=1) * jnp.linalg.norm(b, axis=1)
    return jnp.mean(ratio(jnp.sum(a * b, axis=1), norms))


def linear_cka(a: Float[Array, "n p"], b: Float[Array, "n q"]) -> Float[Array, ""]:
    """Return the linear centred kernel alignment (CKA) of two networks' features of the same examples, in [0, 1].

    CKA is |A'B|^2 / (|A'A| |B'B|) with centred features and Frobenius norms (Kornblith et al., arXiv 1905.00414,
    eq. 5). It is 1 if B is A rotated, scaled and shifted, and 0 if all features of one network are constant. For
    independent Gaussian features it is about sqrt(p q / ((n + p) (n + q))), which is small only if there are many more
    examples than units.
    """
    a, b = centred(a), centred(b)
    if a.shape[0] < max(a.shape[1], b.shape[1]):
        a, b = a @ a.T, b @ b.T
        return ratio(jnp.vdot(a, b), jnp.linalg.norm(a) * jnp.linalg.norm(b))
    return ratio(jnp.sum(jnp.square(a.T @ b)), jnp.linalg.norm(a.T @ a) * jnp.linalg.norm(b.T @ b))


class Probe(NamedTuple):
    """A linear classifier of features: weight (classes, width), bias (classes,), which sums to 0.

    `slope` is the largest entry of the objective's gradient before the last step. If it exceeds the tolerance,
    `linear_probe` ran out of steps.
    """

    weight: Float[Array, "classes width"]
    bias: Float[Array, " classes"]
    slope: Float[Array, ""]

    def logits(self, features: Float[Array, "n width"]) -> Float[Array, "n classes"]:
        """Return the class logits of every example."""
        return features @ self.weight.T + self.bias[None]


def linear_probe(
    features: Float[Array, "n width"],
    labels: Int[Array, " n"],
    n_class: int,
    penalty: Any,
    tolerance: float = 1e-5,
    max_steps: int = 5000,
) -> Probe:
    """Train a multinomial logistic regression of `labels` on frozen features to convergence.

    It minimises the mean cross-entropy + penalty / 2 |weight|^2 without a penalty on the bias, like scikit-learn's
    LogisticRegression with C = 1 / (n penalty). `penalty` is positive and may be traced. The method is accelerated
    gradient descent, restarted whenever the momentum points uphill (O'Donoghue and Candes, arXiv 1204.3982). The metric
    is Boehning's bound on the Hessian (Annals of the Institute of Statistical Mathematics 44 (1992) 197-200), for
    which the step size 1 is safe without a line search.
    """
    n, width = features.shape
    mean = jnp.mean(features, axis=0)
    # The bias absorbs any shift of the features. Centred, they make no cross terms of bias and weights in the bound.
    inputs = features - mean[None]
    wanted = jax.nn.one_hot(labels, n_class, dtype=features.dtype)
    metric = inverse(inputs.T @ inputs / (2 * n) + penalty * jnp.eye(width, dtype=features.dtype))

    def gradient(weight: Array, bias: Array) -> tuple[Array, Array]:
        off = (jax.nn.softmax(inputs @ weight.T + bias[None]) - wanted) / n
        return off.T @ inputs + penalty * weight, jnp.sum(off, axis=0)

    def step(carry: Any) -> Any:
        now, ahead, momentum, _, count = carry
        found = gradient(*ahead)
        after = ahead[0] - found[0] @ metric, ahead[1] - 2 * found[1]
        moved = optax.tree.sub(after, now)
        restarted = jnp.where(optax.tree.vdot(found, moved) > 0, 1.0, momentum)
        grown = (1 + jnp.sqrt(1 + 4 * restarted**2)) / 2
        ahead = optax.tree.add_scale(after, (restarted - 1) / grown, moved)
        slope = jnp.maximum(jnp.max(jnp.abs(found[0])), jnp.max(jnp.abs(found[1])))
        return after, ahead, grown, slope, count + 1

    def unfinished(carry: Any) -> Array:
        *_, slope, count = carry
        return (slope > tolerance) & (count < max_steps)

    start = jnp.zeros((n_class, width), features.dtype), jnp.zeros(n_class, features.dtype)
    one = jnp.ones((), features.dtype)
    (weight, bias), _, _, slope, _ = jax.lax.while_loop(unfinished, step, (start, start, one, jnp.inf * one, 0))
    return Probe(weight, bias - weight @ mean, slope)


def effective_rank(covariance: Float[Array, "n n"]) -> Float[Array, ""]:
    """Return the participation ratio (sum of eigenvalues)^2 / sum of squares: n if all are equal, 1 if one is not 0."""
    return jnp.trace(covariance) ** 2 / jnp.sum(jnp.square(covariance))


def top_share(covariance: Float[Array, "n n"]) -> Float[Array, ""]:
    """Return the largest eigenvalue divided by the sum of all eigenvalues."""
    return eigh(covariance)[0][-1] / jnp.trace(covariance)
