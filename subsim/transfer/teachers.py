"""The networks before all students: references, the base that both may be trained on, and teachers."""

import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

from subsim.networks.network import Network, Params
from subsim.networks.parameters import rescaled
from subsim.options import overridden
from subsim.training.loop import Trained, first_update
from subsim.transfer import students
from subsim.transfer.graph import ordered
from subsim.transfer.imitation import Task
from subsim.transfer.options import Config, Hyper, with_own
from subsim.transfer.roles import Teacher, started
from subsim.transfer.seed import NAMES, Data, Net, Seed, Spec, first_step, params_of, state_before
from subsim.transfer.state import Labelled, State
from subsim.transfer.traits import LABELS, Trait


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
            of_base = {"teacher": jax.random.fold_in(keys[key_of], 1)}
            alone = Seed(of_base, network, task, data, hyper, dict.fromkeys(NAMES, nets[name]))
            pretrained = teach(spec, config, alone, spec.base, "base").params
            nets[name] = Net(pretrained, pretrained)
    seed = Seed(keys, network, task, data, hyper, nets)
    every = math.gcd(*spec.teacher_steps) or None
    stops: Params = ()
    for number, name in enumerate(ordered(spec.teachers, seed.nets)):
        role = spec.teachers[name]
        found = teach(spec, config, seed, role, "teacher", every if number == 0 else None)
        batch, n = overridden(config.teacher, role.options).batch, len(trait_of(spec, role, "teacher", seed)[1].labels)
        steps = first_step(role, seed, batch, n) + len(found.losses)
        net = Net(found.params, started(role, network, params_of(seed)), found.state, steps, batch, n)
        seed = seed._replace(nets={**seed.nets, name: net})
        if every is not None and number == 0:
            places = jnp.array(spec.teacher_steps) // every - 1
            stops = jax.tree.map(functools.partial(jnp.take, indices=places, axis=0), found.recorded)
    return seed, stops


def teach(
    spec: Spec, config: Config, seed: Seed, teacher: Teacher, part: Literal["base", "teacher"], every: int | None = None
) -> Trained:
    """Train a teacher, or the base of all, with the options of this part of the config."""
    its_config, its_hyper = with_own(getattr(config, part), getattr(seed.hyper, part), teacher.options)
    trait, task = trait_of(spec, teacher, part, seed)
    return students.train_teacher(
        seed.keys["teacher"], seed.network, started(teacher, seed.network, params_of(seed)), task, seed.task.n_class,
        its_config, its_hyper, loss=teacher.own.get("loss", trait.loss), optimiser=teacher.own.get("optimiser"),
        frozen=teacher.frozen, every=every, state=state_before(teacher, seed),
        first_step=first_step(teacher, seed, its_config.batch, len(task.labels)),
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
    optimiser = students.optimiser_of(
        seed.network, net.start, its_config, its_hyper, teacher.own.get("optimiser"), teacher.frozen
    )

    def first() -> Any:
        examples, losses = students.labelled(seed.network, task, seed.task.n_class, loss)
        n, batch = len(task.labels), its_config.batch
        return first_update(
            seed.keys["teacher"], net.start, losses, examples, n, optimiser, batch=batch,
            state=state_before(teacher, seed), first_step=first_step(teacher, seed, batch, n),
        )  # fmt: skip

    return seed.state_of(net, next(iter(spec.teachers)), optimiser=optimiser, first=first)
