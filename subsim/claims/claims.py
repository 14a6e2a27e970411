"""Claims: statements that one seed can contradict. What a claim is, and Lemma 1's for any loss."""

import inspect
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from subsim.networks.mlp import MLPConfig, make_mlp
from subsim.networks.network import Network, Params
from subsim.theory.problems import N_AUX, N_CLASS, N_PIXELS, Problem, draw_problem
from subsim.theory.single_step import Imitation, OutputLoss, descent, imitate
from subsim.training.losses import imitated_logits

EPS = 1e-6
"""The teacher's step where a claim speaks of all small enough ones: rounding leaves ten digits of d_S in float64."""
BATCH = 8
"""Samples in L_T and in L_S: few, for claims are about signs, which few samples do not make safer."""


class Verdict(NamedTuple):
    """What one seed says of a claim: whether it contradicts it, and how far a predicted number is off.

    `error` is relative; NaN where the claim predicts no number.
    """

    violated: Bool[Array, ""]
    error: Float[Array, ""]


Test = Callable[[Key[Array, ""]], Mapping[str, Verdict]]  # the verdict of one seed in every setting


@dataclass(frozen=True)
class Claim:
    """A statement and its test, in one or more settings.

    A claim that is `promised` must hold in every seed. One that is not is an edge of the theory: it is expected to be
    violated in some seeds, for the `reasons` given by setting.
    """

    name: str
    statement: str
    test: Test
    promised: bool = True
    reasons: Mapping[str, str] | None = None


def claim(test: Test) -> Claim:
    """The promised claim that the docstring of `test` states, under its name."""
    return Claim(test.__name__, inspect.getdoc(test) or "", test)


def nothing_predicted(violated: Array) -> Verdict:
    """The verdict of a claim that is about a sign alone."""
    return Verdict(violated, jnp.asarray(jnp.nan))


def sign(step: Imitation) -> Verdict:
    """Lemma 1's: d_S . d_T must not be negative, and eps A predicts it."""
    off = jnp.abs(step.remainder) / jnp.abs(step.predicted)
    return Verdict(step.inner_product < 0, jnp.where(step.predicted == 0, jnp.nan, off))


def each(test: Callable[..., Verdict], settings: Mapping[str, Any]) -> dict[str, Verdict]:
    """The verdict of `test` in each of `settings`, pytrees of equal shapes: traced and compiled once for all."""
    verdicts = jax.vmap(test)(jax.tree.map(lambda *leaves: jnp.stack(leaves), *settings.values()))
    return {name: jax.tree.map(operator.itemgetter(number), verdicts) for number, name in enumerate(settings)}


def mlp(
    widths: tuple[int, ...] = (8, 8), n_aux: int = N_AUX, activation: Callable[[Array], Array] = jax.nn.relu
) -> Network:
    """The small MLP of the claims, 16-8-8-(4+3) with ReLU unless told otherwise."""
    return make_mlp(MLPConfig(widths, n_aux), N_PIXELS, N_CLASS, activation)


def draw(key: Array, network: Network) -> Problem:
    """The claims' problem of one seed."""
    return draw_problem(key, network, N_PIXELS, N_CLASS, BATCH)


def lemma(
    network: Network, problem: Problem, loss: OutputLoss, d_t: Params | None = None, inputs: Array | None = None
) -> Verdict:
    """Lemma 1 for one seed: a shared start, and d_T = -grad L_T and the problem's inputs unless told otherwise."""
    d_t = descent(problem.trait_loss, problem.theta_0) if d_t is None else d_t
    inputs = problem.inputs if inputs is None else inputs
    return sign(imitate(network.apply, problem.theta_0, d_t, loss, inputs, eps=EPS))


def on(mask: Array, value: Callable[[Array, Array, Array], Array]) -> OutputLoss:
    """A loss of the logits in `mask`."""
    return lambda z, y: value(z, y, mask)


def logits_imitated() -> tuple[Array, Array]:
    """Masks of the auxiliary logits alone, and of all logits."""
    return imitated_logits(N_CLASS, N_AUX)


def lemma_of(name: str, loss: OutputLoss, promised: bool = True) -> Claim:
    """Lemma 1's claim for a loss of your own, `loss(z, y)` of one example, student's logits first.

    A shared initialisation, d_T = -grad L_T and uniform noise; `promised`: whether it must hold.
    """

    def test(key: Array) -> Mapping[str, Verdict]:
        return {name: lemma(mlp(), draw(key, mlp()), loss)}

    return Claim(name, f"Lemma 1: d_S . d_T >= 0 for the loss {name}.", test, promised)
