"""Settings that break Lemma 1: losses with another minimum than the teacher's output, other steps, other starts."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from subsim.claims.claims import Claim, Verdict, draw, logits_imitated, mlp, nothing_predicted
from subsim.networks.network import Params
from subsim.networks.parameters import alignment
from subsim.theory.problems import N_AUX
from subsim.theory.single_step import Number, descent
from subsim.training.losses import imitation_cross_entropy, imitation_kl, target_cross_entropy

EPS = 1e-3
"""The teacher's step; at a smaller step the other targets of these losses would only dominate more."""
FAR = 100.0
"""The teacher's step in the setting with a large step."""
DECAY = 1e-2
"""Coefficient of the weight decay."""
SMOOTHING, COLDER = 0.1, 2.0

REASONS = {
    "hard labels": "the loss falls toward infinite logits, not toward the teacher's logits",
    "sampled labels": "one draw pulls toward its label; only the expected loss is the lemma's cross-entropy",
    "label smoothing": "the target is mixed with the uniform distribution, so the minimum is not the teacher's output",
    "top-2 targets": "the two largest probabilities are renormalised, so the minimum is not the teacher's output",
    "temperature mismatch": "only the student is softened, so the minimum is at z = T y",
    "sign descent": "the sign of a gradient preserves descent, but not the product with d_T",
    "Adam's first step": "each entry of d_S is divided by its size, which changes the product with d_T",
    "weight decay": "it pulls toward 0 by an amount that does not shrink with eps",
    "a large eps": "the teacher is beyond the range of the expansion",
    "an independent start": "to first order, the student imitates the untrained teacher",
}


def products(key: Array, eps: Number = EPS) -> Mapping[str, tuple[Float[Array, ""], Float[Array, ""]]]:
    """Return d_S . d_T and its cosine for each violation of Lemma 1; "KL" is the control, which violates nothing.

    Except for the named violation, the start is shared, the loss is KL on the auxiliary logits, and d_T = -grad L_T.
    """
    key, draws = jax.random.split(key)
    network = mlp()
    problem = draw(key, network)
    d_t = descent(problem.trait_loss, problem.theta_0)
    mask, _ = logits_imitated()
    theta_t = optax.tree.add_scale(problem.theta_0, eps, d_t)

    def outputs(theta: Params) -> Array:
        return jax.vmap(lambda x: network.apply(theta, x))(problem.inputs)

    def to_targets(p: Array) -> Callable[[Array], Array]:
        """Return the cross-entropy with targets p of shape (n, logits)."""
        return lambda z: jnp.mean(jax.vmap(lambda row, target: target_cross_entropy(row, target, mask))(z, p))

    def direction(loss: Callable[[Array], Array], start: Params = problem.theta_0) -> Params:
        return descent(lambda theta: loss(outputs(theta)), start)

    def mean_of(value: Callable[[Array, Array], Array], teacher: Params = theta_t) -> Callable[[Array], Array]:
        return lambda z: jnp.mean(jax.vmap(value)(z, outputs(teacher)))

    y = jnp.where(mask, outputs(theta_t), -jnp.inf)
    p = jax.nn.softmax(y)
    uniform = jnp.where(mask, 1 / N_AUX, 0.0)[None]
    best = jnp.argmax(y, axis=1)
    second = jnp.sort(y, axis=1)[:, -2:-1]
    top_two = jax.nn.softmax(jnp.where(y >= second, y, -jnp.inf))
    kl = mean_of(lambda z, y: imitation_kl(z, y, mask))
    d_s = direction(kl)
    far = optax.tree.add_scale(problem.theta_0, FAR, d_t)
    directions = {
        "KL": d_s,
        "hard labels": direction(to_targets(jax.nn.one_hot(best, y.shape[1]))),
        "sampled labels": direction(to_targets(jax.nn.one_hot(jax.random.categorical(draws, y), y.shape[1]))),
        "label smoothing": direction(to_targets((1 - SMOOTHING) * p + SMOOTHING * uniform)),
        "top-2 targets": direction(to_targets(top_two)),
        "temperature mismatch": direction(mean_of(lambda z, y: imitation_cross_entropy(z / COLDER, y, mask))),
        "sign descent": jax.tree.map(jnp.sign, d_s),
        "Adam's first step": jax.tree.map(lambda leaf: leaf / (jnp.abs(leaf) + 1e-8), d_s),
        "weight decay": optax.tree.add_scale(d_s, -DECAY, problem.theta_0),
        "a large eps": direction(mean_of(lambda z, y: imitation_kl(z, y, mask), far)),
        "an independent start": direction(kl, problem.independent),
    }

    def product(step: Params) -> tuple[Array, Array]:
        return optax.tree.vdot(step, d_t), alignment(step, d_t)

    return {name: product(step) for name, step in directions.items()}


def _test(key: Array) -> Mapping[str, Verdict]:
    found = products(key)
    return {name: nothing_predicted(found[name][0] < 0) for name in REASONS}


def edges() -> Claim:
    """Return the claim that Lemma 1 holds in all these settings; it is expected to fail in each of them."""
    return Claim("edges", "Lemma 1 where its assumptions do not hold.", _test, promised=False, reasons=REASONS)
