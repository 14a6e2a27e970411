"""Plan and run a study over its seeds, chunk by chunk into its store."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from subsim.engine import chunks, host, provenance, store
from subsim.engine.axes import Axis, configs
from subsim.engine.axes import make as make_axes
from subsim.engine.chunks import Notice, Runner
from subsim.engine.devices import local_mesh
from subsim.engine.joint import UNLIKE, Configs
from subsim.engine.program import Plan, trace
from subsim.engine.study import Precision, Study
from subsim.engine.team import Team
from subsim.options import replaced, require, require_choice

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
    repair: bool = False,
    in_memory: int | None = None,
    progress: Progress | None = None,
    notice: Notice | None = None,
    team: Team | None = None,
) -> xr.Dataset:
    """Run `study` over seeds 0 .. `seeds` - 1 and return its labelled data set, with the dimension `seed` added.

    Args:
        study: what to run; `config`, `hyper`, `seeds` and `precision` override its defaults.
        root_seed: the key that every seed's own key is folded from.
        sweep: dotted names of options, each with the values that it takes, beside the study's own axes or in place of
            their values: a dimension each. Numbers of the hyper run inside one program, and share what does not depend
            on them; so do options of the config where there is work to share, such as a teacher's training among
            options of its students. Of other options of the config, each value costs a compile.
        out: folder for the results. Repeating the call with the same folder computes only the seeds it lacks; a folder
            that holds another config is refused. None: results stay in memory.
        chunk: seeds that one call of the compiled program runs, and that are written together. None: measured and
            chosen where that pays, and kept when the run is continued.
        repair: mend what is damaged in `out`, and compute the seeds that were lost again.
        in_memory: bytes of results that are returned in memory; more stay in `out` and are read where they are used.
            None: however many.
        progress: called with (seeds finished, seeds asked for) at the start, after compiling and after every chunk;
            seeds are counted once for every program. Of several processes, the first calls it, for all.
        notice: called with the size of a chunk in words, when it is chosen and whenever it changes.
        team: the processes that share the work, this one among them (`hosts.joined`): each runs its part, waits for the
            others and returns all of the results.

    Raises:
        UserError: an option is out of range, contradicts another, or `out` cannot be used, is in use, or is damaged.
    """
    seeds = study.seeds if seeds is None else seeds
    precision = precision or study.precision
    require(0 < seeds < 2**31, f"seeds is {seeds}; it must be at least 1 and less than 2^31.")
    require(chunk is None or chunk > 0, f"chunk is {chunk}; it must be at least 1.")
    require(0 <= root_seed < 2**32, f"root_seed is {root_seed}; it must lie in [0, 2^32).")
    require_choice("precision", precision, study.precisions)
    require(team is None or out is not None, "out: several processes need a folder that they share.")

    config = study.config if config is None else config
    hyper = study.hyper if hyper is None else hyper
    study.refuse_overruled(sweep, config, hyper)
    axes = make_axes(study.sweep(sweep), config, hyper)
    if study.on_host:
        host.check(study, axes, root_seed, chunk)
    check_all(study, config, hyper, axes)
    each = Configs(study, config, hyper, axes, root_seed, precision)
    mesh = local_mesh()
    work = team.awaited(seeds) if team else None
    first_place, first_config = next(iter(each.places.items()))
    prepared = each.prepared(first_place)
    cut = store.kept_plan(out, mesh.size) if chunk is None else None
    if study.on_host:
        cut = Plan(1, 1)
    elif cut is None:
        # A store that is there has its blocks, which processes do not divide.
        processes = team.processes if team and not store.exists(out) else 1
        wanted_chunk = work.chunk if work else chunk
        cut = chunks.first_plan(study, prepared, mesh, seeds, wanted_chunk, processes=processes)
    program = trace(prepared, cut, mesh)
    shapes = program.record
    identity = provenance.identity(study, config, hyper, axes, root_seed, precision, prepared.data)
    template = store.template(study, first_config, shapes, identity, each.axes, seeds)
    alone = [axis.name for axis in each.axes if axis.alone]
    with store.open_store(out, template, alone, cut, repair, team.process if team else 0) as results:
        missing = {place: results.missing(seeds, place) for place in each.places}
        asked = seeds * len(each.places)
        done = asked - sum(map(len, missing.values()))
        # Processes that share the work must agree on the chunk before the first of them has measured anything.
        tune = chunk is None and done == 0 and team is None and not study.on_host
        if team:
            missing = team.share(missing, seeds, cut.chunk, results.block, work)

        def report() -> None:
            if progress and (team is None or team.first):
                progress(done + (team.finished if team else 0), asked)

        report()
        for place in each.places:
            if len(missing[place]) == 0:
                continue
            if place != first_place:
                prepared = each.prepared(place)
                program = trace(prepared, cut, mesh)
                require(program.record == shapes, UNLIKE)
            runner = Runner(prepared, cut, program, notice)
            report()
            if tune:
                runner = runner.tuned(missing[place])
                cut, tune = runner.plan, False
                results.keep_plan(cut)
            for wanted in _contiguous(missing[place], cut.chunk):
                results.write(int(wanted[0]), place, runner(wanted))
                if team:
                    team.count(len(wanted))
                else:
                    done += len(wanted)
                report()
            # Halved, where memory ran out; the next config need not run out of it again.
            cut = runner.plan
        if team:
            team.finish(report)
        return results.dataset(seeds, None if out is None else in_memory)


def check_all(study: Study, config: Any, hyper: Any, axes: Sequence[Axis]) -> None:
    """Check every value of every axis before the first is run: a bad one at the end would cost the user the wait."""
    for chosen in configs(config, (axis for axis in axes if not axis.traced)).values():
        study.check(chosen, hyper)
        for axis in axes:
            for value in axis.values if axis.traced else ():
                study.check(chosen, replaced(hyper, axis.name, value))


def _contiguous(seeds: np.ndarray, most: int) -> list[np.ndarray]:
    """Sorted `seeds` cut at every gap, and then into pieces of at most `most`."""
    stretches = np.split(seeds, np.flatnonzero(np.diff(seeds) > 1) + 1)
    return [stretch[first : first + most] for stretch in stretches for first in range(0, len(stretch), most)]
