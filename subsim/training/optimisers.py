"""The named optimisers, and the options and hyperparameters of a training."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax
import optax
from jaxtyping import Array

from subsim.options import require, require_choice, require_range

OptimiserName = Literal["sgd", "momentum", "adam", "adam_l2", "adamw"]


@dataclass(frozen=True)
class TrainingConfig:
    """The length of a training and its optimiser."""

    epochs: int = 5
    """Passes over the inputs, each in a new random order."""
    steps: int | None = None
    """Optimiser steps, in place of the epochs; None: the steps of the epochs (the paper: 5 epochs of 59 steps)."""
    batch: int = 1024
    """Examples in a step; the last step of an epoch takes the remainder."""
    optimiser: OptimiserName = "adam"
    """momentum: heavy ball. adam_l2: Adam with coupled weight decay, torch's Adam(weight_decay). \
adamw: Adam with decoupled weight decay."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainingHyper:
    """The hyperparameters of the optimiser."""

    learning_rate: float | Array = 3e-4
    """Step size."""
    momentum: float | Array = 0.9
    """Decay of the velocity (momentum only)."""
    weight_decay: float | Array = 0.0
    """adamw (decoupled): each step shrinks a weight by learning_rate * weight_decay of itself. sgd, momentum, adam_l2 \
(coupled): weight_decay * weight is added to the gradient. adam: no decay."""


def _coupled(rule: optax.GradientTransformation, hyper: TrainingHyper) -> optax.GradientTransformation:
    """Return `rule` applied to the gradient of the loss + weight_decay / 2 |theta|^2."""
    return optax.chain(optax.add_decayed_weights(hyper.weight_decay), rule)


_OPTIMISERS: dict[str, Callable[[TrainingHyper], optax.GradientTransformation]] = {
    "sgd": lambda hyper: _coupled(optax.sgd(hyper.learning_rate), hyper),
    "momentum": lambda hyper: _coupled(optax.sgd(hyper.learning_rate, hyper.momentum), hyper),
    "adam": lambda hyper: optax.adam(hyper.learning_rate),
    # Adam normalises the decay as well: a weight with no other gradient shrinks by a full learning rate a step.
    "adam_l2": lambda hyper: _coupled(optax.adam(hyper.learning_rate), hyper),
    "adamw": lambda hyper: optax.adamw(hyper.learning_rate, weight_decay=hyper.weight_decay),
}


def check_training_ranges(name: str, config: TrainingConfig, hyper: TrainingHyper) -> None:
    """Raise `UserError` if an option of the training called `name` is out of range."""
    require_range(config, "epochs", "steps", "batch", least=1, whole=True, of=name)
    require_choice(f"{name}.optimiser", config.optimiser, _OPTIMISERS)
    require_range(hyper, "learning_rate", above=0, of=name)
    require_range(hyper, "momentum", least=0, below=1, of=name)
    require_range(hyper, "weight_decay", least=0, of=name)


def check_training(name: str, config: TrainingConfig, hyper: TrainingHyper) -> None:
    """Raise `UserError` if an option of the training called `name` is out of range or would have no effect."""
    check_training_ranges(name, config, hyper)
    momentum, decay = hyper.momentum, hyper.weight_decay
    require(
        decay == 0 or config.optimiser != "adam",
        f"{name}.weight_decay is {decay}, but {name}.optimiser is adam, which decays no weights: choose adamw "
        "(decoupled) or adam_l2 (coupled).",
    )
    require(
        momentum == TrainingHyper.momentum or config.optimiser == "momentum",
        f"{name}.momentum is {momentum}, but {name}.optimiser is {config.optimiser}: only momentum uses it.",
    )


def make_optimiser(config: TrainingConfig, hyper: TrainingHyper) -> optax.GradientTransformation:
    """Return the optimiser that `config` names; the hyperparameters may be traced."""
    return _OPTIMISERS[config.optimiser](hyper)


def steps_of(config: TrainingConfig, n_examples: int) -> int:
    """Return the number of optimiser steps of `config` on `n_examples` examples."""
    return config.epochs * -(-n_examples // config.batch) if config.steps is None else config.steps
