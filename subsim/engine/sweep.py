"""Plan, compile and run a study over its seeds, chunk by chunk into its store."""

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from subsim.engine import store
from subsim.engine.provenance import identity
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


def plan(study: Study, seeds: int, chunk: int | None = None) -> Plan:
    """Cut `seeds` into chunks, and chunks into rounds of lanes, of nearly equal size: few lanes idle.

    `chunk` overrides the study's own. Every chunk has the same shape, whatever its number of seeds: one compile.
    """
    most = chunk or study.chunk
    chunk = math.ceil(seeds / math.ceil(seeds / most))
    # An accelerator's own scheduler spreads a wide program better than a loop of narrow ones.
    rounds = 1 if jax.default_backend() != "cpu" else math.ceil(chunk / study.lanes)
    lanes = math.ceil(chunk / rounds)
    return Plan(rounds * lanes, lanes)


def make_program(lanes: int) -> jax.stages.Wrapped:
    """The compiled program: record of each of `seeds`, shape (chunk,), along a leading axis.

    Seed i has the key fold_in(root, i) with i its global index: how seeds are cut cannot change their randomness.
    """

    @jax.jit
    def program(run: Run, hyper: Any, root: jax.Array, seeds: jax.Array) -> Any:
        def one(seed: jax.Array) -> Any:
            return run(jax.random.fold_in(root, seed), hyper)

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
    out: str | Path | None = None,
    chunk: int | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Run `study` over seeds 0 .. `seeds` - 1 and return its labelled data set, with one dimension `seed` added.

    Args:
        study: what to run; `config`, `hyper`, `seeds` and `precision` override its defaults.
        root_seed: the key that every seed's own key is folded from.
        out: folder for the results. Repeating the call with the same folder computes only the seeds it lacks; a folder
            that holds another config is refused. None: results stay in memory.
        chunk: seeds that one call of the compiled program runs, and that are written together.
        progress: called with (seeds finished, seeds asked for) at the start and after every chunk.

    Raises:
        UserError: an option is out of range, contradicts another, or `out` cannot be used.
    """
    seeds = study.seeds if seeds is None else seeds
    precision = precision or study.precision
    require(0 < seeds < 2**31, f"seeds is {seeds}; it must be at least 1 and less than 2^31.")
    require(chunk is None or chunk > 0, f"chunk is {chunk}; it must be at least 1.")
    require(0 <= root_seed < 2**32, f"root_seed is {root_seed}; it must lie in [0, 2^32).")
    require_choice("precision", precision, study.precisions)

    cut = plan(study, seeds, chunk)
    prepared = prepare(study, config, hyper, root_seed, precision, cut)
    template = store.template(study, prepared.record, prepared.identity, seeds)
    results = store.open_store(out, template, cut.chunk)
    missing = results.missing(seeds)
    done = seeds - len(missing)
    if progress:
        progress(done, seeds)
    if done < seeds:
        with arithmetic(precision):
            program = prepared.program.lower().compile()
            for wanted in _contiguous(missing, cut.chunk):
                # The last chunk repeats seeds to keep the one compiled shape; the repeats are not written.
                record = jax.device_get(program(*prepared.arguments, np.resize(wanted, cut.chunk).astype(np.uint32)))
                results.write(int(wanted[0]), {name: values[: len(wanted)] for name, values in _named(record).items()})
                done += len(wanted)
                if progress:
                    progress(done, seeds)
    return results.dataset(seeds)


class Prepared(NamedTuple):
    """A run before its first seed: the traced program, its arguments but for the seeds, the shape of one seed's
    record by name, and all that the values depend on."""

    program: jax.stages.Traced
    arguments: tuple[Any, ...]
    record: dict[str, jax.ShapeDtypeStruct]
    identity: dict[str, Any]


def prepare(study: Study, config: Any, hyper: Any, root_seed: int, precision: Precision, cut: Plan) -> Prepared:
    """Load the data and trace the program, once: the record's shapes come from the trace that is compiled."""
    config = study.config if config is None else config
    hyper = study.hyper if hyper is None else hyper
    study.check(config, hyper)
    data = study.load(config)
    with arithmetic(precision):
        run = study.make_run(config, data)
        if not isinstance(run, jax.tree_util.Partial):
            run = jax.tree_util.Partial(run)
        arguments = (*jax.tree.map(jnp.asarray, (run, hyper)), jax.random.key(root_seed))
        program = make_program(cut.lanes).trace(*arguments, np.zeros(cut.chunk, np.uint32))
    record = {
        name: jax.ShapeDtypeStruct(value.shape[1:], value.dtype) for name, value in _named(program.out_info).items()
    }
    return Prepared(program, arguments, record, identity(study, config, hyper, root_seed, precision, data))


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
