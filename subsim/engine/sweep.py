"""Plan, compile and run a study over its seeds, chunk by chunk into its store."""

import contextlib
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from subsim.engine import provenance, store
from subsim.engine.axes import Axis, over, replaced
from subsim.engine.axes import arrays as axis_arrays
from subsim.engine.axes import make as make_axes
from subsim.engine.study import Precision, Run, Study
from subsim.options import UserError, require, require_choice

# What each precision asks of matrix products. By default a GPU or TPU would round float32 operands behind our back.
_MATMUL = {"float32": "highest", "bfloat16": "bfloat16", "float64": "highest"}
Progress = Callable[[int, int], None]  # (seeds finished, seeds asked for)


class Plan(NamedTuple):
    """How the seeds are cut: `chunk` seeds a call of the program, `lanes` of them side by side."""

    chunk: int
    lanes: int


@contextlib.contextmanager
def arithmetic(precision: Precision) -> Iterator[None]:
    """Run jax in `precision` inside the block, and as before outside it."""
    with jax.enable_x64(precision == "float64"), jax.default_matmul_precision(_MATMUL[precision]):
        yield


def plan(study: Study, seeds: int, chunk: int | None = None, width: int = 1) -> Plan:
    """Cut `seeds` into chunks, and chunks into rounds of lanes, of nearly equal size: few lanes idle.

    `chunk` overrides the study's own; `width` is how many values of traced axes share a lane. Every chunk has the same
    shape, whatever its number of seeds: one compile.
    """
    most = chunk or study.chunk
    chunk = math.ceil(seeds / math.ceil(seeds / most))
    # An accelerator's own scheduler spreads a wide program better than a loop of narrow ones.
    rounds = 1 if jax.default_backend() != "cpu" else math.ceil(chunk / max(1, study.lanes // width))
    lanes = math.ceil(chunk / rounds)
    return Plan(rounds * lanes, lanes)


def make_program(lanes: int, axes: Sequence[Axis] = ()) -> jax.stages.Wrapped:
    """The compiled program: record of each of `seeds`, shape (chunk,), along a leading axis, followed by `axes`.

    Seed i has the key fold_in(root, i) with i its global index: how seeds are cut cannot change their randomness. All
    values of an axis share their seed's key.
    """

    @jax.jit
    def program(run: Run, hyper: Any, values: Any, root: jax.Array, seeds: jax.Array) -> Any:
        def one(seed: jax.Array) -> Any:
            key = jax.random.fold_in(root, seed)
            return over(functools.partial(run, key), hyper, axes)(*values)

        return jax.lax.map(one, seeds, batch_size=None if lanes == 1 else lanes)

    return program


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
    progress: Progress | None = None,
) -> xr.Dataset:
    """Run `study` over seeds 0 .. `seeds` - 1 and return its labelled data set, with the dimension `seed` added.

    Args:
        study: what to run; `config`, `hyper`, `seeds` and `precision` override its defaults.
        root_seed: the key that every seed's own key is folded from.
        sweep: dotted names of options, each with the values that it takes: a dimension each. Options of the config cost
            one compile a value; numbers of the hyper run inside one program, and share what does not depend on them.
        out: folder for the results. Repeating the call with the same folder computes only the seeds it lacks; a folder
            that holds another config is refused. None: results stay in memory.
        chunk: seeds that one call of the compiled program runs, and that are written together.
        progress: called with (seeds finished, seeds asked for) at the start, after compiling and after every chunk;
            seeds are counted once for every value of the config's axes.

    Raises:
        UserError: an option is out of range, contradicts another, or `out` cannot be used.
    """
    seeds = study.seeds if seeds is None else seeds
    precision = precision or study.precision
    require(0 < seeds < 2**31, f"seeds is {seeds}; it must be at least 1 and less than 2^31.")
    require(chunk is None or chunk > 0, f"chunk is {chunk}; it must be at least 1.")
    require(0 <= root_seed < 2**32, f"root_seed is {root_seed}; it must lie in [0, 2^32).")
    require_choice("precision", precision, study.precisions)

    config = study.config if config is None else config
    hyper = study.hyper if hyper is None else hyper
    axes = make_axes(sweep or {}, config, hyper)
    static = [axis for axis in axes if not axis.traced]
    cut = plan(study, seeds, chunk, math.prod(len(axis.values) for axis in axes if axis.traced))
    # All values are checked before the first is run: a bad one at the end would cost the user the wait.
    configs = {place: _at(config, static, place) for place in np.ndindex(*(len(axis.values) for axis in static))}
    for chosen in configs.values():
        study.check(chosen, hyper)
        for axis in axes:
            for value in axis.values if axis.traced else ():
                study.check(chosen, replaced(hyper, axis.name, value))

    first_place = next(iter(configs))
    prepared = prepare(study, configs[first_place], hyper, axes, root_seed, precision, cut)
    shapes = prepared.record
    identity = provenance.identity(study, config, hyper, axes, root_seed, precision, prepared.data)
    template = store.template(study, shapes, identity, axes, seeds)
    results = store.open_store(out, template, [axis.name for axis in static], cut.chunk)
    missing = {place: results.missing(seeds, place) for place in configs}
    asked = seeds * len(configs)
    done = asked - sum(map(len, missing.values()))
    if progress:
        progress(done, asked)
    for place, chosen in configs.items():
        if len(missing[place]) > 0 and place != first_place:
            prepared = prepare(study, chosen, hyper, axes, root_seed, precision, cut)
            require(prepared.record == shapes, "sweep: the values of an axis must leave the record's shapes alone.")
        if len(missing[place]) > 0:
            with arithmetic(precision):
                program = prepared.program.lower().compile()
            if progress:
                progress(done, asked)
        for wanted in _contiguous(missing[place], cut.chunk):
            # The last chunk repeats seeds to keep the one compiled shape; the repeats are not written.
            padded = np.resize(wanted, cut.chunk).astype(np.uint32)
            with arithmetic(precision):
                record = jax.device_get(_named(program(*prepared.arguments, padded)))
            results.write(int(wanted[0]), place, {name: values[: len(wanted)] for name, values in record.items()})
            done += len(wanted)
            if progress:
                progress(done, asked)
    return results.dataset(seeds)


def _at(config: Any, axes: Sequence[Axis], place: tuple[int, ...]) -> Any:
    """`config` with the values of `axes` at these numbers."""
    for axis, number in zip(axes, place, strict=True):
        config = replaced(config, axis.name, axis.values[number])
    return config


class Prepared(NamedTuple):
    """A config before its first seed: the traced program, its arguments but for the seeds, the shape of one seed's
    record by name, and the data."""

    program: jax.stages.Traced
    arguments: tuple[Any, ...]
    record: dict[str, jax.ShapeDtypeStruct]
    data: Any


def prepare(
    study: Study, config: Any, hyper: Any, axes: Sequence[Axis], root_seed: int, precision: Precision, cut: Plan
) -> Prepared:
    """Load the data and trace the program, once: the record's shapes come from the trace that is compiled."""
    traced = [axis for axis in axes if axis.traced]
    for axis in traced:
        # An option that is None by default has no place among the numbers until it has a value.
        hyper = replaced(hyper, axis.name, axis.values[0])
    data = study.load(config)
    with arithmetic(precision):
        run = study.make_run(config, data)
        if not isinstance(run, jax.tree_util.Partial):
            run = jax.tree_util.Partial(run)
        run, hyper = jax.tree.map(jnp.asarray, (run, hyper))
        arguments = (run, hyper, axis_arrays(traced, hyper), jax.random.key(root_seed))
        program = make_program(cut.lanes, traced).trace(*arguments, np.zeros(cut.chunk, np.uint32))
    record = {
        name: jax.ShapeDtypeStruct(value.shape[1:], value.dtype) for name, value in _named(program.out_info).items()
    }
    return Prepared(program, arguments, record, data)


def _contiguous(seeds: np.ndarray, most: int) -> list[np.ndarray]:
    """Sorted `seeds` cut at every gap, and then into pieces of at most `most`."""
    stretches = np.split(seeds, np.flatnonzero(np.diff(seeds) > 1) + 1)
    return [stretch[first : first + most] for stretch in stretches for first in range(0, len(stretch), most)]


def _named(record: Any) -> dict[str, Any]:
    """The record as a dictionary, whether the study returns one or a NamedTuple."""
    if hasattr(record, "_asdict"):
        record = record._asdict()
    if not isinstance(record, dict):
        raise UserError("The study's run must return a dict or a NamedTuple of arrays: its record of one seed.")
    return record
