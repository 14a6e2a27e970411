"""Open the store of a run in its folder: make it, or check that it is whole and holds this run."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from subsim.engine import identity, integrity, shards, store
from subsim.engine.plan import Plan
from subsim.engine.program import Program
from subsim.engine.shards import Shard
from subsim.engine.task import Task
from subsim.options import require


@contextlib.contextmanager
def opened(
    task: Task, program: Program, plan: Plan, out: str | Path | None, seeds: int, shard: Shard, repair: bool
) -> Iterator[store.Memory]:
    """Open or make the store of this run in folder `out`, with room for `seeds` seeds; None keeps results in memory.

    Raises `UserError` where `out` cannot be written, is in use, is damaged, or holds another run.
    """
    labels, inner = labels_of(task, program)
    study = task.study
    attributes = identity.declared(study, task.config, task.hyper, task.axes, labels, task.root_seed, task.precision)
    attributes |= {"chunk": plan.chunk, "study_file": study.declared.rpartition(", line ")[0]}
    alone = [axis.name for axis in task.alone]
    meanings = {name: study.variable(name, value.ndim - len(inner)) for name, value in program.record.items()}
    made = store.template(study.title, meanings, program.record, labels, alone, inner, attributes, plan.chunk)
    if out is None:
        yield store.Memory(made, seeds)
        return
    folder = Path(out)
    with shards.held(folder, shard):
        with shards.alone(folder):
            if not store.exists(folder):
                store.make(folder / store.FILE, made)
            _make_ready(folder, attributes, seeds, repair, alone=not shards.others_at_work(folder, shard))
        yield store.Disk(folder / store.FILE)


def _make_ready(folder: Path, declared: Mapping[str, Any], seeds: int, repair: bool, alone: bool) -> None:
    """Check that the store in `folder` is whole and holds the run `declared`, and make room for `seeds` seeds.

    `alone` says that no other shard is at work in it.
    """
    target = folder / store.FILE
    damaged = integrity.damages(target)
    words = identity.differences(store.attributes(target), declared, identity.DECLARED)
    require(
        not words,
        f"out: {folder} holds another run, with {words}; choose another folder with --out, or remove this one.",
    )
    if damaged and repair:
        require(alone, f"repair: another shard is at work in {folder}; repair it when that has ended.")
        with store.refusals(target):
            integrity.discard(target, damaged)
    else:
        integrity.require_whole(target, damaged)
    for unfinished in target.rglob("*.partial") if alone else ():  # left by a kill in the midst of a write
        unfinished.unlink()
    store.make_room(target, seeds)


def labels_of(task: Task, program: Program) -> tuple[dict[str, Sequence[Any]], list[str]]:
    """Return the labels of every dimension but the seed, and the names of the axes inside the program.

    Raises `UserError` where the study's variables and coords do not fit its record.
    """
    study, config = task.study, task.configs_at(task.indices[0])[0]
    inner = [axis for axis in task.axes if not axis.alone]
    labels: dict[str, Sequence[Any]] = {axis.name: axis.labels for axis in task.axes}
    sizes: dict[str, int] = {}
    for name, value in program.record.items():
        shape = value.shape[len(inner) :]
        dims = study.variable(name, len(shape)).dims
        study.require(len(dims) == len(shape), f"variable {name!r} has dims {dims}, but its values have shape {shape}")
        for dim, size in zip(dims, shape, strict=True):
            study.require(dim not in labels, f"the dimension {dim!r} of {name!r} is the name of an axis, too")
            study.require(dim not in program.record, f"the dimension {dim!r} of {name!r} is in the record, too")
            study.require(
                sizes.setdefault(dim, size) == size, f"{dim!r} has {size} places in {name!r} and {sizes[dim]} before"
            )
    named = {}
    for dim, size in sizes.items():
        if dim in study.coords:
            given = study.coords[dim]
            named[dim] = list(given(config, size) if callable(given) else given)
            study.require(
                len(named[dim]) == size, f"coords give {dim!r} {len(named[dim])} labels, but it has {size} places"
            )
    return labels | named, [axis.name for axis in inner]
