"""The optimisers, by name, and the options and numbers of a training."""

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


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainingHyper:
    """The numbers of the training rule."""

    learning_rate: float | Array = 3e-4
    """Step size."""
    momentum: float | Array = 0.9
    """Decay of the velocity (momentum only)."""
    weight_decay: float | Array = 0.0
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


def check_training_ranges(name: str, config: TrainingConfig, numbers: TrainingHyper) -> None:
    """Raise `UserError` where an option of the training called `name` is out of range."""
    require_range(config, "epochs", "steps", "batch", least=1, whole=True, of=name)
    require_choice(f"{name}.optimiser", config.optimiser, _OPTIMISERS)
    require_range(numbers, "learning_rate", above=0, of=name)
    require_range(numbers, "momentum", least=0, below=1, of=name)
    require_range(numbers, "weight_decay", least=0, of=name)


def check_training(name: str, config: TrainingConfig, numbers: TrainingHyper) -> None:
    """Raise `UserError` where an option of the training called `name` is out of range or would silently do nothing."""
    check_training_ranges(name, config, numbers)
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
