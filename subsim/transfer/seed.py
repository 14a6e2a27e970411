"""The common ground of all networks of one seed: the study's roles, the data, and the networks trained so far."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Key

from subsim.networks.network import Network, Params
from subsim.options import UserError
from subsim.transfer.imitation import Task
from subsim.transfer.options import Hyper
from subsim.transfer.roles import Role, Student, Teacher
from subsim.transfer.state import Labelled, Measure, State
from subsim.transfer.traits import LABELS, Trait

NAMES = ("reference", "(independent)")  # a student may well be called independent


class Spec(NamedTuple):
    """The roles, the trait and the measures of a study; `of_students` are measures for students only."""

    teachers: Mapping[str, Teacher]
    students: Mapping[str, Student]
    base: Teacher | None
    trait: Trait
    measures: Mapping[str, Measure]
    of_students: Mapping[str, Measure]
    teacher_steps: tuple[int, ...] = ()
    """Numbers of steps after which the teacher is imitated, the last at its end; none: at its end only."""
    along: bool = False
    """Whether the report needs records during the training."""

    @property
    def traits(self) -> list[Trait]:
        """All traits of the study's teachers and base, except the labels."""
        roles = [*self.teachers.values(), *([self.base] if self.base else [])]
        found = [self.trait, *(each.trait for each in roles if each.trait is not None)]
        return [trait for trait in dict.fromkeys(found) if trait != LABELS]

    @property
    def conditions(self) -> list[str]:
        """The names of the networks that are measured, in order."""
        return ["reference", *self.teachers, *self.students]


class Data(NamedTuple):
    """The data of a run on the device: the labelled images, and each trait's training data `taught` and `probes`."""

    train: Task
    test: Task
    taught: tuple[Task, ...]
    probes: tuple[Task, ...]


class Net(NamedTuple):
    """A trained network of a seed: its parameters, its start, its last optimiser state, and its number of steps.

    `batch` and `n` are the numbers of examples in a step and in an epoch. `depth` is the number of students in the
    chain from the first teacher to this network, inclusive. A `linear` network is the first-order expansion at its
    start.
    """

    params: Params
    start: Params
    state: Any = None
    steps: int = 0
    batch: int = 0
    n: int = 0
    depth: int = 0
    linear: bool = False


class Seed(NamedTuple):
    """The keys, the network, the data and the hyperparameters of one seed, and its networks trained so far."""

    keys: Mapping[str, Key[Array, ""]]
    network: Network
    task: Labelled
    data: Data
    hyper: Hyper
    nets: Mapping[str, Net]

    def state_of(self, net: Net, teacher: str, network: Network | None = None, **more: Any) -> State:
        """Return the `State` of one network of the seed, the argument of measures."""
        reference, independent, taught = (self.nets[name] for name in (*NAMES, teacher))
        return State(
            network or self.network, net.params, net.start, reference.params, independent.params,
            taught.params, taught.start, self.task, {name: each.params for name, each in self.nets.items()},
            optimiser_state=net.state, **more,
        )  # fmt: skip


def stream(seed: Seed, name: str, role: Role) -> Key[Array, ""]:
    """Return the key called `name` of the role's stream."""
    return jax.random.fold_in(seed.keys[name], 1_000 + role.stream) if role.stream else seed.keys[name]


def params_of(seed: Seed) -> dict[str, Params]:
    """Return the parameters of the seed's networks trained so far."""
    return {name: net.params for name, net in seed.nets.items()}


def first_step(role: Role, seed: Seed, batch: int, n: int) -> int:
    """Return the step of the data at which a network begins.

    A network that continues another one with the same batch and number of examples begins where that one ended. All
    others begin at 0.
    """
    if role.state is None or not isinstance(role.start, str):
        return 0
    before = seed.nets[role.start]
    return before.steps if (before.batch, before.n) == (batch, n) else 0


def state_before(role: Role, seed: Seed) -> Any:
    """Return the optimiser state from which a network continues; None for a new state."""
    if role.state is None:
        return None
    if isinstance(role.state, str):
        return seed.nets[role.state].state
    states = {name: net.state for name, net in seed.nets.items()}
    try:
        return role.state(states)
    except KeyError as error:
        there = ", ".join(name for name, state in states.items() if state is not None)
        raise UserError(f"state: {error} has no optimiser state yet; those that have one are {there}.") from error
