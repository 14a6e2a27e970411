"""The training rule of a network: the run's options, the role's options, and the user's functions."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from subsim.networks.network import Network, Params, in_groups
from subsim.training.optimisers import make_optimiser
from subsim.transfer.options import with_own
from subsim.transfer.roles import Role


def frozen_in(optimiser: optax.GradientTransformation, frozen: Params) -> optax.GradientTransformation:
    """Return `optimiser` without gradients and updates for the arrays marked in `frozen`, a pytree of booleans."""

    def still(tree: Params) -> Params:
        return jax.tree.map(lambda stays, leaf: jnp.zeros_like(leaf) if stays else leaf, frozen, tree)

    def update(gradient: Params, state: Any, params: Params | None = None) -> tuple[Params, Any]:
        updates, state = optimiser.update(still(gradient), state, params)
        return still(updates), state

    return optax.GradientTransformation(optimiser.init, update)


class Rule(NamedTuple):
    """The rule of a training: its options `config`, its traced hyperparameters `hyper`, and its `frozen` groups.

    `own` has the user's functions for the loss, targets, inputs and optimiser.
    """

    config: Any
    hyper: Any
    own: Mapping[str, Any] = {}
    frozen: tuple[str, ...] = ()

    def optimiser(
        self,
        network: Network,
        start: Params,
        around: Callable[[optax.GradientTransformation], optax.GradientTransformation] = lambda optimiser: optimiser,
    ) -> optax.GradientTransformation:
        """Return the optimiser of the options, or the user's optimiser, wrapped in `around`.

        The frozen groups do not move, whatever the optimiser does.
        """
        optimiser = around(self.own.get("optimiser") or make_optimiser(self.config, self.hyper))
        if not self.frozen:
            return optimiser
        everything = self.frozen == ("all",)
        still = jax.tree.map(lambda _: True, start) if everything else in_groups(network, start, self.frozen)
        return frozen_in(optimiser, still)


def rule_of(role: Role, config: Any, hyper: Any) -> Rule:
    """Return the rule of a role: the role's options replace the run's options."""
    return Rule(*with_own(config, hyper, role.options), role.own, role.frozen)
