"""The program of a study: the run of one seed, traced once and compiled for many seeds on all devices."""

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from subsim.engine import host
from subsim.engine.axes import Axis, over
from subsim.engine.axes import arrays as axis_arrays
from subsim.engine.cost import Cost, cost_of
from subsim.engine.devices import AXIS, is_cpu
from subsim.engine.digests import fingerprint
from subsim.engine.plan import Plan
from subsim.engine.settings import PRNG, fixed
from subsim.engine.study import Precision, Run, Study, called
from subsim.options import replaced

Records = dict[str, np.ndarray]


class Program(NamedTuple):
    """The traced run of one seed, and its arguments.

    `one(*arguments, seed)` returns the record of one seed, with the joint and then the traced axes as leading
    dimensions. `record` gives the shapes of the record by name. `data` holds the arrays that enter the program as
    arguments. For a study that runs on the host, `one` is an ordinary function of the seed and `traced` is None.
    """

    one: Callable[..., Any]
    arguments: tuple[Any, ...]
    record: dict[str, jax.ShapeDtypeStruct]
    data: Any
    precision: Precision
    traced: jax.stages.Traced | None = None
    cost: Cost = Cost()
    compiler_options: Mapping[str, Any] = MappingProxyType({})

    def hashes(self) -> dict[str, str]:
        """Return the sha256 of the lowered program and of its data.

        The first is "" where a part of the program runs on the host; both are "" where all of it does.
        """
        if self.traced is None:
            return {"code_sha256": "", "data_sha256": ""}
        with fixed(self.precision):  # to read an array of a device is a transfer, which a user may have forbidden
            lowered = self.traced.lower().as_text()
            # Arrays that a function encloses are in the text, or beside it: jax has a setting that says which.
            enclosed = fingerprint(_enclosed(self.traced.jaxpr))
            data = fingerprint(jax.tree.leaves(self.data))
        code = "" if "callback" in lowered else hashlib.sha256(f"{lowered}{enclosed}".encode()).hexdigest()
        return {"code_sha256": code, "data_sha256": data}


def _enclosed(jaxpr: Any) -> Iterator[Any]:
    """Yield all arrays that are constants of a program."""
    yield from getattr(jaxpr, "consts", ())
    for equation in jaxpr.eqns:
        yield from (each.val for each in equation.invars if np.ndim(getattr(each, "val", 0)) > 0)
        for leaf in jax.tree.leaves(list(equation.params.values())):
            yield from _enclosed(leaf) if hasattr(leaf, "eqns") else ()


def trace(
    study: Study, configs: Sequence[Any], hyper: Any, axes: Sequence[Axis], root_seed: int, precision: Precision
) -> Program:
    """Load the data of `configs`, which differ along the joint axes, and trace the run of one seed.

    The key of seed i is fold_in(root, i), with i its global index, so that chunks and shards cannot change randomness.
    All values of an axis share the key of their seed.
    """
    traced_axes, joint = [axis for axis in axes if axis.traced], [axis for axis in axes if axis.joint]
    for axis in traced_axes:
        # An option that is None by default has no place among the numbers until it has a value.
        hyper = replaced(hyper, axis.name, axis.values[0])
    data = study.load(configs[0])
    if study.on_host:
        on_host = functools.partial(host.record_of, study, study.made_run(configs[0], data))
        return Program(on_host, (hyper,), host.shapes(study), data, precision)
    with fixed(precision):
        if joint:
            assert study.make_joint_run is not None
            run = study.make_joint_run(configs, data)
        else:
            run = study.made_run(configs[0], data)
        run, hyper = jax.tree.map(jnp.asarray, (as_partial(run), hyper))
        # As jax.random.key(root_seed), whatever JAX_RANDOM_SEED_OFFSET says.
        root = jax.random.wrap_key_data(jnp.array([0, root_seed], np.uint32), impl=PRNG)
        # Arrays alone: where jax puts shapes in their places, a study's own dataclasses need not take these.
        leaves, structure = jax.tree.flatten((run, hyper))
        arguments = (leaves, axis_arrays(traced_axes, hyper), root)
        sizes = tuple(len(axis.values) for axis in joint)

        @jax.jit
        def one(leaves: Any, values: Any, root: jax.Array, seed: jax.Array) -> dict[str, jax.Array]:
            run, hyper = jax.tree.unflatten(structure, leaves)

            def record_of(hyper: Any) -> dict[str, jax.Array]:
                record = named(study, called(run, jax.random.fold_in(root, seed), hyper))
                outer = 1 if joint else 0  # the axis of configs becomes one for each joint axis
                return {name: value.reshape(*sizes, *value.shape[outer:]) for name, value in record.items()}

            return over(record_of, hyper, traced_axes, behind=len(joint))(*values)

        # vmap and shard_map would trace the study's code again. From here on they see only the jaxpr of the first
        # trace. The closure holds no tracer, so that closure_convert hoists nothing.
        once, _ = jax.closure_convert(one, *arguments, np.uint32(0))
        traced = jax.jit(once).trace(*arguments, np.uint32(0))
    record = dict(traced.out_info)
    return Program(once, arguments, record, run, precision, traced, cost_of(traced), study.compiler_options)


def as_partial(run: Run) -> jax.tree_util.Partial:
    """Return a run as a pytree. Its leaves are the arrays that enter the program as arguments."""
    return run if isinstance(run, jax.tree_util.Partial) else jax.tree_util.Partial(run)


def named(study: Study, record: Any) -> dict[str, jax.Array]:
    """Return the record as a dictionary of arrays; raises `UserError` where an entry is not an array of numbers."""
    found = study.named(record, jnp.asarray)
    for name, value in found.items():
        study.require(
            not jnp.issubdtype(value.dtype, jax.dtypes.extended),
            f"the record's {name!r} is an array of {value.dtype}, not of numbers",
        )
    return found


def batched(program: Program, plan: Plan, mesh: Mesh) -> jax.stages.Traced:
    """Trace the program of a whole call: (arguments, rounds, seeds of shape (rounds of a chunk, seeds at once)).

    `mesh` has the single axis `seed`. Each device runs its own columns of the seeds, in a loop of `rounds` rounds;
    devices exchange nothing. The records have the two dimensions of the seeds first. Rounds that do not run leave
    zeros.
    """
    most = plan.rounds(mesh.size)

    def share(arguments: Any, rounds: jax.Array, seeds: jax.Array) -> Any:
        each = functools.partial(program.one, *arguments)

        def side_by_side(seeds: jax.Array) -> Any:
            if plan.at_once > 1:
                return jax.vmap(each)(seeds)
            # A batch of one makes XLA's CPU backend multiply matrices more slowly than none.
            return jax.tree.map(lambda value: value[None], each(seeds[0]))

        if most == 1:
            return jax.tree.map(lambda value: value[None], side_by_side(seeds[0]))

        def one_round(number: jax.Array, records: Any) -> Any:
            return jax.tree.map(
                lambda held, new: jax.lax.dynamic_update_index_in_dim(held, new, number, 0),
                records,
                side_by_side(seeds[number]),
            )

        def nothing(one: jax.ShapeDtypeStruct) -> jax.Array:
            return jnp.zeros((most, plan.at_once, *one.shape), one.dtype)

        return jax.lax.fori_loop(0, rounds, one_round, jax.tree.map(nothing, program.record))

    everywhere, apart = PartitionSpec(), PartitionSpec(None, AXIS)
    if mesh.size > 1:
        # Nothing is communicated, so there is no replication for shard_map to keep track of.
        specs = (everywhere, everywhere, apart)
        share = jax.shard_map(share, mesh=mesh, in_specs=specs, out_specs=apart, check_vma=False)
    placed = tuple(NamedSharding(mesh, spec) for spec in (everywhere, everywhere, apart))
    with fixed(program.precision):
        # Shapes alone: the devices may be ones that are not here.
        arguments = jax.eval_shape(lambda: program.arguments)
        seeds = jax.ShapeDtypeStruct((most, plan.at_once * mesh.size), np.uint32)
        return jax.jit(share, in_shardings=placed).trace(arguments, jax.ShapeDtypeStruct((), np.int32), seeds)


class Call(NamedTuple):
    """A compiled program: it maps at most a chunk of seeds to their records by name, one row for each seed.

    `memory` is the bytes that it needs on each device, for arguments, results and intermediate values.
    """

    run: Callable[[np.ndarray], Records]
    memory: int = 0

    def __call__(self, seeds: np.ndarray) -> Records:
        """Return the records of `seeds`."""
        return self.run(seeds)


def compile_program(program: Program, plan: Plan, mesh: Mesh) -> Call:
    """Compile `program` for calls of `plan`, and put its arguments on every device of `mesh`."""
    if program.traced is None:
        return Call(functools.partial(host.call, program.one, program.arguments))
    most, together = plan.rounds(mesh.size), plan.at_once * mesh.size
    options = dict(program.compiler_options) if is_cpu(mesh) else None
    whole = batched(program, plan, mesh)
    with fixed(program.precision):
        compiled = whole.lower().compile(options)
        arguments = jax.device_put(program.arguments, NamedSharding(mesh, PartitionSpec()))

    def run(seeds: np.ndarray) -> Records:
        # Seeds are repeated to fill the grid; the records of the repetitions are dropped.
        grid = np.resize(seeds.astype(np.uint32), (most, together))
        rounds = np.int32(-(-len(seeds) // together))
        with fixed(program.precision):
            records = jax.device_get(compiled(arguments, rounds, grid))
        return {name: value.reshape(-1, *value.shape[2:])[: len(seeds)] for name, value in records.items()}

    return Call(run, memory_of(compiled.memory_analysis()))


def memory_of(needs: Any) -> int:
    """Return the bytes that a program needs on each device, by the compiler's analysis; 0 without one."""
    parts = ("argument", "output", "temp", "generated_code") if needs else ()
    return sum(getattr(needs, f"{part}_size_in_bytes") for part in parts)
