"""The command `subsim compile`, which compiles a study for TPUs that this machine does not have."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import tyro

from subsim.cli import catalogue
from subsim.cli.arguments import CompileOptions, asked_size, parse_options
from subsim.cli.terminal import print_table, working
from subsim.cli.words import sweep_of

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from subsim.engine.program import Program
    from subsim.engine.study import Table
    from subsim.engine.topology import Compiled


def compile_anything(study: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="STUDY")]) -> None:
    """Compile a study for TPUs that this machine does not have; `subsim compile STUDY --help` shows every option.

    Args:
        study: a name that `subsim list` shows, or the path of a .py file.
    """
    compile_study(study, [])


def compile_study(name: str, words: Sequence[str]) -> None:
    """Compile the study with this name or path, with the options in `words`, and print its use of a device."""
    from subsim.engine import topology
    from subsim.engine.task import make_task

    topology.use_no_device()
    size = asked_size(words)
    study = catalogue.load_study(name).at_size(size)
    own = {"size": size, "topology": tyro.MISSING}
    options, config, hyper = parse_options(study, words, f"subsim compile {name}", CompileOptions, **own)
    mesh = topology.topology_mesh(options.topology)
    task = make_task(study, config, hyper, sweep_of(options.sweep), 0, options.precision)
    topology.check(task, options.chunk, options.at_once)
    with working() as tell:
        tell(f"{study.name}: compiling")
        for label, program, compiled in topology.compile_task(
            task,
            mesh,
            options.chunk,
            options.at_once,
            lambda plan: tell(f"{study.name}: compiling ({plan})"),
        ):
            print_table(table(f"{label} for {options.topology}", program, compiled, mesh))


def table(title: str, program: "Program", compiled: "Compiled", mesh: "Mesh") -> "Table":
    """Return a table of a program's use of the devices."""
    from subsim.engine.devices import memory as memory_of
    from subsim.engine.study import Table

    plan, memory = compiled.plan, memory_of(mesh)
    of_all = f" of {in_bytes(memory)} ({compiled.memory / memory:.0%})" if memory else " of an unknown number"
    rows = (
        ("devices", f"{mesh.size:,} x {mesh.devices.flat[0].device_kind}"),
        ("seeds at once", f"{plan.at_once:,} on each device, {plan.at_once * mesh.size:,} on all"),
        ("seeds in a call", f"{plan.chunk:,}"),
        ("memory", in_bytes(compiled.memory) + of_all),
        ("FLOPs of matrix products, a seed", f"{program.cost.flops:.2e}"),
        ("collectives", ", ".join(f"{n} {name}" for name, n in compiled.collectives.items()) or "none"),
        ("seconds to compile", f"{compiled.seconds:.0f}"),
    )
    return Table(title, ("each device", ""), rows)


def in_bytes(n: int) -> str:
    """Return a number of bytes as text, in a suitable unit."""
    units = ("bytes", "KiB", "MiB", "GiB", "TiB")
    power = min(int(math.log(max(n, 1), 1024)), len(units) - 1)
    return f"{n / 1024**power:,.{min(power, 1)}f} {units[power]}"
