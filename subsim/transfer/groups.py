"""Train groups of students side by side in one program, and measure them."""

import functools
import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Key

from subsim.networks.network import Network, Params, linearised
from subsim.options import overridden, require
from subsim.training.loop import Trained, first_update
from subsim.training.optimisers import steps_of
from subsim.transfer import imitation, state, students
from subsim.transfer.filters import Seen, kept_by
from subsim.transfer.graph import mask_of, numbers_of
from subsim.transfer.imitation import Imitation, stack
from subsim.transfer.options import Config
from subsim.transfer.roles import Student, Subset, started
from subsim.transfer.rule import Rule, rule_of
from subsim.transfer.seed import Net, Seed, Spec, first_step, params_of, state_before, stream
from subsim.transfer.state import State
from subsim.transfer.students import Distillation, Students


class Group(NamedTuple):
    """Students that were trained side by side.

    `role` is the role of the first student, `distillation` is shared, and `students` and `trained` have a leading axis
    of students. `depth` is the number of students in the chain from the first teacher to these, inclusive.
    """

    names: Sequence[str]
    role: Student
    distillation: Distillation
    students: Students
    trained: Trained
    depth: int

    def nets(self) -> dict[str, Net]:
        """Return the networks of the group by their names."""
        found, distillation = self.trained, self.distillation
        steps = distillation.first_step + found.losses.shape[1]

        def at(tree: Any, index: int) -> Any:
            return jax.tree.map(operator.itemgetter(index), tree)

        of_data = (distillation.rule.config.batch, distillation.data.n, self.depth, distillation.linear)
        return {
            name: Net(at(found.params, index), at(self.students.start, index), at(found.state, index), steps, *of_data)
            for index, name in enumerate(self.names)
        }


OF_DATA = ("input_scale", "input_shift", "blur", "rank", "real_share", "logit_noise")
"""Hyperparameters of a student that its data depend on."""
Drawn = dict[Any, tuple[Net, Imitation]]  # the teacher is kept, because its id is part of the key


def groups_of(stage: Sequence[str], students: Mapping[str, Student], config: Config, seed: Seed) -> list[list[str]]:
    """Group the students of a stage so that one program trains each group side by side.

    The students of a group differ only in their start, their mask and the logits that they imitate.
    """
    found: dict[Any, list[str]] = {}
    for name in stage:
        one = students[name]
        own = {what: id(value) for what, value in one.own.items()}
        imitates = one.imitates if {"loss", "targets"} & own.keys() or isinstance(one.imitates, Subset) else None
        alike = (
            one.teacher, one.linear, one.stream, one.frozen, one.mask is None, one.state is None, id(one.around),
            imitates, _first_step(one, config, seed), repr(sorted(one.options.items())), tuple(sorted(own.items())),
        )  # fmt: skip
        found.setdefault(alike, []).append(name)
    return list(found.values())


def trained(names: Sequence[str], spec: Spec, config: Config, seed: Seed, drawn: Drawn) -> Group:
    """Train a group of students; `drawn` caches the data of earlier students, so that the same data is drawn once."""
    these = [spec.students[name] for name in names]
    one, n_class = these[0], seed.task.n_class
    rule = rule_of(one, config.student, seed.hyper.student)
    of_inputs, of_order = (stream(seed, name, one) for name in ("inputs", "student"))
    data = data_of(one, rule, seed, of_inputs, drawn)
    subset = one.imitates.size if isinstance(one.imitates, Subset) else None
    is_own = bool({"loss", "targets"} & one.own.keys()) and subset is None
    logits = numbers_of(one.imitates, n_class, config.n_aux) if is_own else None
    distillation = Distillation(
        of_order, seed.network, data, rule, logits, subset, one.linear, first_step=_first_step(one, config, seed)
    )
    if one.around is not None:
        distillation = distillation._replace(around=functools.partial(around, distillation, one, seed))
    starts = [started(each, seed.network, params_of(seed)) for each in these]
    imitated = [mask_of(each.imitates, n_class, config.n_aux, rule.hyper.n_imitated) for each in these]
    images = rule.config.inputs == "images" and "inputs" not in one.own

    def kept(each: Student, start: Params, mask: Array) -> Array:
        assert each.mask is not None
        assert data.logits is not None
        at_start = state_of_student(distillation, each, seed, Students(start, mask), Net(start, start))
        labels = seed.task.train.labels if images else None
        seen = Seen(jnp.ones(data.n, bool), n_class, jax.random.fold_in(of_inputs, 6), labels, at_start)
        return kept_by(each.mask, data.logits, seen)

    group = Students(
        stack(*starts),
        jnp.stack(imitated),
        None if one.mask is None else jnp.stack(list(map(kept, these, starts, imitated))),
        None if one.state is None else stack(*(state_before(each, seed) for each in these)),
    )

    def record(network: Network, params: Params) -> Array:
        return state.accuracy(seed.state_of(Net(params, params), one.teacher, network))

    found = students.train_students(distillation, group, every=config.every, record=record)
    return Group(names, one, distillation, group, found, seed.nets[one.teacher].depth + 1)


def data_of(one: Student, rule: Rule, seed: Seed, key: Key[Array, ""], drawn: Drawn) -> Imitation:
    """Return the distillation data of a student, from the cache `drawn` if an earlier student has the same data."""
    # One key draws inputs of every kind, so that students with different inputs share as much randomness as possible.
    numbers = repr(sorted(item for item in one.options.items() if item[0] in OF_DATA))
    teacher, its = seed.nets[one.teacher], rule.config
    alike = (
        id(teacher), one.stream, its.inputs, its.n_inputs, its.fresh, its.permuted, id(one.own.get("inputs")), numbers,
    )  # fmt: skip
    if alike not in drawn:
        network = linearised(seed.network, teacher.start) if teacher.linear else seed.network
        data = imitation.make_imitation(
            key, network, teacher.params, its, rule.hyper, seed.task.train.images, one.own.get("inputs"), teacher.depth
        )
        drawn[alike] = teacher, data
    return drawn[alike][1]


def state_of_student(
    distillation: Distillation, one: Student, seed: Seed, student: Students, net: Net, **more: Any
) -> State:
    """Return the `State` of one student, the argument of measures."""
    data = distillation.data

    def loss(z: Array, y: Array) -> Array:
        return distillation.example_loss(z, y, student.imitated, data.key, data.key)

    def targets(key: Array, y: Array) -> Array:
        y, mask = y / distillation.rule.hyper.temperature, student.imitated
        if distillation.logits is not None:  # the user's loss or targets take the imitated logits alone
            y, mask = y[jnp.array(distillation.logits)], jnp.ones(len(distillation.logits), bool)
        return distillation.targets(key, y, mask)

    kept = jnp.ones(data.n, bool) if student.mask is None else student.mask
    return seed.state_of(
        net, one.teacher, distillation.network_of(student.start), data=data, kept=kept, mask=student.imitated,
        loss=loss, targets=targets, steps=steps_of(distillation.rule.config, data.n), **more,
    )  # fmt: skip


def around(
    distillation: Distillation, one: Student, seed: Seed, student: Students, optimiser: optax.GradientTransformation
) -> optax.GradientTransformation:
    """Return the user's `around` applied to a student's optimiser and to the student's `State` at its start."""
    net = Net(student.start, student.start)
    assert one.around is not None
    found = one.around(optimiser, state_of_student(distillation, one, seed, student, net, optimiser=optimiser))
    require(
        isinstance(found, optax.GradientTransformation),
        "around: return a gradient transformation, such as optax.chain makes.",
    )
    return found


def _first_step(one: Student, config: Config, seed: Seed) -> int:
    its_config = overridden(config.student, one.options)
    images = its_config.inputs == "images" and "inputs" not in one.own
    return first_step(one, seed, its_config.batch, len(seed.task.train.labels) if images else its_config.n_inputs)


def measured(spec: Spec, config: Config, seed: Seed, group: Group) -> dict[str, Array]:
    """Return every measure of a group of students, along a leading axis."""
    found, distillation = group.trained, group.distillation
    epoch = -(-distillation.data.n // distillation.rule.config.batch)
    values = {"imitation_loss": jnp.mean(found.losses[:, -epoch:], axis=1)}
    if config.every is not None:
        moments = found.recorded.shape[1]
        require(
            moments > 0, f"every is {config.every}, but {group.names[0]} makes fewer steps; choose a smaller number."
        )
        losses = found.losses[:, : moments * config.every].reshape(-1, moments, config.every)
        values |= {"accuracy_along": found.recorded, "imitation_loss_along": jnp.mean(losses, axis=2)}

    def measure(params: Params, last: Any, student: Students) -> dict[str, Array]:
        training = distillation.training_of(student)

        def first() -> Any:
            batch, update = first_update(training)
            return batch[:2], update

        net = Net(params, student.start, last)
        its_state = state_of_student(
            distillation, group.role, seed, student, net, optimiser=training.optimiser, first=first
        )
        wanted = {**spec.measures, **spec.of_students, **(state.COVERAGE if config.coverage else {})}
        return {name: of(its_state) for name, of in wanted.items()}

    return values | jax.vmap(measure)(found.params, found.state, group.students)
