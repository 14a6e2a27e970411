"""The statements of the theory: each is the docstring of a function of a key that returns verdicts."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Num

from subsim.claims.claims import (
    BATCH,
    EPS,
    Claim,
    Verdict,
    claim,
    draw,
    each,
    lemma,
    logits_imitated,
    mlp,
    nothing_predicted,
    on,
)
from subsim.networks.cnn import make_cnn
from subsim.networks.network import Network, Params
from subsim.networks.transformer import make_transformer
from subsim.theory.problems import (
    N_AUX,
    N_CLASS,
    N_PIXELS,
    Problem,
    draw_data,
    keys_of,
    trait_on,
)
from subsim.theory.single_step import (
    OutputLoss,
    TraitLoss,
    descent,
    imitate,
    imitation_directions,
    leading_coefficient,
    single_step,
)
from subsim.training.losses import (
    imitated_logits,
    imitation_cross_entropy,
    imitation_kl,
    imitation_mse,
    target_cross_entropy,
)

ALPHA = 0.1
"""The student's step, so small that its second-order term does not hide the sign."""
N_LOGITS = N_CLASS + N_AUX
ACTIVATIONS = {"ReLU": jax.nn.relu, "tanh": jnp.tanh, "GELU": jax.nn.gelu}


def draw_shared(key: Array) -> tuple[Array, Callable[[Network, Params], Problem]]:
    """Return a key for a network, and a function from a network and its initial parameters to a problem.

    All problems have the same data, because random draws take longest to compile. They have no independent network.
    """
    of_network, _, of_data = keys_of(key)
    data = draw_data(of_data, N_PIXELS, N_CLASS, BATCH)
    return of_network, lambda network, theta_0: Problem(theta_0, None, trait_on(network, data, N_CLASS), data.inputs)


# ---- Lemma 1.


def expected_over_labels(z: Array, y: Array, mask: Array) -> Array:
    """Return the expected cross-entropy with a label drawn from the teacher's distribution."""
    p = jax.nn.softmax(jnp.where(mask, y, -jnp.inf))
    return jnp.sum(p * jax.vmap(lambda label: target_cross_entropy(z, label, mask))(jnp.eye(z.size)))


def lemma_losses(key: Array) -> Mapping[str, Verdict]:
    """Lemma 1: d_S . d_T >= 0 for squared error with weights >= 0, cross-entropy and KL, on any subset of logits."""
    key, weights, zeros, subset, temperature = jax.random.split(key, 5)
    network = mlp()
    problem = draw(key, network)
    some = jax.random.bernoulli(subset, 0.5, (N_LOGITS,))
    w = jnp.where(jax.random.bernoulli(zeros, 0.3, (N_LOGITS,)), 0.0, jax.random.uniform(weights, (N_LOGITS,)))
    t = jax.random.uniform(temperature, minval=0.5, maxval=5.0)
    values: dict[str, Callable[[Array, Array, Array], Array]] = {
        "squared error, random weights": lambda z, y, mask: jnp.sum(jnp.where(mask, w * (z - y) ** 2, 0.0)),
        "cross-entropy": imitation_cross_entropy,
        "KL": imitation_kl,
        "labels drawn from the teacher, in expectation": expected_over_labels,
        "cross-entropy, random temperature": lambda z, y, mask: imitation_cross_entropy(z / t, y / t, mask),
    }
    # An empty subset would imitate nothing.
    masks = {"all logits": logits_imitated()[1], "a random subset": some.at[0].set(True)}
    verdicts: dict[str, Verdict] = {}
    for name, value in values.items():
        found = each(lambda mask, value=value: lemma(network, problem, on(mask, value)), masks)
        verdicts |= {f"{name}, {logits}": verdict for logits, verdict in found.items()}
    return verdicts


def lemma_directions(key: Array) -> Mapping[str, Verdict]:
    """Lemma 1: d_S . d_T >= 0 for every direction d_T of the teacher."""
    key, normal = jax.random.split(key)
    network = mlp()
    problem = draw(key, network)
    flat, unravel = ravel_pytree(problem.theta_0)
    anywhere = unravel(jax.random.normal(normal, flat.shape))
    downhill = descent(problem.trait_loss, problem.theta_0)
    directions = {
        "random d_T": anywhere,
        "random d_T, heavy tails": jax.tree.map(lambda leaf: leaf**5, anywhere),
        "d_T = +grad L_T": optax.tree.scale(-1.0, downhill),
        "d_T = theta_0": problem.theta_0,
    }
    loss = on(logits_imitated()[0], imitation_kl)
    return each(lambda d_t: lemma(network, problem, loss, optax.tree.scale(1 / optax.tree.norm(d_t), d_t)), directions)


def lemma_inputs(images: Num[Any, "n pixels"], key: Array) -> Mapping[str, Verdict]:
    """Lemma 1: d_S . d_T >= 0 for every distribution of the student's inputs."""
    key, noise, pick = jax.random.split(key, 3)
    network = mlp()
    problem = draw(key, network)
    d_t = descent(problem.trait_loss, problem.theta_0)
    loss = on(logits_imitated()[0], imitation_kl)

    def coefficient(inputs: Array) -> Array:
        return leading_coefficient(network.apply, problem.theta_0, d_t, loss, inputs)

    def downhill(_: Any, inputs: Array) -> Array:
        slope = jax.grad(coefficient)(inputs)
        return inputs - 0.3 * slope / jnp.maximum(jnp.linalg.norm(slope, axis=1, keepdims=True), 1e-300)

    laws = {
        "uniform": problem.inputs,
        "Gaussian": jax.random.normal(noise, problem.inputs.shape),
        "constant": jnp.ones((1, N_PIXELS)),
        "one-hot": jnp.eye(N_PIXELS),
        "a minibatch of one": problem.inputs[:1],
        "real images": jax.random.choice(pick, jnp.asarray(images, float), (BATCH,)),
        "chosen to minimise A": jax.lax.fori_loop(0, 10, downhill, problem.inputs),
    }
    # Samples are repeated until all settings have equally many: repetition does not change a distribution.
    alike = {name: jnp.resize(inputs, (N_PIXELS, N_PIXELS)) for name, inputs in laws.items()}
    return each(lambda inputs: lemma(network, problem, loss, d_t, inputs), alike)


def lemma_networks(key: Array) -> Mapping[str, Verdict]:
    """Lemma 1: d_S . d_T >= 0 for every network."""
    own, problem_of = draw_shared(key)
    loss = on(logits_imitated()[0], imitation_kl)
    number_of = {name: jnp.asarray(number) for number, name in enumerate(ACTIVATIONS)}

    def of_depth(depth: int, number: Array) -> Verdict:
        # Compute all three and select one: there is one network to compile for each depth, not for each pair.
        def activation(x: Array) -> Array:
            return jax.lax.select_n(jnp.broadcast_to(number, x.shape), *(of(x) for of in ACTIVATIONS.values()))

        network = mlp((8,) * depth, activation=activation)
        return lemma(network, problem_of(network, network.init(own)), loss)

    verdicts: dict[str, Verdict] = {}
    for depth in (1, 2, 3, 4):
        found = each(functools.partial(of_depth, depth), number_of)
        verdicts |= {f"{name}, {depth} hidden": verdict for name, verdict in found.items()}
    others = {
        "convolutional": make_cnn(N_PIXELS, N_CLASS, N_AUX, channels=(4,)),
        "transformer": make_transformer(N_PIXELS, N_CLASS, N_AUX, patch=2, width=8, depth=1),
    }
    for name, network in others.items():
        verdicts[name] = lemma(network, problem_of(network, network.init(own)), loss)
    return verdicts


def lemma_convex(key: Array) -> Mapping[str, Verdict]:
    """The wider reading: d_S . d_T >= 0 for losses convex in z and least at z = y, by more than o(eps |dL_S/dz|).

    Let z = f_theta_0(x), y = f_theta_T(x) = z + eps v + r with |r| = O(eps^2), and let g be any subgradient in
    dL_S/dz at (z, y). Convexity gives L_S(y, y) >= L_S(z, y) + g . (y - z), so that -g . (y - z) >= e with the excess
    e = L_S(z, y) - L_S(y, y) >= 0, because y minimises L_S(., y). Hence

        d_S . d_T = E[-g . v] = E[-g . (y - z) + g . r] / eps >= E[e] / eps - O(eps) E|g|.

    So the product is positive for all small enough eps if the excess is not of smaller order than eps^2 |g|, in the
    sense that E[e] >= c eps E|g| for some c > 0. Strong convexity (e ~ eps^2, |g| ~ eps) and a kink at y (e ~ eps,
    |g| ~ 1) both give this. The proof needs neither symmetry of M nor a derivative in y, and convexity may be weakened
    to g . (z - y) >= 0. If A > 0, a smooth loss only needs its minimum at z = y for every y: dL_S/dz = 0 along z = y
    makes M = -d^2 L_S / dy dz = d^2 L_S / dz^2, which is positive semi-definite at a minimum. The condition on the
    excess is needed. Example: the square of y_1 (z_1 - y_1) + (z_2 - y_2) is convex and least at z = y, and M has a
    null space that changes with y. For the outputs (theta, -3 theta^2) at theta_0 = 0 and d_T = 1 it gives -4 eps^3.
    """
    network = mlp()
    problem = draw(key, network)
    d_t = descent(problem.trait_loss, problem.theta_0)
    mask = logits_imitated()[0]
    losses: dict[str, Callable[[Array, Array, Array], Array]] = {
        "absolute error": lambda z, y, mask: jnp.sum(jnp.where(mask, jnp.abs(z - y), 0.0)),
        "reverse KL": lambda z, y, mask: imitation_kl(y, z, mask),
        "Huber": lambda z, y, mask: jnp.sum(jnp.where(mask, optax.losses.huber_loss(z, y, delta=1e-6), 0.0)),
        "largest error": lambda z, y, mask: jnp.max(jnp.where(mask, jnp.abs(z - y), 0.0)),
        "fourth power": lambda z, y, mask: jnp.sum(jnp.where(mask, (z - y) ** 4, 0.0)),
    }

    def test(loss: OutputLoss) -> Verdict:
        # These losses are not smooth in y: the sign is defined, but the expansion's A is not.
        d_s = imitation_directions(network.apply, problem.theta_0, d_t, loss, problem.inputs)(EPS)
        return nothing_predicted(optax.tree.vdot(d_s, d_t) < 0)

    return {name: test(on(mask, value)) for name, value in losses.items()}


# ---- The expansion.

STEPS = (1e-4, 1e-3, 1e-2)
"""The eps at which remainders are compared."""


def vanishes_with(rests: Sequence[Array], steps: Sequence[float], order: int) -> Verdict:
    """Return the verdict that the remainders `rests` at `steps` are O(step^order).

    Divided by step^order, a remainder must not grow as steps shrink. The error is the relative difference of `order`
    and the log-log slope between the two smallest steps. The claim is about the bound, because the slope is wrong if
    the coefficient happens to vanish at one step.
    """
    over = [rest / step**order for rest, step in zip(rests, steps, strict=True)]
    slope = jnp.log(rests[1] / rests[0]) / jnp.log(steps[1] / steps[0])
    # A remainder of the next lower order would grow tenfold from one step to the next.
    return Verdict(~(over[0] < 5 * jnp.maximum(over[1], over[2])), jnp.abs(slope - order) / order)


def expansion(key: Array) -> Mapping[str, Verdict]:
    """d_S . d_T = eps A + O(eps^2), and A is the same by one jvp, by the dense Jacobian and by differences.

    The network is smooth: in some seeds, any finite eps reaches a kink of ReLU.
    """
    network = mlp(activation=jnp.tanh)
    problem = draw(key, network)
    d_t = descent(problem.trait_loss, problem.theta_0)
    verdicts = {}
    for name, value in {"KL": imitation_kl, "squared error": imitation_mse}.items():
        loss = on(logits_imitated()[0], value)

        def at(eps: Array, loss: OutputLoss = loss) -> tuple[Array, Array]:
            step = imitate(network.apply, problem.theta_0, d_t, loss, problem.inputs, eps=eps)
            return step.inner_product, step.remainder

        a, h = leading_coefficient(network.apply, problem.theta_0, d_t, loss, problem.inputs), 1e-5
        (*_, after, before), (*rests, _, _) = jax.vmap(at)(jnp.array([*STEPS, h, -h]))
        verdicts[f"the remainder is O(eps^2), {name}"] = vanishes_with(list(map(jnp.abs, rests)), STEPS, order=2)
        differences = (after - before) / (2 * h)
        dense = dense_coefficient(network, problem, d_t, loss)
        for route, other in (("dense Jacobian", dense), ("differences", differences)):
            off = jnp.abs(other - a) / jnp.abs(a)
            verdicts[f"A by {route}, {name}"] = Verdict(~(off < 1e-5), off)
    return verdicts


def dense_coefficient(network: Network, problem: Problem, d_t: Params, loss: OutputLoss) -> Float[Array, ""]:
    """Return A from the dense Jacobian J and matrix M of every input: slow, and independent of the one-jvp form."""
    flat, unravel = ravel_pytree(problem.theta_0)
    direction, _ = ravel_pytree(d_t)

    def sample(x: Array) -> Array:
        v = jax.jacobian(lambda theta: network.apply(unravel(theta), x))(flat) @ direction
        z = network.apply(problem.theta_0, x)
        m = -jax.jacobian(jax.grad(loss), argnums=1)(z, z)
        return v @ m @ v

    return jnp.mean(jax.vmap(sample)(problem.inputs))


# ---- Theorem 1.


def theorem(key: Array) -> Mapping[str, Verdict]:
    """Theorem 1: L_T falls by eps alpha A + O(eps^2), for every L_T."""
    key, elsewhere = jax.random.split(key)
    network = mlp(activation=jnp.tanh)
    problem = draw(key, network)
    others = jax.random.normal(elsewhere, (BATCH, N_PIXELS)) + 3.0
    traits: dict[str, TraitLoss] = {
        "cross-entropy on labels": problem.trait_loss,
        "squared norm of theta": lambda theta: 0.5 * optax.tree.norm(theta, squared=True),
        "a logit on other inputs": lambda theta: jnp.mean(jax.vmap(lambda x: network.apply(theta, x)[0])(others)),
    }
    loss = on(logits_imitated()[0], imitation_kl)
    verdicts = {}
    for name, trait in traits.items():

        def at(eps: Array, trait: TraitLoss = trait) -> tuple[Array, Array]:
            step = single_step(network.apply, problem.theta_0, trait, loss, problem.inputs, eps=eps, alpha=ALPHA)
            return step.trait_change, step.trait_change - step.predicted_trait_change

        (change, *_), (rest, *rests) = jax.vmap(at)(jnp.array([1e-4, *STEPS]))
        verdicts[f"L_T falls: {name}"] = Verdict(~(change < 0), jnp.abs(rest / (change - rest)))
        verdicts[f"the remainder is O(eps^2): {name}"] = vanishes_with(list(map(jnp.abs, rests)), STEPS, order=2)
    return verdicts


def degenerate(key: Array) -> Mapping[str, Verdict]:
    """If A = 0, the product d_S . d_T, its prediction and the change of L_T are exactly zero, not only small."""
    own, problem_of = draw_shared(key)
    network, one_logit = mlp(), mlp(n_aux=1)
    linear = Network(lambda key: jax.random.normal(key, (N_LOGITS, N_PIXELS)), lambda theta, x: theta @ x)
    aux = on(logits_imitated()[0], imitation_kl)

    def head_only(theta: Params) -> Array:
        return optax.tree.norm(theta["class_head"], squared=True)

    def step(f: Network, loss: OutputLoss, trait: TraitLoss | None = None) -> Verdict:
        problem = problem_of(f, f.init(own))
        trait = trait or problem.trait_loss
        found = imitate(f.apply, problem.theta_0, descent(trait, problem.theta_0), loss, problem.inputs, eps=1e-2)
        student = optax.tree.add(problem.theta_0, found.d_s)
        # In one vmap, so that equal parameters give equal bits.
        before, after = jax.vmap(trait)(jax.tree.map(lambda *two: jnp.stack(two), problem.theta_0, student))
        return nothing_predicted((found.inner_product != 0) | (found.predicted != 0) | (before != after))

    return {
        "m = 1 under cross-entropy": step(one_logit, on(imitated_logits(N_CLASS, 1)[0], imitation_cross_entropy)),
        "L_T of the class head alone": step(network, aux, head_only),
        "linear model, auxiliary rows": step(linear, aux),
    }


def standard(images: Num[Any, "n pixels"]) -> list[Claim]:
    """Return the claims that must hold; `images` are real inputs of `N_PIXELS` pixels for one of the settings."""
    with_images = claim(functools.wraps(lemma_inputs)(functools.partial(lemma_inputs, images)))
    tests = (lemma_losses, lemma_directions, lemma_networks, lemma_convex, expansion, theorem, degenerate)
    return [with_images, *map(claim, tests)]
