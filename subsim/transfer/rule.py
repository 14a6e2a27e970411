"""How a network is trained: the options of the run, those of its role, and what is the user's own."""

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
    """Return `optimiser` for which the arrays that `frozen`, a pytree of truths, marks have no gradient and stay."""

    def still(tree: Params) -> Params:
        return jax.tree.map(lambda stays, leaf: jnp.zeros_like(leaf) if stays else leaf, frozen, tree)

    def update(gradient: Params, state: Any, params: Params | None = None) -> tuple[Params, Any]:
        updates, state = optimiser.update(still(gradient), state, params)
        return still(updates), state

    return optax.GradientTransformation(optimiser.init, update)


class Rule(NamedTuple):
    """How a network is trained: the options and the numbers of a training; the loss, targets and optimiser that are the
    user's `own`; and the groups of parameters that are `frozen`."""

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
        """Return the optimiser that the options name, or the user's own, with `around` about it; the frozen groups stay
        still whatever that does."""
        optimiser = around(self.own.get("optimiser") or make_optimiser(self.config, self.hyper))
        if not self.frozen:
            return optimiser
        everything = self.frozen == ("all",)
        still = jax.tree.map(lambda _: True, start) if everything else in_groups(network, start, self.frozen)
        return frozen_in(optimiser, still)


def rule_of(role: Role, config: Any, hyper: Any) -> Rule:
    """Return the rule of a role: its own options in place of those of the run."""
    return Rule(*with_own(config, hyper, role.options), role.own, role.frozen)
