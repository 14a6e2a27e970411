"""Run a study over its seeds: plan, compile, and for each missing chunk run and write."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from jax.sharding import Mesh

from subsim.engine import host, identity, integrity, shards, store
from subsim.engine.axes import Axis, configs
from subsim.engine.axes import make as make_axes
from subsim.engine.declaration import meaning
from subsim.engine.devices import local_mesh, require_precision
from subsim.engine.digests import digest
from subsim.engine.plan import Plan, devices_for, guess
from subsim.engine.program import Program, trace
from subsim.engine.runner import Notice, Runner
from subsim.engine.shards import Shard
from subsim.engine.store import Index
from subsim.engine.study import Precision, Study
from subsim.options import replaced, require, require_choice

Progress = Callable[[int, int], None]  # (seeds finished, seeds asked for)


class Task(NamedTuple):
    """The checked options of a run, which decide its programs."""

    study: Study
    config: Any
    hyper: Any
    axes: list[Axis]
    root_seed: int
    precision: Precision

    @property
    def alone(self) -> list[Axis]:
        """The axes whose values each have a program of their own."""
        return [axis for axis in self.axes if axis.alone]

    @property
    def indices(self) -> list[Index]:
        """One index for each program."""
        return list(np.ndindex(*(len(axis.values) for axis in self.alone)))

    def configs_at(self, index: Index) -> list[Any]:
        """Return the configs of the program at `index`; they differ along the joint axes."""
        one = self.config
        for axis, number in zip(self.alone, index, strict=True):
            one = replaced(one, axis.name, axis.values[number])
        return list(configs(one, (axis for axis in self.axes if axis.joint)).values())

    def program(self, index: Index) -> Program:
        """Trace the program at `index`."""
        return trace(self.study, self.configs_at(index), self.hyper, self.axes, self.root_seed, self.precision)

    def place(self, index: Index) -> str:
        """Return the index in words, under which a store keeps the program's record."""
        return ", ".join(f"{axis.name}={axis.labels[at]}" for axis, at in zip(self.alone, index, strict=True))


def make_task(
    study: Study,
    config: Any,
    hyper: Any,
    sweep: Mapping[str, Iterable[Any]] | None,
    root_seed: Any,
    precision: Precision | None,
) -> Task:
    """Check every option and every value of every axis, before any is run; raises `UserError` for a bad one."""
    root_seed = whole_number("root_seed", root_seed, least=0, bits=32)
    precision = precision or study.precision
    require_choice("precision", precision, study.precisions)
    config = study.config if config is None else config
    hyper = study.hyper if hyper is None else hyper
    study.refuse_overruled(sweep, config, hyper)
    axes = make_axes(study.sweep(sweep), config, hyper, study.joint)
    for chosen in configs(config, (axis for axis in axes if not axis.traced)).values():
        study.check(chosen, hyper)
        for axis in axes:
            for value in axis.values if axis.traced else ():
                study.check(chosen, replaced(hyper, axis.name, value))
    return Task(study, config, hyper, axes, root_seed, precision)


def whole_number(name: str, value: Any, least: int = 1, bits: int = 31) -> int:
    """Return `value`; raises `UserError` where it is no whole number of at least `least` and less than 2^`bits`."""
    fits = isinstance(value, int | np.integer) and not isinstance(value, bool) and least <= int(value) < 2**bits
    require(fits, f"{name} is {value!r}; it must be a whole number, at least {least} and less than 2^{bits}.")
    return int(value)


def simulate(
    study: Study,
    config: Any = None,
    hyper: Any = None,
    *,
    seeds: int | None = None,
    root_seed: int = 0,
    precision: Precision | None = None,
    sweep: Mapping[str, Iterable[Any]] | None = None,
    out: str | Path | None = None,
    chunk: int | None = None,
    shard: Shard | None = None,
    repair: bool = False,
    in_memory: int | None = None,
    progress: Progress | None = None,
    notice: Notice | None = None,
) -> xr.Dataset:
    """Run `study` over seeds 0 .. `seeds` - 1 and return its labelled data set, with the dimension `seed` added.

    Args:
        study: what to run; `config`, `hyper`, `seeds` and `precision` override its defaults.
        root_seed: the key that every seed's own key is folded from.
        sweep: dotted names of options, each with its values: one dimension each, beside the study's own axes or in
            place of their values. All values of a hyper number run in one program, and share whatever does not depend
            on them. So do the options of the study's joint group. Every other value of the config costs a compile.
        out: folder for the results. Repeating the call with the same folder computes only the seeds it lacks; a folder
            that holds another run is refused. None keeps the results in memory.
        chunk: seeds in one file of the results, and the most that one call runs. None keeps the chunk of existing
            results, and otherwise guesses it from the cost of a seed.
        shard: this process's part of the run. Other processes run theirs by the same call, at any time.
        repair: compute the seeds of chunks that are damaged in `out` again.
        in_memory: the most bytes of results that are returned in memory. Larger results stay in `out` and are read
            where they are used. None: no limit.
        progress: called with (seeds finished, seeds asked for) at the start and after every call of a program. A shard
            counts its own seeds. A seed counts once for each program.
        notice: called with the size of a chunk in words, when it is chosen and whenever it changes.

    Raises:
        UserError: an option is out of range, contradicts another, or `out` cannot be used, is in use, or is damaged.
    """
    seeds = whole_number("seeds", study.seeds if seeds is None else seeds)
    chunk = None if chunk is None else whole_number("chunk", chunk)
    shard = shard or Shard()
    require(1 <= shard.number <= shard.total, f"shard is {shard}; the first number must lie in 1 .. {shard.total}.")
    require(shard.total == 1 or out is not None, "out: several shards need a folder that they share.")
    task = make_task(study, config, hyper, sweep, root_seed, precision)
    if study.on_host:
        host.check(study, task.axes, root_seed, chunk)

    def say(words: str) -> None:
        if notice and words:
            notice(words)

    first, plan, mesh = begun(task, chunk)
    with opened(task, first, plan, out, seeds, shard, repair) as results:
        if chunk is None:
            plan = guess(first.cost, mesh, results.chunk)
        origin = identity.origin(mesh)
        results.keep_origin(digest(origin | {"created": None})[:8], origin)
        missing = {
            index: shard.part(results.missing(seeds, index), results.chunk, number)
            for number, index in enumerate(task.indices)
        }
        asked = sum(len(shard.part(np.arange(seeds), results.chunk, number)) for number in range(len(task.indices)))
        done = asked - sum(map(len, missing.values()))

        def report() -> None:
            if progress:
                progress(done, asked)

        report()
        meant = {} if out is None else meaning(study)
        for index in task.indices:
            # The program is traced even where no seed is missing, to check that it made the results.
            program = first if index == task.indices[0] else task.program(index)
            require(
                program.record == first.record, "sweep: the values of an axis must leave the record's shapes alone."
            )
            if isinstance(results, store.Disk):
                record = identity.program_record(program, task.place(index), meant, mesh)
                say(identity.recognise(record, list(results.programs.values()), out))
                results.keep_program(identity.record_key(record), record)
            if len(missing[index]) == 0:
                continue
            runner = Runner(program, plan, mesh, say)
            report()
            for piece, records in runner(missing[index]):
                results.write(int(piece[0]), index, records)
                done += len(piece)
                report()
            # The next program starts with the seeds at once that fitted the memory.
            plan = runner.plan
        return results.dataset(seeds, None if out is None else in_memory)


def begun(task: Task, chunk: int | None = None) -> tuple[Program, Plan, Mesh]:
    """Return the first program of a run, the plan of all of them, and the devices that they run on."""
    mesh = local_mesh()  # before the trace, which starts jax
    require_precision(task.precision, mesh)
    first = task.program(task.indices[0])
    mesh = devices_for(first.cost, mesh)
    return first, guess(first.cost, mesh, chunk or task.study.chunk), mesh


@contextlib.contextmanager
def opened(
    task: Task, program: Program, plan: Plan, out: str | Path | None, seeds: int, shard: Shard, repair: bool
) -> Iterator[store.Memory]:
    """Open or make the store of this run in folder `out`, with room for `seeds` seeds; None keeps results in memory.

    Raises `UserError` where `out` cannot be written, is in use, is damaged, or holds
    another run.
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
