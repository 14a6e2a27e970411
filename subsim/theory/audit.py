"""Will this data carry that trait into my model? The first step's answer, before any training.

A model with parameters theta_0 is to imitate targets y_i on inputs x_i. Its first gradient step is alpha d_S with
d_S = -grad_theta mean_i L_S(f_theta(x_i), y_i). For any trait with a differentiable loss L_T,

    L_T(theta_0 + alpha d_S) - L_T(theta_0) = alpha mean_i p_i + O(alpha^2),
    p_i = -dL_S/dz(z_i, y_i) . J(x_i) grad L_T,

with z_i = f_theta_0(x_i). One gradient of L_T and one jvp give every p_i. Inputs that are drawn independently make
their mean normal, so that its standard error tells what is certain of it.

If the targets are the outputs of theta_0 + eps d_T with d_T = -grad L_T(theta_0), the mean is -eps A + O(eps^2), and
A >= 0 (Theorem 1): where eps is small enough, such data carry the trait or do nothing to it. For other data nothing is
promised, and the audit measures.

It says what the first step does. Many steps, and steps of an optimiser such as Adam, can do otherwise.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from subsim.networks.network import Params
from subsim.networks.parameters import ratio
from subsim.theory.single_step import Model, TraitLoss

Verdict = Literal["carries the trait", "works against the trait", "not seen"]
CERTAIN = 1.96
"""Standard errors from 0 at which an audit is certain: those of a two-sided test at 5%."""


class Audit(NamedTuple):
    """What a first step of imitation does to a trait. All fields are scalars.

    `change` is the predicted change of L_T for a learning rate of 1, and `error` its standard error over the inputs,
    to which the rounding of floats is added.
    """

    change: Float[Array, ""]
    error: Float[Array, ""]

    @property
    def score(self) -> Float[Array, ""]:
        """The predicted fall of L_T in standard errors; 0 where nothing is predicted."""
        return ratio(-self.change, self.error)

    @property
    def verdict(self) -> Verdict:
        """Whether the data carry the trait, in words: L_T falls, rises, or neither is certain."""
        score = float(self.score)
        return "not seen" if abs(score) < CERTAIN else "carries the trait" if score > 0 else "works against the trait"


def audit(
    f: Model,
    theta_0: Params,
    trait_loss: TraitLoss,
    loss: Callable[[Float[Array, " logits"], Array], Float[Array, ""]],
    inputs: Num[Array, "n ..."],
    targets: Num[Array, "n ..."],
) -> Audit:
    """Predict what a model's first step of imitation does to a trait.

    Args:
        f: the model; `f(theta, x)` returns the logits of one example.
        theta_0: the parameters of the model that will be trained, any pytree.
        trait_loss: L_T, the trait's loss as a function of the parameters; low where the model has the trait.
        loss: L_S(z, y) of one example from the model's logits and the target.
        inputs: the inputs of the data, along the first axis; at least two.
        targets: the targets of the data, such as a teacher's logits or labels, one for each input.
    """
    towards = jax.grad(trait_loss)(theta_0)

    def of_example(x: Array, y: Array) -> tuple[Float[Array, ""], Float[Array, ""]]:
        z, moved = jax.jvp(lambda theta: f(theta, x), (theta_0,), (towards,))
        rounding = jnp.finfo(z.dtype).eps * jnp.linalg.norm(moved) * (1 + jnp.linalg.norm(z))
        return -jnp.vdot(jax.grad(loss)(z, y), moved), rounding

    changes, roundings = jax.vmap(of_example)(inputs, targets)
    # A model that imitates itself has nothing but rounding, of which a standard error would make a score.
    error = jnp.std(changes, ddof=1) / len(changes) ** 0.5 + jnp.mean(roundings)
    return Audit(jnp.mean(changes), error)
