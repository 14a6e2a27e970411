"""Run one seed of a study, for its record or its networks. They equal those of a run over many seeds, bit for bit."""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from subsim.engine import host
from subsim.engine.plan import Plan
from subsim.engine.program import Program, Records, as_partial
from subsim.engine.runner import Runner
from subsim.engine.simulate import begun
from subsim.engine.study import Precision, Run, Study, called
from subsim.engine.task import Task, make_task, whole_number
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
    """Return the record of one seed by name, with the dimensions of `simulate` but for the seed.

    The options are those of `simulate`, which gives the same numbers bit for bit. Raises `UserError` as it does.
    """
    task = make_task(study, config, hyper, sweep, root_seed, precision)
    return _one(task, task, seed)


def networks_of(study: Study, config: Any = None, hyper: Any = None, *, seed: int = 17, **options: Any) -> Any:
    """Return every network of one seed by name: the study's `make_networks` and `rebuild` build them from numpy arrays.

    `options` are those of `run_one`: `root_seed`, `precision` and `sweep`. Raises `UserError` as `simulate` does, and
    where the study has no `make_networks` or an axis has several values.
    """
    make_networks = study.make_networks
    if make_networks is None or study.on_host:
        raise UserError(f"The study {study.name} does not say what its networks are; declare its make_networks.")
    given = {"root_seed": 0, "precision": None, "sweep": None} | options
    task = make_task(study, config, hyper, **given)
    for axis in task.axes:
        choice = f"sweep={{{axis.name!r}: [{axis.values[0]!r}]}}"
        require(len(axis.values) == 1, f"sweep of {axis.name}: networks are those of one value; choose it by {choice}.")
    noted: dict[str, Any] = {}  # filled while the program is traced

    def make_run(config: Any, data: Any) -> Run:
        noted.update(config=config, data=data)
        run = as_partial(make_networks(config, data))
        return jax.tree_util.Partial(functools.partial(_arrays, study, noted), run)

    axes = [axis._replace(joint=False) for axis in task.axes]
    arrays_of = replace(study, run=None, make_run=make_run, make_joint_run=None, joint="")
    record = _one(task, task._replace(study=arrays_of, axes=axes), seed)
    leaves = [record[path][(0,) * len(axes)] for path in noted["paths"]]
    networks = jax.tree.unflatten(noted["structure"], leaves)
    return study.rebuild(noted["config"], noted["data"], networks) if study.rebuild else networks


def _arrays(study: Study, noted: dict[str, Any], run: Run, key: Any, hyper: Any) -> dict[str, Any]:
    """Return the arrays of all networks of one seed by their paths, and note the paths and the structure."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(study.named(called(run, key, hyper)))
    arrays = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
    noted.update(paths=list(arrays), structure=structure)
    return arrays


def _one(task: Task, of: Task, seed: int) -> Records:
    """Return the record of one seed of the task `of`, run with the plan of `task`."""
    seed = whole_number("seed", seed, least=0)
    if task.study.on_host:
        host.check(task.study, task.axes, task.root_seed, None)
    first, plan, mesh = begun(task)
    programs = [first if of is task else of.program(of.indices[0]), *map(of.program, of.indices[1:])]
    records = [_record(program, plan, mesh, seed) for program in programs]
    sizes = tuple(len(axis.values) for axis in of.alone)
    return {
        name: np.stack([record[name] for record in records]).reshape((*sizes, *value.shape))
        for name, value in records[0].items()
    }


def _record(program: Program, plan: Plan, mesh: Mesh, seed: int) -> Records:
    """Run one seed at its position in a run, beside the same neighbours: rounding may depend on the position."""
    runner = Runner(program, plan, mesh, lambda _: None)
    together = min(runner.plan.at_once * mesh.size, plan.chunk)
    *_, (_, records) = runner(np.arange(seed - seed % together, seed + 1))
    return {name: np.asarray(values[-1]) for name, values in records.items()}
