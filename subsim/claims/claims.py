"""Claims: statements that one seed can contradict; and the claim of Lemma 1 for any loss."""

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
"""The teacher's step in claims about all small enough eps: rounding leaves ten digits of d_S in float64."""
BATCH = 8
"""Samples in L_T and in L_S; claims are about signs, and few samples do not make these safer."""


class Verdict(NamedTuple):
    """The verdict of one seed on a claim: whether the seed violates it, and the relative error of its prediction.

    `error` is NaN if the claim predicts no number.
    """

    violated: Bool[Array, ""]
    error: Float[Array, ""]


Test = Callable[[Key[Array, ""]], Mapping[str, Verdict]]  # the verdict of one seed in every setting


@dataclass(frozen=True)
class Claim:
    """A statement and its test, in one or more settings.

    A `promised` claim must hold in every seed. A claim that is not promised is an edge of the theory: some seeds should
    violate it, for the `reasons` given by setting.
    """

    name: str
    statement: str
    test: Test
    promised: bool = True
    reasons: Mapping[str, str] | None = None


def claim(test: Test) -> Claim:
    """Return the promised claim with the name and the docstring of `test` as its name and statement."""
    return Claim(test.__name__, inspect.getdoc(test) or "", test)


def nothing_predicted(violated: Array) -> Verdict:
    """Return the verdict of a claim that predicts no number."""
    return Verdict(violated, jnp.asarray(jnp.nan))


def sign(step: Imitation) -> Verdict:
    """Return the verdict on Lemma 1: d_S . d_T must not be negative, and eps A predicts it."""
    off = jnp.abs(step.remainder) / jnp.abs(step.predicted)
    return Verdict(step.inner_product < 0, jnp.where(step.predicted == 0, jnp.nan, off))


def each(test: Callable[..., Verdict], settings: Mapping[str, Any]) -> dict[str, Verdict]:
    """Return the verdict of `test` in each of `settings`, pytrees of equal shapes, by one compiled program."""
    verdicts = jax.vmap(test)(jax.tree.map(lambda *leaves: jnp.stack(leaves), *settings.values()))
    return {name: jax.tree.map(operator.itemgetter(number), verdicts) for number, name in enumerate(settings)}


def mlp(
    widths: tuple[int, ...] = (8, 8), n_aux: int = N_AUX, activation: Callable[[Array], Array] = jax.nn.relu
) -> Network:
    """Make the small MLP of the claims, by default 16-8-8-(4+3) with ReLU."""
    return make_mlp(MLPConfig(widths, n_aux), N_PIXELS, N_CLASS, activation)


def draw(key: Array, network: Network) -> Problem:
    """Draw the claims' problem of one seed."""
    return draw_problem(key, network, N_PIXELS, N_CLASS, BATCH)


def lemma(
    network: Network, problem: Problem, loss: OutputLoss, d_t: Params | None = None, inputs: Array | None = None
) -> Verdict:
    """Test Lemma 1 in one seed from a shared start; by default with d_T = -grad L_T and the problem's inputs."""
    d_t = descent(problem.trait_loss, problem.theta_0) if d_t is None else d_t
    inputs = problem.inputs if inputs is None else inputs
    return sign(imitate(network.apply, problem.theta_0, d_t, loss, inputs, eps=EPS))


def on(mask: Array, value: Callable[[Array, Array, Array], Array]) -> OutputLoss:
    """Return the loss `value` on the logits in `mask`."""
    return lambda z, y: value(z, y, mask)


def logits_imitated() -> tuple[Array, Array]:
    """Return the masks of the auxiliary logits, and of all logits."""
    return imitated_logits(N_CLASS, N_AUX)


def lemma_of(name: str, loss: OutputLoss, promised: bool = True) -> Claim:
    """Return the claim of Lemma 1 for any `loss(z, y)` of one example, student's logits first.

    The initialisation is shared, d_T = -grad L_T, and inputs are uniform noise. `promised` says whether it must hold.
    """

    def test(key: Array) -> Mapping[str, Verdict]:
        return {name: lemma(mlp(), draw(key, mlp()), loss)}

    return Claim(name, f"Lemma 1: d_S . d_T >= 0 for the loss {name}.", test, promised)
