"""One teacher for studies with their own students: its options, its traced hyperparameters, its training."""

from dataclasses import dataclass

import jax
from jaxtyping import Array, Key

from subsim.data import datasets
from subsim.networks.mlp import MLPConfig
from subsim.networks.network import Network, Params
from subsim.options import require_choice
from subsim.training import loop
from subsim.training.optimisers import TrainingConfig, TrainingHyper
from subsim.transfer.imitation import Task
from subsim.transfer.rule import Rule
from subsim.transfer.students import on_labels

BATCH = 128


@dataclass(frozen=True)
class TeacherConfig(MLPConfig):
    """The options of a network and of its training as a teacher."""

    data: datasets.Name = "digits"
    """Labelled images of the teacher's task."""
    teacher_steps: int = 150
    """Steps of the teacher, each on 128 images."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("data", self.data, datasets.NAMES)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TeacherHyper:
    """Traced hyperparameters: they may differ within one compiled program."""

    teacher_rate: float | Array = 1e-3
    """Adam's learning rate for the teacher."""
    student_rate: float | Array = 3e-3
    """Adam's learning rate for the students."""


def train_teacher(
    key: Key[Array, ""], network: Network, reference: Params, task: Task, n_class: int, steps: int, rate: float | Array
) -> Params:
    """Return the teacher: the reference after `steps` of Adam on the labels of `task`."""
    rule = Rule(TrainingConfig(batch=BATCH), TrainingHyper(learning_rate=rate))
    return loop.train(on_labels(key, network, reference, task, n_class, rule), steps).params
