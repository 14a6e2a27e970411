"""Compile a study's program for TPUs of another machine, and report its memory and its collectives."""

import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh

from subsim.engine.devices import AXIS, require_precision
from subsim.engine.plan import Plan, guess, in_words
from subsim.engine.program import Program, batched, memory_of
from subsim.engine.runner import Notice, fitting
from subsim.engine.settings import fixed
from subsim.engine.task import Task, whole_number
from subsim.options import UserError, require

# The names of exchanges between devices in a compiled program. A split exchange begins with its `-start` half.
COLLECTIVES = (
    "all-reduce", "all-gather", "all-to-all", "ragged-all-to-all", "collective-permute", "collective-broadcast",
    "reduce-scatter", "send", "recv",
)  # fmt: skip

# Without a TPU, libtpu asks the network for one and complains. Its lock is for processes that share a device.
_NO_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


class Compiled(NamedTuple):
    """A program compiled for devices of another machine.

    `memory` is the bytes that it needs on each device, and `seconds` the time of compiling. `collectives` counts the
    exchanges between devices, by their kind.
    """

    plan: Plan
    memory: int
    collectives: dict[str, int]
    seconds: float


def use_no_device() -> None:
    """Keep jax from looking for an accelerator, because nothing will run. Call it before jax is used."""
    for variable, value in _NO_TPU.items():
        os.environ.setdefault(variable, value)
    jax.config.update("jax_platforms", "cpu")
    # jax cannot read such a program back from its cache without the device.
    jax.config.update("jax_enable_compilation_cache", False)


def topology_mesh(name: str) -> Mesh:
    """Return the devices of the TPU topology `name`, such as v5e:2x2, along the axis `seed`.

    Raises `UserError` where there is no such topology, or no compiler for it.
    """
    example = "name one such as v5e:2x2, v5e:16x16 or v5p:2x2x1"
    # libtpu chooses a TPU for an empty name, and divides by a size of 0.
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


def collectives(program: str) -> dict[str, int]:
    """Count the exchanges between devices in the text of a compiled program, by their kind."""
    return dict(Counter(re.findall(rf"\s({'|'.join(COLLECTIVES)})(?:-start)?\(", program)))


def compile_for(program: Program, plan: Plan, mesh: Mesh, notice: Notice) -> Compiled:
    """Compile `program` for the devices of `mesh`, with the plan's seeds at once or as many as fit their memory.

    Raises `UserError` where one seed alone does not fit.
    """

    def compiled(plan: Plan) -> Compiled:
        notice(in_words(plan, mesh.size))
        started = time.perf_counter()
        whole = batched(program, plan, mesh)
        with fixed(program.precision):
            done = whole.lower().compile()
        seconds = time.perf_counter() - started
        return Compiled(plan, memory_of(done.memory_analysis()), collectives(done.as_text() or ""), seconds)

    return fitting(plan, mesh, lambda _: None, compiled)[1]


def check(task: Task, chunk: int | None, at_once: int | None) -> None:
    """Raise `UserError` where a study has no program, or where a number of seeds is out of range."""
    require(not task.study.on_host, f"The run of {task.study.name} is ordinary Python; there is no program to compile.")
    for name, value in (("chunk", chunk), ("at_once", at_once)):
        if value is not None:
            whole_number(name, value)


def compile_task(
    task: Task, mesh: Mesh, chunk: int | None, at_once: int | None, notice: Notice
) -> Iterator[tuple[str, Program, Compiled]]:
    """Compile every program of a run for the devices of `mesh`; yields its label, the program and the result.

    One call runs at most `chunk` seeds, `at_once` of them side by side on each device; None: guessed.
    """
    require_precision(task.precision, mesh)
    for index in task.indices:
        program = task.program(index)
        plan = guess(program.cost, mesh, chunk or task.study.chunk, at_once)
        label = ", ".join(filter(None, (task.study.name, task.place(index), task.precision)))
        yield label, program, compile_for(program, plan, mesh, notice)
