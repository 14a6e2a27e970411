"""The one training loop; a teacher and a student are two uses of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from subsim.network import Params
from subsim.options import hyper, require, require_choice, require_range

OptimiserName = Literal["sgd", "momentum", "adam", "adam_l2", "adamw"]


@dataclass(frozen=True)
class TrainingConfig:
    """How long and by which rule a network is trained."""

    epochs: int = 5
    """Passes over the inputs, each in a fresh order."""
    steps: int | None = None
    """Optimiser steps, in place of the epochs; None: as many as the epochs make (the paper: 5 epochs of 59 steps)."""
    batch: int = 1024
    """Examples in a step; the last step of an epoch takes what is left."""
    optimiser: OptimiserName = "adam"
    """momentum: heavy ball. adam_l2: Adam with coupled weight decay, torch's Adam(weight_decay). \
adamw: Adam with decoupled weight decay."""


@hyper
class TrainingHyper:
    """The numbers of the training rule."""

    learning_rate: float = 3e-4
    """Step size."""
    momentum: float = 0.9
    """Decay of the velocity (momentum only)."""
    weight_decay: float = 0.0
    """adamw, decoupled: the fraction of a weight that decays for each unit of learning rate. sgd, momentum, adam_l2, \
coupled: this times the weight is added to its gradient. adam has none."""


def _coupled(rule: optax.GradientTransformation, numbers: TrainingHyper) -> optax.GradientTransformation:
    """`rule` on the gradient of the loss + weight_decay / 2 |theta|^2."""
    return optax.chain(optax.add_decayed_weights(numbers.weight_decay), rule)


_OPTIMISERS: dict[str, Callable[[TrainingHyper], optax.GradientTransformation]] = {
    "sgd": lambda numbers: _coupled(optax.sgd(numbers.learning_rate), numbers),
    "momentum": lambda numbers: _coupled(optax.sgd(numbers.learning_rate, numbers.momentum), numbers),
    "adam": lambda numbers: optax.adam(numbers.learning_rate),
    # Adam normalises what is added, too: a weight without a gradient shrinks by a whole learning rate a step.
    "adam_l2": lambda numbers: _coupled(optax.adam(numbers.learning_rate), numbers),
    "adamw": lambda numbers: optax.adamw(numbers.learning_rate, weight_decay=numbers.weight_decay),
}


def check_training(name: str, config: TrainingConfig, numbers: TrainingHyper) -> None:
    """Raise `UserError` where an option of the training called `name` is out of range or would silently do nothing."""
    require_range(config, "epochs", "steps", "batch", least=1, whole=True, of=name)
    require_choice(f"{name}.optimiser", config.optimiser, _OPTIMISERS)
    require_range(numbers, "learning_rate", above=0, of=name)
    require_range(numbers, "momentum", least=0, below=1, of=name)
    require_range(numbers, "weight_decay", least=0, of=name)
    momentum, decay = numbers.momentum, numbers.weight_decay
    require(
        decay == 0 or config.optimiser != "adam",
        f"{name}.weight_decay is {decay}, but {name}.optimiser is adam, which decays no weights: choose adamw "
        "(decoupled) or adam_l2 (coupled).",
    )
    require(
        momentum == TrainingHyper.momentum or config.optimiser == "momentum",
        f"{name}.momentum is {momentum}, but {name}.optimiser is {config.optimiser}: only momentum uses it.",
    )


def make_optimiser(config: TrainingConfig, numbers: TrainingHyper) -> optax.GradientTransformation:
    """The optimiser that `config` names, with numbers that may be traced."""
    return _OPTIMISERS[config.optimiser](numbers)


def steps_of(config: TrainingConfig, n_examples: int) -> int:
    """Optimiser steps that `config` asks for on `n_examples` examples."""
    return config.epochs * -(-n_examples // config.batch) if config.steps is None else config.steps


class Watch(NamedTuple):
    """What to keep of a network along its training: `see(params)`, any pytree, after every `every` steps."""

    every: int
    see: Callable[[Params], Any]


class Trained(NamedTuple):
    """Parameters after the last step, the mean loss of each step's batch, shape (steps,), before that step, the
    optimiser's last state, and what a watch saw, with a leading axis of steps // every moments."""

    params: Params
    losses: Float[Array, " steps"]
    state: Any
    seen: Any = None


def train(
    key: Key[Array, ""],
    params: Params,
    losses: Callable[[Params, Any], Float[Array, " batch"]],
    examples: Callable[[Int[Array, " batch"]], Any],
    n_examples: int,
    optimiser: optax.GradientTransformation,
    *,
    batch: int,
    steps: int,
    endless: bool = False,
    kept: Bool[Array, " n"] | None = None,
    watch: Watch | None = None,
) -> Trained:
    """Minimise the mean loss over `n_examples` examples.

    `examples(index)` gives the examples at `index`, shape (batch,), in whatever form `losses(params, examples)` takes
    them; that gives the loss of each, shape (batch,). Each epoch takes the examples in an order of its own, drawn from
    `key` and the epoch's number; its last step averages over what is left. `endless`: no epoch sees an example again;
    `index` goes on counting, and epoch e takes those from e * n_examples on.

    `kept`, which may be traced, picks the examples that count, None all of them: the others keep their place in the
    order, and a step averages over those of its batch that are kept. One that keeps none has the loss 0, and no
    gradient. It goes with examples that come again, not with `endless` ones.
    """
    steps_per_epoch = -(-n_examples // batch)
    unused = steps_per_epoch * batch - n_examples

    def shuffle(epoch: Array) -> Array:
        order = jax.random.permutation(jax.random.fold_in(key, epoch), n_examples)
        return jnp.pad(order + epoch * n_examples if endless else order, (0, unused))

    def step(carry: Any, number: Array) -> tuple[Any, Array]:
        params, state, order = carry
        epoch, place = number // steps_per_epoch, number % steps_per_epoch
        order = jax.lax.cond(place == 0, lambda: shuffle(epoch), lambda: order)
        index = jax.lax.dynamic_slice(order, (place * batch,), (batch,))
        counts = place * batch + jnp.arange(batch) < n_examples
        counts = counts if kept is None else counts & kept[index]
        chosen = examples(index)

        def mean_loss(params: Params) -> Array:
            each = losses(params, chosen)
            return jnp.sum(each, where=counts) / jnp.maximum(jnp.sum(counts, dtype=each.dtype), 1)

        loss, gradient = jax.value_and_grad(mean_loss)(params)
        updates, state = optimiser.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state, order), loss

    unshuffled = jnp.zeros(n_examples + unused, jnp.result_type(int))
    carry, numbers = (params, optimiser.init(params), unshuffled), jnp.arange(steps)
    if watch is None:
        (params, state, _), history = jax.lax.scan(step, carry, numbers)
        return Trained(params, history, state)

    def stretch(carry: Any, numbers: Array) -> tuple[Any, tuple[Array, Any]]:
        carry, history = jax.lax.scan(step, carry, numbers)
        return carry, (history, watch.see(carry[0]))

    watched = steps // watch.every * watch.every
    carry, (history, seen) = jax.lax.scan(stretch, carry, numbers[:watched].reshape(-1, watch.every))
    (params, state, _), rest = jax.lax.scan(step, carry, numbers[watched:])
    return Trained(params, jnp.concatenate([history.ravel(), rest]), state, seen)
