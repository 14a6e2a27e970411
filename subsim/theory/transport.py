"""The effect of any small change in a student's training on its final trait, from one backward pass.

Let s_t be the parameters and the optimiser state at step t, and w the weights of the examples in their batches' means.
Training step t is a map s_{t+1} = F_t(s_t, w). A change ds at step c and a change dw of the weights change a function
L of the last state by

    dL = lambda_c' ds + sum_t (dL/dw at step t)' dw + O(|ds|^2 + |dw|^2),   lambda_t = F'_t' lambda_{t+1},

where lambda is the gradient of L pulled back through the steps. This is the chain rule, and it holds for every
optimiser. One pass gives the effects of all changes at once: of a transplanted optimiser state, a dropped batch, or
each removed example. The effect of an example is its attribution (the gradient in the weights, as in "unrolled" data
attribution; compare Koh and Liang's influence functions, arXiv 1703.04730, which need a minimum, and Bae et al.,
arXiv 2405.12186).

Adam divides by the root of a mean square. If a parameter has no gradient, this root is zero, and the chain rule gives
0 / 0; therefore give `optax.adam` an `eps_root` above zero. ReLU networks are differentiable almost everywhere: the
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
    """The gradient of the final trait in the initial parameters, the first optimiser state and the examples' weights.

    `weights` has shape (n,). Integers in the optimiser state have gradients of an empty type.
    """

    params: Params
    state: Any
    weights: Float[Array, " n"]

    def effect(self, change: "Transport") -> Float[Array, ""]:
        """Return the first-order effect on the final trait of a small change of all three."""
        pairs = zip(jax.tree.leaves(self), jax.tree.leaves(change), strict=True)
        return jnp.stack([jnp.vdot(slope, by) for slope, by in pairs if slope.dtype != jax.dtypes.float0]).sum()


def transport(training: Training, steps: int, trait: Trait) -> Transport:
    """Return the gradient of `trait(params)` after `steps` steps in the initial parameters, state and weights.

    The training's examples must repeat in every epoch (`endless` is false); their weights are 1 unless it sets others.
    Memory: the parameters and the state of every step.
    """

    def ends(params: Params, state: Any, weights: Array) -> Array:
        begun = training._replace(params=params, state=state, weights=weights)
        return trait(train(begun, steps, checkpointed=True).params)

    ones = jnp.ones(training.n_examples, jnp.result_type(float))
    weights = ones if training.weights is None else training.weights
    gradient = jax.grad(ends, (0, 1, 2), allow_int=True)
    return Transport(*gradient(training.params, training.first_state(), weights))
