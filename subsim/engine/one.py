"""One seed of a study: its record and its networks, bit for bit those of a run over many seeds."""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from subsim.engine import host
from subsim.engine.plan import Plan
from subsim.engine.program import Program, Records, trace
from subsim.engine.runner import Runner
from subsim.engine.simulate import begun, make_task, whole_number
from subsim.engine.study import Precision, Run, Study, called
from subsim.options import UserError, require


def run_one(
    study: Study,
    config: Any = None,
    hyper: Any = None,
    *,
    seed: int = 17,
    root_seed: int = 0,
    precision: Precision | None = None,
    sweep: Mapping[str, Iterable[Any]] | None = None,
) -> Records:
    """Return the record of one seed by name, with the dimensions that `simulate` gives it beside the seed.

    The options are those of `simulate`, which gives the same numbers bit for bit. Raises `UserError` as it does.
    """
    seed, root_seed = (whole_number(*number, least=0) for number in (("seed", seed), ("root_seed", root_seed)))
    task = make_task(study, config, hyper, sweep, root_seed, precision)
    if study.on_host:
        host.check(study, task.axes, root_seed, None)
    first, plan, mesh = begun(task)
    programs = [first, *map(task.program, task.indices[1:])]
    records = [_record(program, plan, mesh, seed) for program in programs]
    sizes = tuple(len(axis.values) for axis in task.alone)
    return {
        name: np.stack([record[name] for record in records]).reshape((*sizes, *np.shape(value)))
        for name, value in records[0].items()
    }


def networks_of(
    study: Study,
    config: Any = None,
    hyper: Any = None,
    *,
    seed: int = 17,
    root_seed: int = 0,
    precision: Precision | None = None,
    sweep: Mapping[str, Iterable[Any]] | None = None,
) -> dict[str, Any]:
    """Return every network of one seed by name, as the study's `make_networks` and `rebuild` give it, of numpy arrays.

    The options are those of `simulate`, and as many seeds advance side by side. Raises `UserError` as it does, and
    where the study has no `make_networks` or one of its axes has several values.
    """
    seed, root_seed = (whole_number(*number, least=0) for number in (("seed", seed), ("root_seed", root_seed)))
    make_networks = study.make_networks
    if make_networks is None or study.on_host:
        raise UserError(f"The study {study.name} does not say what its networks are; declare its make_networks.")
    task = make_task(study, config, hyper, sweep, root_seed, precision)
    for axis in task.axes:
        choice = f"sweep={{{axis.name!r}: [{axis.values[0]!r}]}}"
        require(len(axis.values) == 1, f"sweep of {axis.name}: networks are those of one value; choose it by {choice}.")
    [chosen] = task.configs_at(task.indices[0])
    load = functools.cache(functools.partial(study.load, chosen))
    found: list[Any] = []  # what the trace notes of the networks: the paths of their arrays, and their structure

    def make_run(config: Any, data: Any) -> Run:
        run = make_networks(config, data)
        run = run if isinstance(run, jax.tree_util.Partial) else jax.tree_util.Partial(run)
        return jax.tree_util.Partial(functools.partial(_arrays, study, found), run)

    study = replace(study, load=lambda _: load())
    _, plan, mesh = begun(task._replace(study=study))
    study = replace(study, run=None, make_run=make_run)
    traced = [axis for axis in task.axes if axis.traced]
    program = trace(study, [chosen], task.hyper, traced, root_seed, task.precision)
    record = _record(program, plan, mesh, seed)
    paths, structure = found
    leaves = [np.reshape(record[path], record[path].shape[len(traced) :]) for path in paths]
    networks = jax.tree.unflatten(structure, leaves)
    return study.rebuild(chosen, load(), networks) if study.rebuild else networks


def _arrays(study: Study, found: list[Any], run: Run, key: Any, hyper: Any) -> dict[str, Any]:
    """Return the arrays of all networks of one seed by their paths, and note the paths and the structure in `found`."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(study.named(called(run, key, hyper)))
    arrays = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
    found[:] = [list(arrays), structure]
    return arrays


def _record(program: Program, plan: Plan, mesh: Mesh, seed: int) -> Records:
    """Return the record of one seed, which lies among its neighbours as in a run: a compiler may round by the place."""
    if program.traced is None:
        return program.one(*program.arguments, seed)
    runner = Runner(program, plan, mesh, lambda _: None)
    together = runner.plan.at_once * mesh.size
    *_, (_, records) = runner(np.arange(seed - seed % together, seed + 1))
    return {name: np.asarray(values[-1]) for name, values in records.items()}
