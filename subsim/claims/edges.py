"""What breaks Lemma 1: losses not least at the teacher's output, steps that are no gradient steps, and other starts."""

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
"""The teacher's step; at a smaller one what these losses pull toward would only weigh more."""
FAR = 100.0
"""The teacher's step where it is not small."""
DECAY = 1e-2
"""Coefficient of the weight decay."""
SMOOTHING, COLDER = 0.1, 2.0

REASONS = {
    "hard labels": "the loss falls toward infinite logits, not toward the teacher's",
    "sampled labels": "one draw pulls toward its label; only its expectation is the cross-entropy of the lemma",
    "label smoothing": "the target is pulled to the uniform distribution, so the loss is least elsewhere",
    "top-2 targets": "what is left of the teacher's distribution is renormalised, so the loss is least elsewhere",
    "temperature mismatch": "the student is softened and the teacher is not: least at z = T y",
    "sign descent": "the sign of a gradient keeps its descent, not its product with d_T",
    "Adam's first step": "divides each entry of d_S by its size, and is d_S again only where that is undone",
    "weight decay": "pulls toward 0 by an amount that does not shrink with eps",
    "a large eps": "the teacher is out of reach of the expansion",
    "an independent start": "the first order is the step of imitating the untrained teacher",
}


def products(key: Array, eps: Number = EPS) -> Mapping[str, tuple[Float[Array, ""], Float[Array, ""]]]:
    """d_S . d_T, and its cosine, by what is done to Lemma 1; "KL" is the lemma left whole, the control.

    A shared start, KL on the auxiliary logits and d_T = -grad L_T, but for what the name says.
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
        """Cross-entropy with targets p of shape (n, logits)."""
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
    """The claim that nothing of this breaks Lemma 1, which is expected to fail in every setting."""
    return Claim("edges", "Lemma 1 where its assumptions do not hold.", _test, promised=False, reasons=REASONS)
