"""Make the references of a seed, train them on the base task if there is one, and train the teachers."""

import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

from subsim.networks.network import Network, Params
from subsim.networks.parameters import rescaled
from subsim.training.loop import Training, first_update, train
from subsim.training.optimisers import steps_of
from subsim.transfer import students
from subsim.transfer.graph import ordered
from subsim.transfer.imitation import Task
from subsim.transfer.options import Config, Hyper
from subsim.transfer.roles import Teacher, started
from subsim.transfer.rule import rule_of
from subsim.transfer.seed import NAMES, Data, Net, Seed, Spec, first_step, params_of, state_before, stream
from subsim.transfer.state import Labelled, State
from subsim.transfer.traits import LABELS, Trait


def untaught(
    spec: Spec, config: Config, network: Network, n_class: int, data: Data, key: Array, hyper: Hyper
) -> tuple[Seed, Params]:
    """Return a seed with references and teachers but no students, and the first teacher at each of `teacher_steps`."""
    keys = dict(zip(("own", "other", "teacher", "inputs", "student"), jax.random.split(key, 5), strict=True))
    task = Labelled(data.train, data.test, n_class)
    nets = {}
    # Each seed draws an independent reference: a permutation of references among seeds may have fixed points.
    for name, key_of in zip(NAMES, ("own", "other"), strict=True):
        drawn = rescaled(network.init(keys[key_of]), hyper.init_scale)
        nets[name] = Net(drawn, drawn)
        if spec.base is not None:
            of_base = {"teacher": jax.random.fold_in(keys[key_of], 1)}
            alone = Seed(of_base, network, task, data, hyper, dict.fromkeys(NAMES, nets[name]))
            pretrained = train(*training_of(spec, config, alone, spec.base, "base")).params
            nets[name] = Net(pretrained, pretrained)
    seed = Seed(keys, network, task, data, hyper, nets)
    every = math.gcd(*spec.teacher_steps) or None
    stops: Params = ()
    for number, name in enumerate(ordered(spec.teachers, seed.nets)):
        training, steps = training_of(spec, config, seed, spec.teachers[name], "teacher")
        found = train(training, steps, every=every if number == 0 else None)
        steps += training.first_step
        net = Net(found.params, training.params, found.state, steps, training.batch, training.n_examples)
        seed = seed._replace(nets={**seed.nets, name: net})
        if every is not None and number == 0:
            stops_at = jnp.array(spec.teacher_steps) // every - 1
            stops = jax.tree.map(functools.partial(jnp.take, indices=stops_at, axis=0), found.recorded)
    return seed, stops


def training_of(
    spec: Spec, config: Config, seed: Seed, teacher: Teacher, part: Literal["base", "teacher"]
) -> tuple[Training, int]:
    """Return the training of a teacher, or of the base, and its number of steps; `part` names its options."""
    rule = rule_of(teacher, getattr(config, part), getattr(seed.hyper, part))
    trait, task = trait_of(spec, teacher, part, seed)
    training = students.on_labels(
        stream(seed, "teacher", teacher), seed.network, started(teacher, seed.network, params_of(seed)), task,
        seed.task.n_class, rule, teacher.own.get("loss", trait.loss),
    )  # fmt: skip
    first = first_step(teacher, seed, training.batch, training.n_examples)
    training = training._replace(state=state_before(teacher, seed), first_step=first)
    return training, steps_of(rule.config, training.n_examples)


def trait_of(spec: Spec, teacher: Teacher, part: str, seed: Seed) -> tuple[Trait, Task]:
    """Return the trait and the task of a teacher; without a trait of its own, the base learns the labels."""
    trait = teacher.trait or (spec.trait if part == "teacher" else LABELS)
    return trait, seed.data.train if trait == LABELS else seed.data.taught[spec.traits.index(trait)]


def state_of_teacher(spec: Spec, config: Config, seed: Seed, name: str) -> State:
    """Return the `State` of a teacher, the argument of measures."""
    training, _ = training_of(spec, config, seed, spec.teachers[name], "teacher")
    first = functools.partial(first_update, training)
    return seed.state_of(seed.nets[name], next(iter(spec.teachers)), optimiser=training.optimiser, first=first)
