"""A study's program compiled for TPUs that are not here: what it takes of each, and what passes between them."""

import math
import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh

from subsim.engine.axes import make as make_axes
from subsim.engine.chunks import HEADROOM, Notice, first_plan, halved, in_words, out_of_memory
from subsim.engine.counts import matrix_flops
from subsim.engine.devices import AXIS
from subsim.engine.joint import Configs
from subsim.engine.program import Plan, Prepared, arithmetic, trace
from subsim.engine.study import Precision, Study, Table
from subsim.engine.sweep import check_all
from subsim.options import UserError, require, require_choice

# GiB of memory of a chip, by what its devices call their kind; from Google's page on each version of the TPU.
CHIP_MEMORY = {"TPU v4": 32, "TPU v5 lite": 16, "TPU v5": 95, "TPU v6 lite": 32}

# What a compiled program calls an exchange between devices. Of one that is split in two, `-start` is the first half.
COLLECTIVES = (
    "all-reduce", "all-gather", "all-to-all", "ragged-all-to-all", "collective-permute", "collective-broadcast",
    "reduce-scatter", "send", "recv",
)  # fmt: skip

# Where there is no TPU, libtpu asks the network for one and complains. Its lock is for those who share a device.
_NO_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


class Costs(NamedTuple):
    """What one call of a compiled program takes on each device: memory in bytes, and work.

    `flops` are those of matrix products, as often as they run; `bytes_accessed` is XLA's count, in which the body of
    every loop stands once. `collectives` counts the exchanges between devices of each kind.
    """

    arguments: int
    results: int
    temporaries: int
    code: int
    flops: int
    bytes_accessed: int
    collectives: Mapping[str, int]

    @property
    def memory(self) -> int:
        """Bytes in all."""
        return self.arguments + self.results + self.temporaries + self.code


class Ahead(NamedTuple):
    """A program compiled ahead of time: its plan, what it costs, and the seconds that compiling took."""

    plan: Plan
    costs: Costs
    seconds: float


def use_no_device() -> None:
    """Keep jax from looking for an accelerator, since nothing will be run; to be called before jax is used."""
    for variable, value in _NO_TPU.items():
        os.environ.setdefault(variable, value)
    jax.config.update("jax_platforms", "cpu")


def topology_mesh(name: str) -> Mesh:
    """The devices of the TPU topology `name`, such as v5e:2x2, along the axis `seed`.

    Raises `UserError` where there is no such topology, or no compiler for it.
    """
    example = "name one such as v5e:2x2, v5e:16x16 or v5p:2x2x1"
    # libtpu itself takes an empty name for a TPU of its own choice, and divides by a size of 0.
    require(
        re.fullmatch(r"\w+:[1-9]\d*(x[1-9]\d*){1,2}", name) is not None,
        f"topology is {name!r}, which is none; {example}.",
    )
    try:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=name).devices
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise UserError(f"topology is {name!r}, which libtpu refuses ({reason}); {example}.") from None
    except RuntimeError:
        raise UserError(
            "topology: the compiler for TPUs is not installed; pip install libtpu (subsim's extra tpu has the version "
            "that fits jax) into an environment of its own, and set JAX_PLATFORMS=cpu there."
        ) from None
    return Mesh(np.asarray(devices), (AXIS,))


def kind(mesh: Mesh) -> str:
    """What the devices of `mesh` call themselves."""
    return mesh.devices.flat[0].device_kind


def device_memory(mesh: Mesh) -> int | None:
    """Bytes of memory of each device of a topology; None for a kind of which it is not known here."""
    if kind(mesh) not in CHIP_MEMORY:
        return None
    # On some kinds a device is half a chip.
    chips = len({tuple(device.coords) for device in mesh.devices.flat})
    return CHIP_MEMORY[kind(mesh)] * 2**30 * chips // mesh.size


def collectives(program: str) -> dict[str, int]:
    """How many exchanges between devices of each kind are in the text of a compiled program."""
    return dict(Counter(re.findall(rf"\s({'|'.join(COLLECTIVES)})(?:-start)?\(", program)))


def costs(traced: jax.stages.Traced, compiled: jax.stages.Compiled) -> Costs:
    """What a program takes on each device, from its trace and from what its compiler says."""
    memory: Any = compiled.memory_analysis()
    counted: Any = compiled.cost_analysis()
    return Costs(
        arguments=memory.argument_size_in_bytes,
        results=memory.output_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        code=memory.generated_code_size_in_bytes,
        flops=matrix_flops(traced.jaxpr.jaxpr),
        bytes_accessed=int(counted["bytes accessed"]),
        collectives=collectives(compiled.as_text() or ""),
    )


def compile_plan(prepared: Prepared, plan: Plan, mesh: Mesh, notice: Notice) -> Ahead | None:
    """The program of `plan` for the devices of `mesh`; None where its compiler finds that it does not fit."""
    notice(in_words(plan, mesh.size))
    started = time.perf_counter()
    traced = trace(prepared, plan, mesh).traced
    assert traced is not None
    try:
        with arithmetic(prepared.precision):
            compiled = traced.lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if not out_of_memory(error):
            raise
        return None
    return Ahead(plan, costs(traced, compiled), time.perf_counter() - started)


def largest_fitting(prepared: Prepared, plan: Plan, mesh: Mesh, notice: Notice) -> Ahead | None:
    """The program of `plan`, halved until it fits the devices of `mesh`; None where not even one seed does.

    From above, because the compiler refuses in seconds what does not fit, and takes minutes over what does. How fast a
    program is only a run can tell: it may find that fewer seeds at once do as well.
    """
    memory = device_memory(mesh)
    attempt: Plan | None = plan
    while attempt is not None:
        found = compile_plan(prepared, attempt, mesh, notice)
        if found and (memory is None or found.costs.memory <= HEADROOM * memory):
            return found
        attempt = halved(attempt, mesh.size)
    return None


def compile_ahead(
    study: Study,
    config: Any = None,
    hyper: Any = None,
    *,
    mesh: Mesh,
    seeds: int | None = None,
    precision: Precision | None = None,
    sweep: Mapping[str, Iterable[Any]] | None = None,
    chunk: int | None = None,
    lanes: int | None = None,
    notice: Notice = lambda _: None,
) -> Iterator[tuple[str, Ahead]]:
    """Compile `study` for the devices of `mesh`: a label and each program that a run would make.

    Args:
        study: what to compile; `config`, `hyper`, `seeds` and `precision` override its defaults, and `sweep` is that of
            a run.
        mesh: the devices, which need not be here, along the axis `seed`.
        chunk: seeds that one call of the program runs. None: as many as a run starts with, and its devices' memory
            holds.
        lanes: seeds that advance side by side on each device. None: its share of the chunk.
        notice: told what is compiled, in words.

    Raises:
        UserError: an option is out of range or contradicts another, or the devices have too little memory.
    """
    seeds = study.seeds if seeds is None else seeds
    precision = precision or study.precision
    for name, value in (("seeds", seeds), ("chunk", chunk), ("lanes", lanes)):
        require(value is None or 0 < value < 2**31, f"{name} is {value}; it must be at least 1 and less than 2^31.")
    require_choice("precision", precision, study.precisions)
    require(not study.on_host, f"The run of {study.name} is ordinary Python; there is no program to compile.")
    config = study.config if config is None else config
    hyper = study.hyper if hyper is None else hyper
    study.refuse_overruled(sweep, config, hyper)
    axes = make_axes(study.sweep(sweep), config, hyper)
    check_all(study, config, hyper, axes)
    each = Configs(study, config, hyper, axes, 0, precision)
    search = compile_plan if chunk or lanes else largest_fitting
    for place in each.places:
        prepared = each.prepared(place)
        found = search(prepared, first_plan(study, prepared, mesh, seeds, chunk, lanes), mesh, notice)
        if found is None:
            raise UserError(f"A {kind(mesh)} has too little memory; lower chunk or lanes, or make the config smaller.")
        # The axes whose values have programs of their own come first.
        values = (f"{axis.name}={axis.labels[number]}" for axis, number in zip(each.axes, place, strict=False))
        yield ", ".join((study.name, *values, precision)), found


def table(title: str, program: Ahead, mesh: Mesh) -> Table:
    """A program and its costs in words."""
    plan, costs, memory = program.plan, program.costs, device_memory(mesh)
    share = plan.chunk // mesh.size
    rounds = "" if plan.lanes == share else f", {plan.lanes:,} at once"
    of_all = f" of {in_bytes(memory)} ({costs.memory / memory:.0%})" if memory else " of an unknown number"
    rows = (
        ("devices", f"{mesh.size:,} x {kind(mesh)}"),
        ("seeds", f"{share:,}{rounds} ({plan.chunk:,} on all devices)"),
        ("arguments", in_bytes(costs.arguments)),
        ("results", in_bytes(costs.results)),
        ("temporaries", in_bytes(costs.temporaries)),
        ("code", in_bytes(costs.code)),
        ("memory in all", in_bytes(costs.memory) + of_all),
        ("FLOPs of matrix products", f"{costs.flops:.2e}"),
        ("bytes accessed, loops once", in_bytes(costs.bytes_accessed)),
        ("collectives", ", ".join(f"{n} {name}" for name, n in costs.collectives.items()) or "none"),
        ("seconds to compile", f"{program.seconds:.0f}"),
    )
    return Table(title, ("one call, each device", ""), rows)


def in_bytes(n: int) -> str:
    """A number of bytes in the unit that suits it."""
    units = ("bytes", "KiB", "MiB", "GiB", "TiB")
    power = min(int(math.log(max(n, 1), 1024)), len(units) - 1)
    return f"{n / 1024**power:,.{min(power, 1)}f} {units[power]}"
