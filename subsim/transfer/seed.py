"""What all networks of one seed share: what is asked of them, their data, and those that are trained so far."""

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
    """What a study asks of a run: its roles, its trait, and its measures of every condition and of students alone."""

    teachers: Mapping[str, Teacher]
    students: Mapping[str, Student]
    base: Teacher | None
    trait: Trait
    measures: Mapping[str, Measure]
    of_students: Mapping[str, Measure]
    teacher_steps: tuple[int, ...] = ()
    """After how many steps the teacher is imitated, the last being its end; none: at its end alone."""
    along: bool = False
    """Whether the report needs what is recorded along the way."""

    @property
    def traits(self) -> list[Trait]:
        """All traits that a network of the study is trained to, but the labels."""
        roles = [*self.teachers.values(), *([self.base] if self.base else [])]
        found = [self.trait, *(each.trait for each in roles if each.trait is not None)]
        return [trait for trait in dict.fromkeys(found) if trait != LABELS]

    @property
    def conditions(self) -> list[str]:
        """The names of the networks that are measured, in order."""
        return ["reference", *self.teachers, *self.students]


class Data(NamedTuple):
    """The data of a run on the device: the labelled images, and of each trait what it is trained to and probed on."""

    train: Task
    test: Task
    taught: tuple[Task, ...]
    probes: tuple[Task, ...]


class Net(NamedTuple):
    """A trained network of a seed: its parameters, its start, its optimiser's last state, and the steps it made.

    `batch` and `n` are the examples of a step and of an epoch; `depth` says how many students taught one another down
    to this one; a `linear` network is the first-order expansion at its start.
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
    """What all networks of one seed share: keys, network, data and numbers; and the networks trained so far."""

    keys: Mapping[str, Key[Array, ""]]
    network: Network
    task: Labelled
    data: Data
    hyper: Hyper
    nets: Mapping[str, Net]

    def state_of(self, net: Net, teacher: str, network: Network | None = None, **more: Any) -> State:
        """Return one network of the seed, as measures take it."""
        reference, independent, taught = (self.nets[name] for name in (*NAMES, teacher))
        return State(
            network or self.network, net.params, net.start, reference.params, independent.params,
            taught.params, taught.start, self.task, optimiser_state=net.state, **more,
        )  # fmt: skip


def stream(seed: Seed, name: str, role: Role) -> Key[Array, ""]:
    """Return the key called `name` of the role's stream."""
    return jax.random.fold_in(seed.keys[name], 1_000 + role.stream) if role.stream else seed.keys[name]


def params_of(seed: Seed) -> dict[str, Params]:
    """Return the parameters of the networks that a seed has so far."""
    return {name: net.params for name, net in seed.nets.items()}


def first_step(role: Role, seed: Seed, batch: int, n: int) -> int:
    """Return the step of its data at which a network begins: of one that goes on from another on as many examples in
    batches of one size, that one's last; 0 of any other."""
    if role.state is None or not isinstance(role.start, str):
        return 0
    before = seed.nets[role.start]
    return before.steps if (before.batch, before.n) == (batch, n) else 0


def state_before(role: Role, seed: Seed) -> Any:
    """Return the optimiser state that a network goes on from; None is a fresh one."""
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
