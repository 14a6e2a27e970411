"""Claims beyond one small step from a shared start: each statement is the docstring of its test."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from subsim.claims.claims import BATCH, Claim, Verdict, claim, draw, logits_imitated, mlp, on
from subsim.claims.linearised import FAR, FEW, MOMENTUM
from subsim.claims.statements import ALPHA, STEPS, vanishes_with
from subsim.networks.network import Params, linearise
from subsim.networks.parameters import rotated
from subsim.theory import trajectory
from subsim.theory.adam import Scales
from subsim.theory.problems import N_CLASS, N_PIXELS
from subsim.theory.sampled import label_products, moments
from subsim.theory.sharedness import against_offset
from subsim.theory.single_step import Number, descent, imitate, imitation_directions, leading_coefficient
from subsim.theory.smallness import derivatives_at_zero
from subsim.theory.transport import Transport, transport
from subsim.training.loop import Training, train
from subsim.training.losses import imitation_kl, imitation_mse

SMALLER = 1e-3
"""The common factor on the scales of Adam's student."""
SIZES = (1e-4, 1e-3, 1e-2)
"""Relative sizes of changes in a training."""
WIDER = (1e-2, 1e-1, 1.0)
"""Steps of the teacher at which third-order remainders are above rounding."""


def sufficiently_small(key: Array) -> Mapping[str, Verdict]:
    """phi(eps) = L_T(theta_S) - L_T(theta_0) is phi' eps + phi'' eps^2 / 2 + O(eps^3), with phi' = -alpha A.

    The second-order prediction of the critical eps, -2 phi' / phi'', uses these two derivatives.
    """
    network = mlp(activation=jnp.tanh)
    problem = draw(key, network)
    d_t = descent(problem.trait_loss, problem.theta_0)
    wider, verdicts = jnp.array(WIDER), {}
    for name, value in {"KL": imitation_kl, "squared error": imitation_mse}.items():
        loss = on(logits_imitated()[0], value)
        d_s = imitation_directions(network.apply, problem.theta_0, d_t, loss, problem.inputs)

        def phi(eps: Array, d_s: Callable[[Array], Params] = d_s) -> Array:
            moved = optax.tree.add_scale(problem.theta_0, ALPHA, d_s(eps))
            return problem.trait_loss(moved) - problem.trait_loss(problem.theta_0)

        first, second = derivatives_at_zero(phi, orders=2)
        a = leading_coefficient(network.apply, problem.theta_0, d_t, loss, problem.inputs)
        off = jnp.abs(first + ALPHA * a) / jnp.abs(ALPHA * a)
        verdicts[f"phi' = -alpha A, {name}"] = Verdict(~(off < 1e-9), off)
        rests = jnp.abs(jax.vmap(phi)(wider) - first * wider - second * wider**2 / 2)
        verdicts[f"the remainder is O(eps^3), {name}"] = vanishes_with(list(rests), WIDER, order=3)
    return verdicts


def any_start(key: Array) -> Mapping[str, Verdict]:
    """d_S . d_T = offset + eps slope + O(eps^2) from any start; from a shared start, offset = 0 and slope = A."""
    network = mlp(activation=jnp.tanh)
    problem = draw(key, network)
    assert problem.independent is not None
    starts = {
        "shared": problem.theta_0,
        "rotated by .3": rotated(problem.theta_0, problem.independent, 0.3),
        "independent": problem.independent,
    }
    loss = on(logits_imitated()[0], imitation_kl)

    def parted(start: Params, eps: Array) -> tuple[Array, Array, Array, Array]:
        setting = network.apply, problem.theta_0, problem.trait_loss, loss, problem.inputs
        found = against_offset(*setting, start, eps=eps, alpha=ALPHA)
        rest = jnp.abs(found.inner_product - found.offset - eps * found.slope)
        return rest, found.offset, found.slope, found.signal / eps

    every_start = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts.values())
    rests, *terms = jax.vmap(jax.vmap(parted, (None, 0)), (0, None))(every_start, jnp.array(STEPS))
    verdicts = {
        f"the remainder is O(eps^2), {name}": vanishes_with(list(rest), STEPS, order=2)
        for name, rest in zip(starts, rests, strict=True)
    }
    offset, slope, a = (term[0, 0] for term in terms)
    off = jnp.abs(slope - a) / a
    exact = (off < 1e-9) & (jnp.abs(offset) < 1e-9 * a)
    return verdicts | {"offset 0 and slope A, shared": Verdict(~exact, off)}


def adam_scales(key: Array) -> Mapping[str, Verdict]:
    """Under Adam, a linearised student of a linearised teacher moves c times as far if three scales grow c times.

    The scales are the teacher's step, Adam's learning rate, and Adam's e.
    """
    network = mlp()
    problem = draw(key, network)
    d_t = descent(problem.trait_loss, problem.theta_0)
    f = linearise(lambda theta, x: network.apply(theta, x)[N_CLASS:], problem.theta_0)
    batches = problem.inputs.reshape(2, -1, N_PIXELS)

    def displacement(eps: Number, learning_rate: Number, adam_eps: Number) -> Params:
        theta_t = optax.tree.add_scale(problem.theta_0, eps, d_t)
        optimiser = optax.adam(learning_rate, eps=adam_eps)

        def step(number: Array | int, now: tuple[Params, Any]) -> tuple[Params, Any]:
            inputs = batches[number % 2]

            def loss(theta: Params) -> Array:
                z, y = (jax.vmap(f, (None, 0))(each, inputs) for each in (theta, theta_t))
                return jnp.mean((z - y) ** 2)

            updates, state = optimiser.update(jax.grad(loss)(now[0]), now[1])
            return optax.apply_updates(now[0], updates), state

        start = problem.theta_0, optimiser.init(problem.theta_0)
        return optax.tree.sub(jax.lax.fori_loop(0, FEW, step, start)[0], problem.theta_0)

    scales = Scales(eps=1e-2, learning_rate=1e-3, adam_eps=1e-4)
    one, other = displacement(*scales), displacement(*scales.times(SMALLER))
    off = optax.tree.norm(optax.tree.add_scale(other, -SMALLER, one)) / optax.tree.norm(other)
    return {f"after {FEW} steps": Verdict(~(off < 1e-6), jnp.where(optax.tree.norm(other) == 0, jnp.nan, off))}


def sampled_labels(key: Array) -> Mapping[str, Verdict]:
    """A step on labels drawn from the teacher's softmax is Lemma 1's step with noise, at any temperature.

    For one label, d_S . d_T has the same mean as for soft targets, eps A + O(eps^2). At eps = 0 its variance is A.
    """
    network = mlp(activation=jnp.tanh)
    problem = draw(key, network)
    d_t, (mask, _) = descent(problem.trait_loss, problem.theta_0), logits_imitated()
    setting, verdicts = (network.apply, problem.theta_0, d_t), {}

    for temperature in (1.0, 4.0):

        def loss(z: Array, y: Array, by: float = temperature) -> Array:
            return imitation_kl(z / by, y / by, mask)

        a = leading_coefficient(*setting, loss, problem.inputs)

        def of(eps: Array | float, by: float = temperature) -> tuple[Array, Array]:
            return moments(label_products(*setting, problem.inputs, eps=eps, mask=mask, temperature=by))

        means, _ = jax.vmap(of)(jnp.array(STEPS))
        soft = imitate(*setting, loss, problem.inputs, eps=STEPS[-1]).inner_product
        which = f"temperature {temperature:g}"
        for what, value, by in (("variance A", of(0.0)[1], a), ("the mean is the soft step's", means[-1], soft)):
            off = jnp.abs(value - by) / jnp.abs(by)
            verdicts[f"{what}, {which}"] = Verdict(~(off < 1e-9), off)
        rests = jnp.abs(means - jnp.array(STEPS) * a)
        verdicts[f"the remainder is O(eps^2), {which}"] = vanishes_with(list(rests), STEPS, order=2)
    return verdicts


def along_training(key: Array) -> Mapping[str, Verdict]:
    """The first-order changes of L_T in a few steps add up to its change up to O(rate^2), under any optimiser."""
    network = mlp(activation=jnp.tanh)
    problem = draw(key, network)
    theta_t = optax.tree.add_scale(problem.theta_0, FAR, descent(problem.trait_loss, problem.theta_0))
    mask, _ = logits_imitated()

    def imitation(theta: Params) -> Array:
        def of_one(x: Array) -> Array:
            return imitation_kl(network.apply(theta, x), network.apply(theta_t, x), mask)

        return jnp.mean(jax.vmap(of_one)(problem.inputs))

    def rest(rule: Callable[..., optax.GradientTransformation], rate: Array) -> Array:
        optimiser = trajectory.watched(rule(rate), problem.trait_loss, every=FEW, steps=FEW)

        def step(_: Array | int, now: tuple[Params, trajectory.Watched]) -> tuple[Params, trajectory.Watched]:
            updates, state = optimiser.update(jax.grad(imitation)(now[0]), now[1], now[0])
            return optax.apply_updates(now[0], updates), state

        start = problem.theta_0, optimiser.init(problem.theta_0)
        theta_s, state = jax.lax.fori_loop(0, FEW, step, start)
        return jnp.abs(problem.trait_loss(theta_s) - problem.trait_loss(problem.theta_0) - state.running_sum)

    rules = {"SGD": (optax.sgd, (1e-3, 1e-2, 1e-1)), "Adam": (optax.adam, (1e-6, 1e-5, 1e-4))}
    return {
        name: vanishes_with(list(jax.lax.map(functools.partial(rest, rule), jnp.array(rates))), rates, order=2)
        for name, (rule, rates) in rules.items()
    }


def transported(key: Array) -> Mapping[str, Verdict]:
    """One backward pass predicts the effect of a small change on L_T a few steps later, up to O(size^2).

    The change is in a student's parameters, optimiser state and examples' weights; its effect is its inner product with
    the gradient from the backward pass.
    """
    network = mlp(activation=jnp.tanh)
    problem = draw(key, network)
    theta_t = optax.tree.add_scale(problem.theta_0, FAR, descent(problem.trait_loss, problem.theta_0))
    mask, _ = logits_imitated()

    def losses(theta: Params, inputs: Array) -> Array:
        return jax.vmap(lambda x: imitation_kl(network.apply(theta, x), network.apply(theta_t, x), mask))(inputs)

    def change_of(leaf: Array) -> Array:  # in proportion, so that mean squares stay positive; counts do not change
        way = jnp.cos(jnp.arange(leaf.size, dtype=float)).reshape(leaf.shape)
        return leaf * way if jnp.issubdtype(leaf.dtype, jnp.floating) else jnp.zeros_like(leaf)

    def rests(optimiser: optax.GradientTransformation) -> Array:
        start = Training(
            key, problem.theta_0, losses, lambda index, _: problem.inputs[index], BATCH, BATCH // 2, optimiser
        )
        before = train(start, FEW)
        at = Transport(before.params, before.state, jnp.ones(BATCH))
        begun = start._replace(first_step=FEW, **at._asdict())
        change = jax.tree.map(change_of, at)

        def ends(size: Array) -> Array:
            moved = jax.tree.map(lambda leaf, by: leaf + (size * by).astype(leaf.dtype), at, change)
            return problem.trait_loss(train(begun._replace(**moved._asdict()), FEW).params)

        sizes, effect = jnp.array(SIZES), transport(begun, FEW, problem.trait_loss).effect(change)
        unchanged, *changed = jax.lax.map(ends, jnp.array([0.0, *SIZES]))
        return jnp.abs(jnp.stack(changed) - unchanged - sizes * effect)

    rules = {"SGD": optax.sgd(0.1), "momentum": optax.sgd(0.1, MOMENTUM), "Adam": optax.adam(1e-2, eps_root=1e-12)}
    return {name: vanishes_with(list(rests(rule)), SIZES, order=2) for name, rule in rules.items()}


def standard() -> list[Claim]:
    """Return the claims of this module."""
    tests = (sufficiently_small, any_start, adam_scales, sampled_labels, along_training, transported)
    return list(map(claim, tests))
