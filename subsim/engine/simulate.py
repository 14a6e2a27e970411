"""Run a study over its seeds: plan, compile, and for each missing chunk run and write."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jax.sharding import Mesh

from subsim.engine import host, identity, store
from subsim.engine.declaration import meaning
from subsim.engine.devices import local_mesh, require_precision
from subsim.engine.digests import digest
from subsim.engine.opening import opened
from subsim.engine.plan import Plan, devices_for, guess
from subsim.engine.program import Program
from subsim.engine.runner import Notice, Runner
from subsim.engine.shards import Shard
from subsim.engine.study import Precision, Study
from subsim.engine.task import Task, make_task, whole_number
from subsim.options import require

Progress = Callable[[int, int], None]  # (seeds finished, seeds asked for)


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
