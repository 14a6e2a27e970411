"""One seed of the experiment: reference, teachers, students, and every measure of them."""

import functools
import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from subsim.networks.network import Network, Params, linearised
from subsim.options import overridden, require
from subsim.training.loop import Trained, first_update
from subsim.transfer import imitation, state, students
from subsim.transfer.filters import Seen, kept_by
from subsim.transfer.graph import mask_of, numbers_of, stages
from subsim.transfer.imitation import Imitation, stack
from subsim.transfer.options import Config, Hyper, StudentConfig, StudentHyper, with_own
from subsim.transfer.roles import Student, Subset, started
from subsim.transfer.seed import NAMES, Data, Net, Seed, Spec, first_step, params_of, state_before
from subsim.transfer.students import Choice
from subsim.transfer.teachers import state_of_teacher, untaught


class Group(NamedTuple):
    """Students that were trained side by side: their names, what they have in common, and what came of it.

    `role` is the first of them, `order` the key of their batches' order.
    """

    names: Sequence[str]
    role: Student
    config: StudentConfig
    hyper: StudentHyper
    data: Imitation
    order: Key[Array, ""]
    choice: Choice
    starts: Params
    trained: Trained
    states: Any
    mask: Array | None
    first_step: int
    depth: int

    def nets(self) -> dict[str, Net]:
        """Return the networks of the group by their names."""
        steps = self.first_step + self.trained.losses.shape[1]

        def at(tree: Any, place: int) -> Any:
            return jax.tree.map(operator.itemgetter(place), tree)

        found, of_data = self.trained, (self.config.batch, self.data.n, self.depth, self.role.linear)
        return {
            name: Net(at(found.params, place), at(self.starts, place), at(found.state, place), steps, *of_data)
            for place, name in enumerate(self.names)
        }


OF_DATA = ("input_scale", "input_shift", "blur", "rank", "real_share", "logit_noise")
"""Numbers of a student that its data depend on."""
Drawn = dict[Any, tuple[Net, Imitation]]  # with the network that is imitated, which lives as long as its data


def run(
    spec: Spec, configs: Sequence[Config], network: Network, n_class: int, data: Data, key: Array, hyper: Hyper
) -> dict[str, Array]:
    """Return every measure of reference, teachers and students of one seed, for each of `configs`.

    The configs differ in their students' options alone: the teachers serve all of them. The record has a leading axis
    of configs, and after it one of `spec.teacher_steps`, if there are any.
    """
    seed, teachers = untaught(spec, configs[0], network, n_class, data, key, hyper)
    last = next(iter(spec.teachers))

    def with_teacher(params: Params) -> list[dict[str, Array]]:
        its = seed._replace(nets={**seed.nets, last: seed.nets[last]._replace(params=params)})
        known = [
            its.state_of(its.nets["reference"], last),
            *(state_of_teacher(spec, configs[0], its, name) for name in spec.teachers),
        ]
        before = {name: jnp.stack([of(one) for one in known]) for name, of in spec.measures.items()}
        drawn: Drawn = {}
        return [record(spec, config, its, before, drawn) for config in configs]

    records = jax.vmap(with_teacher)(teachers) if spec.teacher_steps else with_teacher(seed.nets[last].params)
    shapes = [jax.tree.map(jnp.shape, one) for one in records]
    require(
        all(each == shapes[0] for each in shapes), "sweep: the values of an axis must leave the record's shapes alone."
    )
    return stack(*records)


def all_networks(
    spec: Spec, config: Config, network: Network, n_class: int, data: Data, key: Array, hyper: Hyper
) -> dict[str, Params]:
    """Return the parameters of every network of one seed, by name."""
    seed, _ = untaught(spec, config, network, n_class, data, key, hyper)
    drawn: Drawn = {}
    for stage in stages(spec.students, seed.nets):
        for names in groups_of(stage, spec.students, config, seed):
            seed = seed._replace(nets={**seed.nets, **trained(names, spec, config, seed, drawn).nets()})
    _, independent = NAMES
    free = "independent" not in seed.nets
    return {"independent" if free and name == independent else name: net.params for name, net in seed.nets.items()}


def groups_of(stage: Sequence[str], students: Mapping[str, Student], config: Config, seed: Seed) -> list[list[str]]:
    """Return the names of a stage by groups of students that one program trains side by side: they differ in their
    start, their mask and the logits that they imitate."""
    found: dict[Any, list[str]] = {}
    for name in stage:
        one = students[name]
        own = {what: id(value) for what, value in one.own.items()}
        imitates = one.imitates if {"loss", "targets"} & own.keys() or isinstance(one.imitates, Subset) else None
        alike = (
            one.teacher, one.linear, one.stream, one.frozen, one.mask is None, one.state is None, imitates,
            _first_step(one, config, seed), repr(sorted(one.options.items())), tuple(sorted(own.items())),
        )  # fmt: skip
        found.setdefault(alike, []).append(name)
    return list(found.values())


def trained(names: Sequence[str], spec: Spec, config: Config, seed: Seed, drawn: Drawn) -> Group:
    """Train a group of students. `drawn` holds the data of earlier students: what is drawn alike is drawn once."""
    these = [spec.students[name] for name in names]
    one, n_class = these[0], seed.task.n_class
    its_config, its_hyper = with_own(config.student, seed.hyper.student, one.options)
    of_inputs, of_order = (_stream(seed.keys[name], one.stream) for name in ("inputs", "student"))
    # Drawn from one key whatever they are: students of different inputs share all the randomness that they can.
    numbers = repr(sorted(item for item in one.options.items() if item[0] in OF_DATA))
    teacher = seed.nets[one.teacher]
    alike = (
        id(teacher), one.stream, its_config.inputs, its_config.n_inputs, its_config.fresh, its_config.permuted,
        id(one.own.get("inputs")), numbers,
    )  # fmt: skip
    if alike not in drawn:
        network = linearised(seed.network, teacher.start) if teacher.linear else seed.network
        data = imitation.make_imitation(
            of_inputs, network, teacher.params, its_config, its_hyper, seed.task.train.images,
            one.own.get("inputs"), teacher.depth,
        )  # fmt: skip
        drawn[alike] = teacher, data
    _, data = drawn[alike]
    masks = jnp.stack([mask_of(each.imitates, n_class, config.n_aux, its_hyper.n_imitated) for each in these])
    subset = one.imitates.size if isinstance(one.imitates, Subset) else None
    is_own = bool({"loss", "targets"} & one.own.keys()) and subset is None
    choice = Choice(masks, numbers_of(one.imitates, n_class, config.n_aux) if is_own else None, subset)
    starts = stack(*(started(each, seed.network, params_of(seed)) for each in these))
    states = None if one.state is None else stack(*(state_before(each, seed) for each in these))
    mask = None
    if one.mask is not None:
        assert data.logits is not None
        images = its_config.inputs == "images" and "inputs" not in one.own
        seen = Seen(
            jnp.ones(data.n, bool), n_class, jax.random.fold_in(of_inputs, 6),
            seed.task.train.labels if images else None,
        )  # fmt: skip
        mask = jnp.stack([kept_by(each.mask, data.logits, seen) for each in these if each.mask is not None])

    def record(network: Network, params: Params) -> Array:
        return state.accuracy(seed.state_of(Net(params, params), one.teacher, network))

    first = _first_step(one, config, seed)
    found = students.train_students(
        of_order, seed.network, starts, choice, data, its_config, its_hyper, own=one.own, frozen=one.frozen, mask=mask,
        states=states, first_step=first, linear=one.linear, every=config.every, record=record,
    )  # fmt: skip
    return Group(
        names, one, its_config, its_hyper, data, of_order, choice, starts, found, states, mask, first, teacher.depth + 1
    )


def _first_step(one: Student, config: Config, seed: Seed) -> int:
    its_config = overridden(config.student, one.options)
    images = its_config.inputs == "images" and "inputs" not in one.own
    return first_step(one, seed, its_config.batch, len(seed.task.train.labels) if images else its_config.n_inputs)


def _stream(key: Key[Array, ""], stream: int) -> Key[Array, ""]:
    return jax.random.fold_in(key, 1_000 + stream) if stream else key


def record(spec: Spec, config: Config, seed: Seed, before: Mapping[str, Array], drawn: Drawn) -> dict[str, Array]:
    """Return every measure of the students of one config and, from `before`, of the networks trained before them."""
    records, order = [], []
    for stage in stages(spec.students, seed.nets):
        later: dict[str, Net] = {}
        for names in groups_of(stage, spec.students, config, seed):
            group = trained(names, spec, config, seed, drawn)
            records.append(measured(spec, config, seed, group))
            order += names
            later |= group.nets()
        seed = seed._replace(nets={**seed.nets, **later})
    places = jnp.array([order.index(name) for name in spec.students])
    whole = jax.tree.map(lambda *parts: jnp.concatenate(parts)[places], *records)
    return whole | {name: jnp.concatenate([before[name], whole[name]]) for name in before}


def measured(spec: Spec, config: Config, seed: Seed, group: Group) -> dict[str, Array]:
    """Return every measure of a group of students, along a leading axis."""
    found, one, data = group.trained, group.role, group.data
    epoch = -(-data.n // group.config.batch)
    values = {"imitation_loss": jnp.mean(found.losses[:, -epoch:], axis=1)}
    if config.every is not None:
        moments = found.recorded.shape[1]
        require(moments > 0, f"every is {config.every}, but {group.names[0]} makes fewer steps; choose a smaller one.")
        losses = found.losses[:, : moments * config.every].reshape(-1, moments, config.every)
        values |= {"accuracy_along": found.recorded, "imitation_loss_along": jnp.mean(losses, axis=2)}

    examples, losses_of = students.imitated(group.config, group.hyper, one.own, group.choice, data)

    def measure(params: Params, start: Params, last: Any, logits: Array, mask: Any, before: Any) -> dict[str, Array]:
        net = Net(params, start, last)
        network = linearised(seed.network, start) if one.linear else seed.network
        optimiser = students.optimiser_of(
            seed.network, start, group.config, group.hyper, one.own.get("optimiser"), one.frozen
        )
        of_example = students.example_loss(group.config, group.hyper, one.own, group.choice)

        def loss(z: Array, y: Array) -> Array:
            return of_example(z, y, logits, data.key, data.key)

        def first() -> Any:
            batch, update = first_update(
                group.order, start, functools.partial(losses_of, network, logits), examples, data.n, optimiser,
                batch=group.config.batch, endless=data.endless, mask=mask, state=before, first_step=group.first_step,
            )  # fmt: skip
            return batch[:2], update

        its_state = seed.state_of(
            net, one.teacher, network, data=data, kept=jnp.ones(data.n, bool) if mask is None else mask, mask=logits,
            loss=loss, optimiser=optimiser, first=first,
        )  # fmt: skip
        return {name: of(its_state) for name, of in (*spec.measures.items(), *spec.of_students.items())}

    return values | jax.vmap(measure)(
        found.params, group.starts, found.state, group.choice.masks, group.mask, group.states
    )
