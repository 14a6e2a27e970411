"""One seed of the experiment: reference, teachers, students, and every measure of them."""

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Key

from subsim.networks import network as networks
from subsim.networks.network import Network, Params, linearised
from subsim.networks.parameters import rescaled
from subsim.options import require
from subsim.training.loop import Trained, make_index
from subsim.training.losses import imitated_logits
from subsim.transfer import imitation, state
from subsim.transfer.imitation import Choice, Imitation, Task, stack
from subsim.transfer.options import Config, Hyper, StudentHyper, with_own
from subsim.transfer.roles import Role, Student, Subset, Teacher, started
from subsim.transfer.state import Labelled, Measure, State
from subsim.transfer.traits import LABELS, Trait

NAMES = ("reference", "independent")


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
        """All traits that a teacher of the study is trained to, but the labels."""
        found = [self.trait, *(each.trait for each in self.teachers.values() if each.trait is not None)]
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
    """A trained network of a seed: its parameters, its start, its optimiser's last state, and the steps it made."""

    params: Params
    start: Params
    state: Any = None
    steps: int = 0


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
        drawn: dict[Any, Imitation] = {}
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
    for stage in stages(spec.students, seed.nets):
        for group in groups_of(stage, spec.students, seed):
            found, starts, _ = trained(group, spec, config, seed, {})
            seed = seed._replace(nets={**seed.nets, **nets_of(group, spec.students, found, starts, seed)})
    return {name: net.params for name, net in seed.nets.items()}


def untaught(
    spec: Spec, config: Config, network: Network, n_class: int, data: Data, key: Array, hyper: Hyper
) -> tuple[Seed, Params]:
    """Return a seed with its references and teachers, and the first teacher at each of `spec.teacher_steps`."""
    keys = dict(zip(("own", "other", "teacher", "inputs", "student"), jax.random.split(key, 5), strict=True))
    task = Labelled(data.train, data.test, n_class)
    nets = {}
    # An independent draw for every seed: permuting references among seeds would hand some students their own.
    for name, key_of in zip(NAMES, ("own", "other"), strict=True):
        drawn = rescaled(network.init(keys[key_of]), hyper.init_scale)
        nets[name] = Net(drawn, drawn)
        if spec.base is not None:
            alone = Seed(
                {"teacher": jax.random.fold_in(keys[key_of], 1)},
                network,
                task,
                data,
                hyper,
                {"reference": nets[name], "independent": nets[name]},
            )
            pretrained = teach(spec, config, alone, "base", spec.base).params
            nets[name] = Net(pretrained, pretrained)
    seed = Seed(keys, network, task, data, hyper, nets)
    every = math.gcd(*spec.teacher_steps) or None
    stops: Params = ()
    for number, name in enumerate(ordered(spec.teachers, seed.nets)):
        found = teach(spec, config, seed, name, spec.teachers[name], every if number == 0 else None)
        role = spec.teachers[name]
        steps = first_step(role, seed) + len(found.losses)
        net = Net(found.params, started(role, network, params_of(seed)), found.state, steps)
        seed = seed._replace(nets={**seed.nets, name: net})
        if every is not None and number == 0:
            places = jnp.array(spec.teacher_steps) // every - 1
            stops = jax.tree.map(functools.partial(jnp.take, indices=places, axis=0), found.recorded)
    return seed, stops


def params_of(seed: Seed) -> dict[str, Params]:
    """Return the parameters of the networks that a seed has so far."""
    return {name: net.params for name, net in seed.nets.items()}


def first_step(role: Role, seed: Seed) -> int:
    """Return the step of its data at which a network begins: of one that goes on from another, that one's last."""
    return seed.nets[role.start].steps if role.state is not None and role.start in seed.nets else 0  # type: ignore[index]


def state_before(role: Role, seed: Seed) -> Any:
    """Return the optimiser state that a network goes on from; None is a fresh one."""
    if role.state is None:
        return None
    return (
        seed.nets[role.state].state
        if isinstance(role.state, str)
        else role.state({n: net.state for n, net in seed.nets.items()})
    )


def teach(spec: Spec, config: Config, seed: Seed, name: str, teacher: Teacher, every: int | None = None) -> Trained:
    """Train the teacher called `name`, or the base of all."""
    part = "base" if name == "base" else "teacher"
    its_config, its_hyper = with_own(getattr(config, part), getattr(seed.hyper, part), teacher.options)
    trait, task = trait_of(spec, teacher, part, seed)
    return imitation.train_teacher(
        seed.keys["teacher"], seed.network, started(teacher, seed.network, params_of(seed)), task, seed.task.n_class,
        its_config, its_hyper, loss=teacher.own.get("loss", trait.loss), optimiser=teacher.own.get("optimiser"),
        frozen=teacher.frozen, every=every, state=state_before(teacher, seed), first_step=first_step(teacher, seed),
    )  # fmt: skip


def trait_of(spec: Spec, teacher: Teacher, part: str, seed: Seed) -> tuple[Trait, Task]:
    """Return a teacher's trait and the task that it is trained on; a base's is the labels unless it says otherwise."""
    trait = teacher.trait or (spec.trait if part == "teacher" else LABELS)
    return trait, seed.data.train if trait == LABELS else seed.data.taught[spec.traits.index(trait)]


def state_of_teacher(spec: Spec, config: Config, seed: Seed, name: str) -> State:
    """Return a teacher as measures take it."""
    teacher, net = spec.teachers[name], seed.nets[name]
    its_config, its_hyper = with_own(config.teacher, seed.hyper.teacher, teacher.options)
    trait, task = trait_of(spec, teacher, "teacher", seed)
    loss = teacher.own.get("loss", trait.loss)
    optimiser = imitation.optimiser_of(
        seed.network, net.start, its_config, its_hyper, teacher.own.get("optimiser"), teacher.frozen
    )

    def first() -> Any:
        n = task.labels.shape[0]
        order, index = make_index(seed.keys["teacher"], n, min(its_config.batch, n))
        here, _ = index(order(jnp.asarray(0)), jnp.asarray(0))
        x, labels = imitation.inputs.examples(task.images, here), task.labels[here]

        def mean(params: Params) -> Array:
            class_logits = networks.logits(seed.network, params, x)[:, : seed.task.n_class]
            return jnp.mean(jax.vmap(loss)(class_logits, labels))

        return (x, labels), optimiser.update(jax.grad(mean)(net.start), optimiser.init(net.start), net.start)[0]

    return seed.state_of(net, next(iter(spec.teachers)), optimiser=optimiser, first=first)


def ordered(roles: Mapping[str, Role], known: Iterable[str]) -> list[str]:
    """Return the names of `roles` in an order in which each comes after those that it needs."""
    return [name for stage in stages(roles, known) for name in stage]


def stages(roles: Mapping[str, Role], known: Iterable[str]) -> list[list[str]]:
    """Return the names of `roles` in stages: each stage needs `known` networks and those of earlier stages only."""
    known, left, found = set(known), list(roles), []
    while left:
        stage = [name for name in left if roles[name].needs() <= known]
        if not stage:
            name = left[0]
            missing = ", ".join(sorted(roles[name].needs() - known))
            require(False, f"students: {name} needs {missing}, which no network before it is; name one of the run.")
        found.append(stage)
        known |= set(stage)
        left = [name for name in left if name not in stage]
    return found


def groups_of(stage: Sequence[str], students: Mapping[str, Student], seed: Seed) -> list[list[str]]:
    """Return the names of a stage by groups of students that one program trains side by side: they differ in their
    start, their mask and the logits that they imitate."""
    found: dict[Any, list[str]] = {}
    for name in stage:
        one = students[name]
        own = {what: id(value) for what, value in one.own.items()}
        imitates = one.imitates if {"loss", "targets"} & own.keys() or isinstance(one.imitates, Subset) else None
        alike = (
            one.teacher, one.linear, one.stream, one.frozen, one.mask is None, one.state is None, imitates,
            first_step(one, seed), repr(sorted(one.options.items())), tuple(sorted(own.items())),
        )  # fmt: skip
        found.setdefault(alike, []).append(name)
    return list(found.values())


def mask_of(imitates: Any, n_class: int, n_aux: int, n_imitated: Any) -> Bool[Array, " logits"]:
    """Return which logits a student imitates."""
    aux, everything = imitated_logits(n_class, n_aux, n_imitated)
    if isinstance(imitates, Subset):
        imitates = imitates.of
    if isinstance(imitates, str):
        return {"aux": aux, "classes": everything & ~aux, "all": everything}[imitates]
    if all(isinstance(each, bool) for each in imitates):
        return jnp.array(imitates)
    return jnp.zeros(n_class + n_aux, bool).at[jnp.array(imitates)].set(True)


def numbers_of(imitates: Any, n_class: int, n_aux: int) -> tuple[int, ...]:
    """Return the numbers of the logits that a student imitates."""
    kinds = {"aux": range(n_class, n_class + n_aux), "classes": range(n_class), "all": range(n_class + n_aux)}
    if isinstance(imitates, str):
        return tuple(kinds[imitates])
    if all(isinstance(each, bool) for each in imitates):
        return tuple(number for number, each in enumerate(imitates) if each)
    return tuple(imitates)


def trained(
    group: Sequence[str], spec: Spec, config: Config, seed: Seed, drawn: dict[Any, Imitation]
) -> tuple[Trained, Params, dict[str, Any]]:
    """Train a group of students: what came of it, their starts, and all that their states have in common.

    `drawn` holds the data of earlier students: what is drawn alike is drawn once.
    """
    these = [spec.students[name] for name in group]
    one, n_class = these[0], seed.task.n_class
    its_config, its_hyper = with_own(config.student, seed.hyper.student, one.options)
    of_inputs, of_order = (_stream(seed.keys[name], one.stream) for name in ("inputs", "student"))
    # Drawn from one key whatever they are: students of different inputs share all the randomness that they can.
    numbers = repr(sorted(item for item in one.options.items() if item[0] in _hyper_names()))
    alike = (
        one.teacher, one.stream, its_config.inputs, its_config.n_inputs, its_config.fresh, its_config.permuted,
        id(one.own.get("inputs")), numbers,
    )  # fmt: skip
    if alike not in drawn:
        drawn[alike] = imitation.make_imitation(
            of_inputs, seed.network, seed.nets[one.teacher].params, its_config, its_hyper, seed.task.train.images,
            one.own.get("inputs"),
        )  # fmt: skip
    data = drawn[alike]
    masks = jnp.stack([mask_of(each.imitates, n_class, config.n_aux, its_hyper.n_imitated) for each in these])
    subset = one.imitates.size if isinstance(one.imitates, Subset) else None
    is_own = bool({"loss", "targets"} & one.own.keys()) and subset is None
    choice = Choice(masks, numbers_of(one.imitates, n_class, config.n_aux) if is_own else None, subset)
    starts = stack(*(started(each, seed.network, params_of(seed)) for each in these))
    states = None if one.state is None else stack(*(state_before(each, seed) for each in these))
    mask = None
    if one.mask is not None:
        assert data.logits is not None
        mask = jnp.stack([each.mask(data.logits) for each in these])  # type: ignore[misc]

    def record(network: Network, params: Params) -> Array:
        return state.accuracy(seed.state_of(Net(params, params), one.teacher, network))

    found = imitation.train_students(
        of_order, seed.network, starts, choice, data, its_config, its_hyper, own=one.own, frozen=one.frozen, mask=mask,
        states=states, first_step=first_step(one, seed), linear=one.linear, every=config.every, record=record,
    )  # fmt: skip
    shared = {
        "config": its_config,
        "hyper": its_hyper,
        "student": one,
        "data": data,
        "choice": choice,
        "order": of_order,
    }
    return found, starts, shared


def _stream(key: Key[Array, ""], stream: int) -> Key[Array, ""]:
    return jax.random.fold_in(key, 1_000 + stream) if stream else key


@functools.cache
def _hyper_names() -> set[str]:
    return set(StudentHyper.__dataclass_fields__)


def nets_of(
    group: Sequence[str], students: Mapping[str, Student], found: Trained, starts: Params, seed: Seed
) -> dict[str, Net]:
    """Return the networks of a group by their names."""

    def at(tree: Any, place: int) -> Any:
        return jax.tree.map(lambda leaf: leaf[place], tree)

    steps = first_step(students[group[0]], seed) + found.losses.shape[1]
    return {
        name: Net(at(found.params, place), at(starts, place), at(found.state, place), steps)
        for place, name in enumerate(group)
    }


def record(
    spec: Spec, config: Config, seed: Seed, before: Mapping[str, Array], drawn: dict[Any, Imitation]
) -> dict[str, Array]:
    """Return every measure of the students of one config and, from `before`, of the networks trained before them."""
    records, names = [], []
    for stage in stages(spec.students, seed.nets):
        later: dict[str, Net] = {}
        for group in groups_of(stage, spec.students, seed):
            found, starts, shared = trained(group, spec, config, seed, drawn)
            records.append(measured(spec, config, seed, found, starts, shared))
            names += group
            later |= nets_of(group, spec.students, found, starts, seed)
        seed = seed._replace(nets={**seed.nets, **later})
    places = jnp.array([names.index(name) for name in spec.students])
    whole = jax.tree.map(lambda *parts: jnp.concatenate(parts)[places], *records)
    return whole | {name: jnp.concatenate([before[name], whole[name]]) for name in before}


def measured(
    spec: Spec, config: Config, seed: Seed, found: Trained, starts: Params, shared: Mapping[str, Any]
) -> dict[str, Array]:
    """Return every measure of a group of students, along a leading axis."""
    its_config, its_hyper, one, data, choice = (
        shared[name] for name in ("config", "hyper", "student", "data", "choice")
    )
    batch = min(its_config.batch, data.n)
    epoch = -(-data.n // its_config.batch)
    values = {"imitation_loss": jnp.mean(found.losses[:, -epoch:], axis=1)}
    if config.every is not None:
        moments = found.recorded.shape[1]
        losses = found.losses[:, : moments * config.every].reshape(-1, moments, config.every)
        values |= {"accuracy_along": found.recorded, "imitation_loss_along": jnp.mean(losses, axis=2)}

    def measure(params: Params, start: Params, last: Any, mask: Array) -> dict[str, Array]:
        net = Net(params, start, last)
        network = linearised(seed.network, net.start) if one.linear else seed.network
        optimiser = imitation.optimiser_of(
            seed.network, net.start, its_config, its_hyper, one.own.get("optimiser"), one.frozen
        )
        of_example = imitation.example_loss(its_config, its_hyper, one.own, choice)

        def loss(z: Array, y: Array) -> Array:
            return of_example(z, y, mask, data.key, data.key)

        def first() -> Any:
            order, index = make_index(shared["order"], data.n, batch, data.endless)
            here, _ = index(order(jnp.asarray(0)), jnp.asarray(0))
            x, y = data.at(here)

            def mean(params: Params) -> Array:
                return jnp.mean(jax.vmap(loss)(networks.logits(network, params, x), y))

            return (x, y), optimiser.update(jax.grad(mean)(net.start), optimiser.init(net.start), net.start)[0]

        its_state = seed.state_of(
            net, one.teacher, network, data=data, mask=mask, loss=loss, optimiser=optimiser, first=first
        )
        return {name: of(its_state) for name, of in (*spec.measures.items(), *spec.of_students.items())}

    return values | jax.vmap(measure)(found.params, starts, found.state, choice.masks)
