"""Claims about linearised students and linear networks: their end, their first steps, and chains."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from subsim.claims.claims import Claim, Verdict, claim, draw, mlp, nothing_predicted
from subsim.data.factorisations import eigh
from subsim.networks.network import Params, linearise
from subsim.theory.chains import on_same_inputs
from subsim.theory.kernel import displaced, momentum_progress, nystroem, stable_step
from subsim.theory.linear import converged, converged_with_heads
from subsim.theory.linearised import Kernel, after_steps, dense_jacobian, limit, project, tangent_kernel
from subsim.theory.problems import N_AUX, N_CLASS, N_PIXELS
from subsim.theory.single_step import Model, descent

FEW = 5
"""Number of steps of a student that are computed one by one."""
FAR = 10.0
"""The teacher's step, if it need not be small."""
MOMENTUM = 0.9
"""Momentum of the heavy ball."""
WIDTH = 8
"""Number of hidden units of the linear network."""
HOPS = 3
"""Number of students in a chain."""


def by_momentum(f: Model, theta_0: Params, inputs: Array, targets: Array, rate: Array) -> Params:
    """Return the displacement of f's linearised student after a few full-batch steps on squared error, one by one."""
    linear, optimiser = linearise(f, theta_0), optax.sgd(rate, MOMENTUM)

    def step(_: Array | int, now: tuple[Params, Any]) -> tuple[Params, Any]:
        def loss(theta: Params) -> Array:
            return jnp.mean((jax.vmap(linear, (None, 0))(theta, inputs) - targets) ** 2)

        updates, state = optimiser.update(jax.grad(loss)(now[0]), now[1])
        return optax.apply_updates(now[0], updates), state

    theta_s, _ = jax.lax.fori_loop(0, FEW, step, (theta_0, optimiser.init(theta_0)))
    return optax.tree.sub(theta_s, theta_0)


def linearised_student(key: Array) -> Mapping[str, Verdict]:
    """A linearised student of a linearised teacher has d . d_T >= 0 after any number of steps, for d_T of any size.

    The steps are stable full-batch steps on squared error. The closed form of the displacement d agrees with steps
    computed one by one.
    """
    network = mlp()
    problem = draw(key, network)
    theta_0 = problem.theta_0
    d_t = optax.tree.scale(FAR, descent(problem.trait_loss, theta_0))

    def imitated(theta: Params, x: Array) -> Array:
        return network.apply(theta, x)[N_CLASS:]

    def outputs(theta: Params) -> Array:
        return jax.vmap(linearise(imitated, theta_0), (None, 0))(theta, problem.inputs)

    targets = outputs(optax.tree.add(theta_0, d_t))
    kernel = tangent_kernel(imitated, theta_0, problem.inputs)
    rate = kernel.eigenvalues.size / (2 * kernel.eigenvalues[-1])  # half of what is stable

    def step(_: Array | int, theta: Params) -> Params:
        return optax.tree.add_scale(theta, rate, descent(lambda now: jnp.mean((outputs(now) - targets) ** 2), theta))

    def after(steps: int) -> Params:
        return after_steps(imitated, theta_0, problem.inputs, targets, learning_rate=rate, steps=steps, kernel=kernel)

    one_by_one = optax.tree.sub(jax.lax.fori_loop(0, FEW, step, theta_0), theta_0)
    off = optax.tree.norm(optax.tree.sub(one_by_one, after(FEW))) / optax.tree.norm(one_by_one)
    ends = limit(imitated, theta_0, problem.inputs, targets, kernel=kernel)
    found = {f"{FEW} steps": after(FEW), "1,000 steps": after(1000), "the limit": ends}
    verdicts = {name: nothing_predicted(optax.tree.vdot(d, d_t) < 0) for name, d in found.items()}
    return verdicts | {f"{FEW} steps one by one": Verdict(~(off < 1e-9), off)}


def nystroem_bound(key: Array) -> Mapping[str, Verdict]:
    """T = K_CA K_AA^+ K_AC lies between 0 and K_CC, and more inputs or logits never lower it.

    A linearised teacher with the displacement J_C' c has a linearised student whose outputs change by T c. A few steps
    of SGD with momentum lie on the predicted curve of every mode.
    """
    network = mlp()
    problem = draw(key, network)
    theta_0, test_inputs = problem.theta_0, jax.random.normal(jax.random.fold_in(key, 7), (2, N_PIXELS))

    def of(logits: slice, inputs: Array) -> Kernel:
        return tangent_kernel(lambda theta, x: network.apply(theta, x)[logits], theta_0, inputs)

    jacobian_c = dense_jacobian(lambda theta, x: network.apply(theta, x)[:N_CLASS], theta_0, test_inputs)
    whole, aux = jacobian_c @ jacobian_c.T, slice(N_CLASS, None)
    kernel = of(aux, problem.inputs)
    t = nystroem(jacobian_c, kernel)
    fewer_inputs = nystroem(jacobian_c, of(aux, problem.inputs[: len(problem.inputs) // 2]))
    fewer_logits = nystroem(jacobian_c, of(slice(N_CLASS, N_CLASS + 1), problem.inputs))
    rounding = 1e-9 * jnp.trace(whole)
    differences = {
        "0 <= T": t, "T <= K_CC": whole - t, "more inputs": t - fewer_inputs, "more logits": t - fewer_logits,
    }  # fmt: skip
    verdicts = {name: nothing_predicted(~(eigh(matrix)[0][0] > -rounding)) for name, matrix in differences.items()}

    c = jax.random.normal(jax.random.fold_in(key, 8), (len(jacobian_c),))
    r = kernel.jacobian @ (jacobian_c.T @ c)
    targets = jax.vmap(lambda x: network.apply(theta_0, x)[aux])(problem.inputs) + r.reshape(len(problem.inputs), -1)
    ends = limit(lambda theta, x: network.apply(theta, x)[aux], theta_0, problem.inputs, targets, kernel=kernel)
    changed = jacobian_c @ ravel_pytree(ends)[0]
    # Relative to the teacher's change, because the student of a dead network does not change.
    off = jnp.linalg.norm(changed - t @ c) / jnp.linalg.norm(whole @ c)
    verdicts["T c is where it ends"] = Verdict(~(off < 1e-6), off)

    rate = stable_step(kernel.eigenvalues, momentum=MOMENTUM) / 2
    progress = momentum_progress(kernel.eigenvalues, rate, FEW, momentum=MOMENTUM)[-1]
    curve = displaced(kernel, theta_0, progress, r)
    one_by_one = by_momentum(lambda theta, x: network.apply(theta, x)[aux], theta_0, problem.inputs, targets, rate)
    off = optax.tree.norm(optax.tree.sub(one_by_one, curve)) / jnp.linalg.norm(jacobian_c.T @ c)
    return verdicts | {f"momentum, {FEW} steps one by one": Verdict(~(off < 1e-9), off)}


def linear_network(key: Array) -> Mapping[str, Verdict]:
    """In f = [B_C; B_A] W x with fixed heads, a converged student's weights change by P_A dW_T P_X.

    With trained heads, a linearised student ends at its closed form.
    """
    keys = jax.random.split(key, 4)
    shapes = (N_AUX, WIDTH), (2 * N_AUX, N_PIXELS), (WIDTH, N_PIXELS), (WIDTH, N_PIXELS)
    b_a, x, teacher, w_0 = (jax.random.normal(each, shape) for each, shape in zip(keys, shapes, strict=True))
    ends = limit(lambda w, one: b_a @ (w @ one), jnp.zeros_like(teacher), x, x @ teacher.T @ b_a.T)
    off = jnp.linalg.norm(converged(b_a, x, teacher) - ends) / jnp.linalg.norm(ends)
    overlap = jnp.sum(ends * teacher)
    targets = x @ (w_0 + teacher).T @ b_a.T
    _, both = limit(lambda moves, one: moves[0] @ (moves[1] @ one), (b_a, w_0), x, targets)
    of_both = jnp.linalg.norm(converged_with_heads(b_a, w_0, x, teacher) - both) / jnp.linalg.norm(both)
    return {
        "the closed form": Verdict(~(off < 1e-6), off),
        "with trained heads": Verdict(~(of_both < 1e-6), of_both),
        "d_S . d_T >= 0": nothing_predicted(overlap < 0),
    }


def chains(key: Array) -> Mapping[str, Verdict]:
    """In a chain of converged linearised students on the same inputs, nothing is lost after the first hop.

    After a few steps, k hops keep the share p^k of a mode, where p is the share that one hop learns. A converged hop on
    fresh inputs never lengthens the displacement.
    """
    network = mlp()
    problem = draw(key, network)
    theta_0, first, second = problem.theta_0, *jnp.split(problem.inputs, 2)
    d_t = optax.tree.scale(FAR, descent(problem.trait_loss, theta_0))
    size = optax.tree.norm(d_t)

    def imitated(theta: Params, x: Array) -> Array:
        return network.apply(theta, x)[N_CLASS:]

    def hop(inputs: Array, d: Params) -> Params:
        return project(imitated, theta_0, inputs, d)

    once = hop(first, d_t)
    off = optax.tree.norm(optax.tree.sub(hop(first, once), once)) / size
    longer = optax.tree.norm(hop(second, once)) > optax.tree.norm(once) + 1e-9 * size
    verdicts = {
        "converged, the same inputs": Verdict(~(off < 1e-6), off),
        "converged, fresh inputs": nothing_predicted(longer),
    }

    kernel = tangent_kernel(imitated, theta_0, first)
    rate = stable_step(kernel.eigenvalues, momentum=MOMENTUM) / 2
    progress = momentum_progress(kernel.eigenvalues, rate, FEW, momentum=MOMENTUM)[-1]
    predicted = on_same_inputs(kernel, theta_0, progress, HOPS, kernel.jacobian @ ravel_pytree(d_t)[0])
    outputs, d = linearise(imitated, theta_0), d_t
    for _ in range(HOPS):
        targets = jax.vmap(outputs, (None, 0))(optax.tree.add(theta_0, d), first)
        d = by_momentum(imitated, theta_0, first, targets, rate)
    off = optax.tree.norm(optax.tree.sub(d, predicted)) / size
    return verdicts | {f"{FEW} steps a hop, {HOPS} hops one by one": Verdict(~(off < 1e-9), off)}


def standard() -> list[Claim]:
    """Return the claims of this module."""
    return list(map(claim, (linearised_student, nystroem_bound, linear_network, chains)))
