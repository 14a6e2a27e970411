"""The effect of any small change in a student's training on its trait at the end, by one pass backwards.

A training is a map F_t from parameters and optimiser state to the next ones, s_{t+1} = F_t(s_t, w), w the weights of
the examples in their batches' means. A change ds at step c, and dw of the weights, moves a function L of the last state
by

    dL = lambda_c' ds + sum_t (dL/dw at step t)' dw + O(|ds|^2 + |dw|^2),   lambda_t = F'_t' lambda_{t+1},

lambda being the gradient of L pulled back through the steps: the chain rule, whatever the optimiser. One pass gives the
effect of every change at once: of a transplanted optimiser state, a dropped batch, each removed example. That of an
example is its attribution (the weights' gradient of "unrolled" data attribution; compare Koh and Liang's influence
functions, arXiv 1703.04730, which need a minimum, and Bae et al., arXiv 2405.12186).

Adam divides by the root of a mean square that is zero where a parameter has no gradient, and there the chain rule has
0 / 0: give `optax.adam` an `eps_root` above zero. ReLU networks are differentiable almost everywhere, so that the
statement holds for changes that flip no unit.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from subsim.networks.network import Params
from subsim.training.loop import Training, train

Trait = Callable[[Params], Float[Array, ""]]


class Transport(NamedTuple):
    """The gradient of a trait at the end of a training: in the initial parameters, in the optimiser state before the
    first step (where that holds integers, an empty type), and in each example's weight, shape (n,)."""

    params: Params
    state: Any
    weights: Float[Array, " n"]

    def effect(self, change: "Transport") -> Float[Array, ""]:
        """Return what a small change of all three does to the trait at the end, to first order."""
        pairs = zip(jax.tree.leaves(self), jax.tree.leaves(change), strict=True)
        return jnp.stack([jnp.vdot(slope, by) for slope, by in pairs if slope.dtype != jax.dtypes.float0]).sum()


def transport(training: Training, steps: int, trait: Trait) -> Transport:
    """Return the gradient of `trait(params)` after the `steps` of `training` in all that it began with.

    The training's examples come again (`endless` is false), each with the weight 1 unless it has others. Memory: the
    parameters and the state of every step.
    """

    def ends(params: Params, state: Any, weights: Array) -> Array:
        begun = training._replace(params=params, state=state, weights=weights)
        return trait(train(begun, steps, checkpointed=True).params)

    ones = jnp.ones(training.n_examples, jnp.result_type(float))
    weights = ones if training.weights is None else training.weights
    gradient = jax.grad(ends, (0, 1, 2), allow_int=True)
    return Transport(*gradient(training.params, training.first_state(), weights))
