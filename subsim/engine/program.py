"""The compiled program of a study: one trace a config, lanes of seeds side by side, seeds sharded over devices."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from subsim.engine import host
from subsim.engine.axes import Axis, over
from subsim.engine.axes import arrays as axis_arrays
from subsim.engine.counts import matrix_flops, value_bytes
from subsim.engine.devices import AXIS, is_cpu
from subsim.engine.errors import runs_the_study
from subsim.engine.repeats import without_repeats
from subsim.engine.study import Precision, Run, Study
from subsim.options import UserError, replaced

# What each precision asks of matrix products. By default a GPU or TPU would round float32 operands behind our back.
_MATMUL = {"float32": "highest", "bfloat16": "bfloat16", "float64": "highest"}


class Plan(NamedTuple):
    """How seeds are cut: `chunk` seeds a call of the program, of which `lanes` advance side by side on each device."""

    chunk: int
    lanes: int


class Prepared(NamedTuple):
    """A config before its first seed, or `configs` that are joint: the run and its numbers on the device, and the data,
    the first config's, on the host.

    `one` is the trace of the record of one seed, its joint and then its traced axes first, as a function of `arguments`
    and the seed. Of a study that runs on the host, it is None, `arguments` are the run and its numbers as they are, and
    `on_host` is its record.
    """

    one: jax.stages.Traced | None
    arguments: tuple[Any, ...]
    precision: Precision
    data: Any
    on_host: host.Shapes | None = None
    cpu_options: Mapping[str, Any] = MappingProxyType({})
    configs: int = 1


class Program(NamedTuple):
    """A traced program of one `Plan`, its devices, and the shape of one seed's record by name, its axes first.

    None in place of a trace: the study runs on the host.
    """

    traced: jax.stages.Traced | None
    mesh: Mesh
    record: dict[str, jax.ShapeDtypeStruct]


@contextlib.contextmanager
def arithmetic(precision: Precision) -> Iterator[None]:
    """Run jax in `precision` inside the block, and as before outside it."""
    with jax.enable_x64(precision == "float64"), jax.default_matmul_precision(_MATMUL[precision]):
        yield


def make_one(axes: Sequence[Axis] = ()) -> jax.stages.Wrapped:
    """The record of one seed, followed by the traced `axes`, as a function of the run, its numbers and the seed.

    Seed i has the key fold_in(root, i) with i its global index: how seeds are cut cannot change their randomness. All
    values of an axis share their seed's key.
    """

    @jax.jit
    def one(run: Run, hyper: Any, values: Any, root: jax.Array, seed: jax.Array) -> Any:
        key = jax.random.fold_in(root, seed)
        return over(functools.partial(run, key), hyper, axes)(*values)

    return one


def evaluated(traced: jax.stages.Traced) -> Callable[..., Any]:
    """What was traced, as a function that does not call the study's code again."""
    return _as_function(traced.jaxpr, jax.tree.structure(traced.out_info))


def _as_function(program: ClosedJaxpr, results: jax.tree_util.PyTreeDef) -> Callable[..., Any]:
    flat = jaxpr_as_fun(program)
    return lambda *arguments: jax.tree.unflatten(results, flat(*jax.tree.leaves(arguments)))


def trace_lean(function: jax.stages.Wrapped, *arguments: Any) -> jax.stages.Traced:
    """The trace of `function` without what it computes again, which XLA would have to read, and to find."""
    traced = function.trace(*arguments)
    lean = _as_function(without_repeats(traced.jaxpr), jax.tree.structure(traced.out_info))
    return jax.jit(lean).trace(*arguments)


def make_program(one: Callable[..., Any], lanes: int, mesh: Mesh) -> jax.stages.Wrapped:
    """The compiled program: record of each of `seeds`, shape (chunk,), along a leading axis.

    Each device of `mesh`, whose only axis is `seed`, runs its own share of the seeds in its own loop, `lanes` at a
    time: nothing passes between devices.
    """

    @jax.jit
    def program(run: Run, hyper: Any, values: Any, root: jax.Array, seeds: jax.Array) -> Any:
        def share(run: Run, hyper: Any, values: Any, root: jax.Array, seeds: jax.Array) -> Any:
            each = functools.partial(one, run, hyper, values, root)
            return jax.lax.map(each, seeds, batch_size=None if lanes == 1 else lanes)

        everywhere, apart = PartitionSpec(), PartitionSpec(AXIS)
        specs = (everywhere, everywhere, everywhere, everywhere, apart)
        # Nothing is communicated, so there is no replication for shard_map to keep track of.
        sharded = jax.shard_map(share, mesh=mesh, in_specs=specs, out_specs=apart, check_vma=False)
        return sharded(run, hyper, values, root, seeds)

    return program


@runs_the_study
def prepare(
    study: Study, config: Any, hyper: Any, axes: Sequence[Axis], root_seed: int, precision: Precision
) -> Prepared:
    """Load the data of `config` and put its run and numbers where the program will find them."""
    traced = tuple(axis for axis in axes if axis.traced)
    for axis in traced:
        # An option that is None by default has no place among the numbers until it has a value.
        hyper = replaced(hyper, axis.name, axis.values[0])
    data = study.load(config)
    if study.on_host:
        return Prepared(None, (study.make_run(config, data), hyper), precision, data, host.shapes(study))
    with arithmetic(precision):
        run = study.make_run(config, data)
        if not isinstance(run, jax.tree_util.Partial):
            run = jax.tree_util.Partial(run)
        run, hyper = jax.tree.map(jnp.asarray, (run, hyper))
        arguments = (run, hyper, axis_arrays(traced, hyper), jax.random.key(root_seed))
        one = trace_lean(make_one(traced), *arguments, np.uint32(0))
    return Prepared(one, arguments, precision, data, cpu_options=study.cpu_options)


class Cost(NamedTuple):
    """What one seed computes, all values of its axes among them: FLOPs of matrix products, and bytes of values, on
    average over joint configs, which are computed in turn."""

    bytes: int
    flops: int


def cost_of_one(prepared: Prepared) -> Cost:
    """The cost of one seed, counted from its trace; on the host, none."""
    if prepared.one is None:
        return Cost(0, 0)
    jaxpr = prepared.one.jaxpr.jaxpr
    return Cost(value_bytes(jaxpr) // prepared.configs, matrix_flops(jaxpr))


def trace(prepared: Prepared, plan: Plan, mesh: Mesh) -> Program:
    """Trace the program of `plan`; the record's shapes come from the trace that is compiled."""
    if prepared.one is None:
        return Program(None, mesh, prepared.on_host or {})
    everywhere, apart = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(AXIS))
    with arithmetic(prepared.precision):
        program = make_program(evaluated(prepared.one), plan.lanes, mesh)
        # Shapes alone: the devices may be ones that are not here.
        shapes = jax.eval_shape(lambda: prepared.arguments)
        arguments = jax.tree.map(lambda shape: shape.update(sharding=everywhere), shapes)
        traced = program.trace(*arguments, jax.ShapeDtypeStruct((plan.chunk,), np.uint32, sharding=apart))
    record = {
        name: jax.ShapeDtypeStruct(value.shape[1:], value.dtype) for name, value in named(traced.out_info).items()
    }
    return Program(traced, mesh, record)


class Call(NamedTuple):
    """A compiled program as a function from seeds, shape (chunk,), to their records on the host, by name.

    `memory` is what it needs on each device, in bytes: its arguments, results and all that lies between.
    """

    run: Callable[[np.ndarray], dict[str, np.ndarray]]
    memory: int = 0

    def __call__(self, seeds: np.ndarray) -> dict[str, np.ndarray]:
        """The records of `seeds`, by name, along a leading axis."""
        return self.run(seeds)


def compile_program(prepared: Prepared, program: Program) -> Call:
    """Compile the traced `program` and put its arguments on every device of its mesh."""
    if program.traced is None:
        run, hyper = prepared.arguments
        return Call(runs_the_study(host.caller(lambda seed: named(run(seed, hyper)), program.record)))
    with arithmetic(prepared.precision):
        compiled = program.traced.lower().compile(dict(prepared.cpu_options) if is_cpu(program.mesh) else None)
        arguments = jax.device_put(prepared.arguments, NamedSharding(program.mesh, PartitionSpec()))

    @runs_the_study
    def run_compiled(seeds: np.ndarray) -> dict[str, np.ndarray]:
        return jax.device_get(named(compiled(*arguments, seeds.astype(np.uint32))))

    needs = compiled.memory_analysis()
    parts = ("argument", "output", "temp") if needs else ()
    return Call(run_compiled, sum(getattr(needs, f"{part}_size_in_bytes") for part in parts))


def named(record: Any) -> dict[str, Any]:
    """The record as a dictionary, whether the study returns one or a NamedTuple."""
    if hasattr(record, "_asdict"):
        record = record._asdict()
    if not isinstance(record, dict):
        raise UserError("The study's run must return a dict or a NamedTuple of arrays: its record of one seed.")
    return record
