"""What is measured on trained networks: pure functions of outputs, parameters and hidden features."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from subsim.data.factorisations import eigh, inverse
from subsim.networks.parameters import ratio


def accuracy(class_logits: Float[Array, "n classes"], labels: Int[Array, " n"]) -> Float[Array, ""]:
    """Share of examples whose largest class logit is the label's; NaN where any logit is not finite.

    A network that diverged has no accuracy: argmax over NaN would report a number near chance.
    """
    share = jnp.mean(jnp.argmax(class_logits, axis=-1) == labels, dtype=class_logits.dtype)
    return jnp.where(jnp.all(jnp.isfinite(class_logits)), share, jnp.nan)


def centred(features: Float[Array, "n width"]) -> Float[Array, "n width"]:
    """`features` less their mean over the examples."""
    return features - jnp.mean(features, axis=0, keepdims=True)


def feature_cosine(a: Float[Array, "n width"], b: Float[Array, "n width"]) -> Float[Array, ""]:
    """Mean over examples of the cosine of two networks' features of the same example, in [-1, 1].

    Of raw features, or of `centred` ones: rectified units are never negative, so that the raw features even of two
    independent networks have a large cosine. An example whose features are all zero in one network counts as 0.
    """
    norms = jnp.linalg.norm(a, axis=1) * jnp.linalg.norm(b, axis=1)
    return jnp.mean(ratio(jnp.sum(a * b, axis=1), norms))


def linear_cka(a: Float[Array, "n p"], b: Float[Array, "n q"]) -> Float[Array, ""]:
    """Linear centred kernel alignment of two networks' features of the same examples, in [0, 1]; 0 where all of a
    network's features are constant.

    |A'B|^2 / (|A'A| |B'B|) with centred features and Frobenius norms (Kornblith et al., arXiv 1905.00414, eq. 5): 1
    where B is A rotated, scaled and shifted. Independent Gaussian features have about
    sqrt(p q / ((n + p) (n + q))), which vanishes only with many more examples than units.
    """
    a, b = centred(a), centred(b)
    if a.shape[0] < max(a.shape[1], b.shape[1]):
        a, b = a @ a.T, b @ b.T
        return ratio(jnp.vdot(a, b), jnp.linalg.norm(a) * jnp.linalg.norm(b))
    return ratio(jnp.sum(jnp.square(a.T @ b)), jnp.linalg.norm(a.T @ a) * jnp.linalg.norm(b.T @ b))


class Probe(NamedTuple):
    """A linear classifier of features: weight (classes, width), bias (classes,), which sums to 0.

    `slope` is the largest entry of its objective's gradient before the last step: above the tolerance of `linear_probe`
    where that ran out of steps.
    """

    weight: Float[Array, "classes width"]
    bias: Float[Array, " classes"]
    slope: Float[Array, ""]

    def logits(self, features: Float[Array, "n width"]) -> Float[Array, "n classes"]:
        """The class logits of every example."""
        return features @ self.weight.T + self.bias[None]


def linear_probe(
    features: Float[Array, "n width"],
    labels: Int[Array, " n"],
    n_class: int,
    penalty: Any,
    tolerance: float = 1e-5,
    max_steps: int = 5000,
) -> Probe:
    """Multinomial logistic regression of `labels` on frozen features, trained to convergence.

    Minimises the mean cross-entropy + penalty / 2 |weight|^2, the bias unpenalised: scikit-learn's LogisticRegression
    with C = 1 / (n penalty). `penalty` is positive and may be traced. Accelerated gradient steps, begun anew whenever
    they climb (O'Donoghue and Candes, arXiv 1204.3982), in the metric of Boehning's bound on the Hessian (Annals of
    the Institute of Statistical Mathematics 44 (1992) 197-200): its step is 1, and nothing is searched for.
    """
    n, width = features.shape
    mean = jnp.mean(features, axis=0)
    # The bias takes up any shift of the features; centred, it and the weights do not meet in the bound.
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
        kept = jnp.where(optax.tree.vdot(found, moved) > 0, 1.0, momentum)
        grown = (1 + jnp.sqrt(1 + 4 * kept**2)) / 2
        ahead = optax.tree.add_scale(after, (kept - 1) / grown, moved)
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
    """Participation ratio (sum of eigenvalues)^2 / sum of their squares: n where all are alike, 1 where one is."""
    return jnp.trace(covariance) ** 2 / jnp.sum(jnp.square(covariance))


def top_share(covariance: Float[Array, "n n"]) -> Float[Array, ""]:
    """The largest eigenvalue's share of the sum of all."""
    return eigh(covariance)[0][-1] / jnp.trace(covariance)
