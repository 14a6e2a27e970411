"""Run one seed of the experiment: train reference, teachers and students, and measure them."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array

from subsim.networks.network import Network, Params
from subsim.options import require
from subsim.transfer.graph import stages
from subsim.transfer.groups import Drawn, groups_of, measured, trained
from subsim.transfer.imitation import stack
from subsim.transfer.options import Config, Hyper
from subsim.transfer.seed import NAMES, Data, Net, Seed, Spec
from subsim.transfer.teachers import state_of_teacher, untaught


def run(
    spec: Spec, configs: Sequence[Config], network: Network, n_class: int, data: Data, key: Array, hyper: Hyper
) -> dict[str, Array]:
    """Return every measure of reference, teachers and students of one seed, for each of `configs`.

    The configs differ only in the students' options and share their teachers. The record has a leading axis of configs,
    then an axis of `spec.teacher_steps` if there are any.
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
    index = jnp.array([order.index(name) for name in spec.students])
    whole = jax.tree.map(lambda *parts: jnp.concatenate(parts)[index], *records)
    return whole | {name: jnp.concatenate([before[name], whole[name]]) for name in before}
