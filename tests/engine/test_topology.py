"""Programs for devices that are not here, as far as no compiler for them is needed; the rest is in tests/tpu."""

import dataclasses
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec
from smoke import smoke_options

import subsim
from subsim import UserError
from subsim.cli import arguments, commands
from subsim.engine import plan as plans
from subsim.engine import runner, topology
from subsim.engine.devices import AXIS, local_mesh, memory
from subsim.engine.plan import Plan
from subsim.engine.program import batched
from subsim.engine.settings import fixed
from subsim.engine.task import make_task


def spread(function):
    """`function` of each device's share of an array, which may speak to the other devices."""
    return jax.jit(
        jax.shard_map(function, mesh=local_mesh(), in_specs=PartitionSpec(AXIS), out_specs=PartitionSpec(AXIS))
    )


GOSSIP = spread(lambda x: x + jax.lax.psum(x, AXIS) + jnp.sum(jax.lax.all_gather(jnp.sin(x), AXIS)))


def test_what_passes_between_devices_is_counted():
    x = np.ones(4, np.float32)
    compiled = GOSSIP.lower(x).compile().as_text()
    assert sum(topology.collectives(compiled).values()) == 2
    assert topology.collectives(compiled)["all-reduce"] >= 1
    assert topology.collectives(spread(jnp.sin).lower(x).compile().as_text()) == {}
    # As a TPU's program writes them: in two halves, and used by name.
    halves = " %a = f32[4] all-reduce-start(%x)\n %b = f32[4] all-reduce-done(%a)\n %c = f32[4] fusion(%all-reduce.1)\n"
    assert topology.collectives(halves) == {"all-reduce": 1}


def exchanges(lowered):
    """The exchanges between devices in the text of a lowered program."""
    names = "|".join(name.replace("-", "_") for name in topology.COLLECTIVES)
    return re.findall(rf"stablehlo\.({names})\b", lowered)


def lowered_for_cuda(traced):
    return traced.lower(lowering_platforms=("cuda",)).as_text()


def test_a_lowered_program_shows_what_passes_between_devices():
    assert set(exchanges(lowered_for_cuda(GOSSIP.trace(np.ones(4, np.float32))))) == {"all_reduce", "all_gather"}


@pytest.mark.usefixtures("optax_promotion")
@pytest.mark.parametrize(
    ("name", "sweep"),
    [("mnist_aux_logits", {}), ("mnist_aux_logits", {"init_scale": (0.5, 1.0)}), ("single_step", {})],
)
def test_programs_lower_for_cuda(name, sweep):
    """What a CPU runs, for GPUs that are not here: one module, in which no device speaks to another."""
    study = subsim.load_study(name)
    _, config, hyper = arguments.parse_options(study, smoke_options(name), "", arguments.CompileOptions, topology="")
    task = make_task(study, config, hyper, sweep, 0, None)
    program = task.program(task.indices[0])
    whole = batched(program, Plan(chunk=16, at_once=2), local_mesh())
    # Four rounds of four seeds.
    inner = (4, 4, *(len(axis.values) for axis in task.axes))
    assert all(value.shape[: len(inner)] == inner for value in whole.out_info.values())
    with fixed(program.precision):
        text = lowered_for_cuda(whole)
    assert len(re.findall(r"^\s*module @", text, re.MULTILINE)) == 1
    assert "mhlo.num_partitions = 2" in text
    assert "dot_general" in text
    assert exchanges(text) == []


class Device:
    """A device of a topology, as far as its memory is asked for."""

    def __init__(self, kind, chip):
        self.device_kind, self.coords, self.platform = kind, [chip, 0, 0], "tpu"

    def memory_stats(self):
        raise jax.errors.JaxRuntimeError("UNIMPLEMENTED: it is elsewhere.")


def four_chips(kind="TPU v5 lite", devices_a_chip=1):
    return Mesh(np.array([Device(kind, n // devices_a_chip) for n in range(4 * devices_a_chip)]), (AXIS,))


def test_memory_of_a_device_is_its_part_of_the_chip():
    assert memory(four_chips()) == 16 * 2**30
    assert memory(four_chips("TPU v4", devices_a_chip=2)) == 16 * 2**30
    assert memory(four_chips("TPU v99")) is None


@pytest.fixture
def square(toy):
    """The task of a study of 2 x 100^3 FLOPs a seed that leaves the engine to choose."""

    def run(key, hyper):
        matrix = jnp.ones((100, 100)) * hyper["scale"]
        return {"first": jnp.sum(matrix @ matrix)}

    study = dataclasses.replace(toy, make_run=lambda config, data: run, chunk=None)
    return make_task(study, None, None, None, 0, None)


@pytest.fixture
def compiler(monkeypatch):
    """A compiler that refuses more than 15 GiB, for programs of half a GiB and more a seed; the plans it was given."""
    asked, needs = [], {"GiB a seed": 0.5}

    class Text:
        def __init__(self, memory):
            sizes = {"argument": 1, "output": 2, "temp": memory - 6, "generated_code": 3}
            self.memory = SimpleNamespace(**{f"{part}_size_in_bytes": size for part, size in sizes.items()})

        def memory_analysis(self):
            return self.memory

        def as_text(self):
            return "%a = f32[4] all-reduce(%x)"

    def compiled(plan):
        asked.append(plan.at_once)
        memory = int(plan.at_once * needs["GiB a seed"] * 2**30)
        if memory > 15 * 2**30:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm.")
        return Text(memory)

    def batched(program, plan, mesh):
        return SimpleNamespace(lower=lambda: SimpleNamespace(compile=lambda: compiled(plan)))

    monkeypatch.setattr(topology, "batched", batched)
    return asked, needs


@pytest.mark.parametrize(
    ("kind", "gib_a_seed", "at_once"),
    [
        ("TPU v5 lite", 0.5, 25),  # 12.5 of 16 GiB
        ("TPU v5 lite", 0.55, 13),  # 13.75 compile, but leave too little room
        ("TPU v5 lite", 0.7, 13),
        ("TPU v5 lite", 12.0, 1),
        ("TPU v99", 0.55, 25),
    ],
)
def test_the_largest_fitting_program_is_found_from_above(compiler, square, kind, gib_a_seed, at_once):
    asked, needs = compiler
    needs["GiB a seed"] = gib_a_seed
    said = []
    found = topology.compile_for(square.program(()), Plan(400, 100), four_chips(kind), said.append)
    assert found.plan == Plan(400, at_once)
    assert found.memory == int(at_once * gib_a_seed * 2**30)
    assert found.collectives == {"all-reduce": 1}
    assert asked == [at for at in (100, 50, 25, 13, 7, 4, 2, 1) if at >= at_once]
    assert said[:2] == ["chunk 400", "chunk 400, 200 at once"]


def test_too_little_memory_is_said(compiler, square):
    compiler[1]["GiB a seed"] = 15.5
    with pytest.raises(UserError, match=r"One seed alone needs more memory than the device \(TPU v5 lite\) has"):
        topology.compile_for(square.program(()), Plan(8, 2), four_chips(), lambda _: None)


@pytest.mark.parametrize(
    ("chunk", "at_once", "plan"),
    [
        (None, None, Plan(400, 100)),  # as many as are some seconds of work on each of the four
        (40, None, Plan(40, 10)),
        (None, 3, Plan(396, 3)),
        (40, 4, Plan(40, 4)),
        (4, 64, Plan(4, 1)),
    ],
)
def test_the_plan_of_a_run_on_four_chips(square, compiler, monkeypatch, chunk, at_once, plan):
    share = 100.5 * square.program(()).cost.bytes / memory(four_chips())
    monkeypatch.setattr(plans, "HEADROOM", share)
    monkeypatch.setattr(plans, "FLOPS", 2 * 100**3)
    compiler[1]["GiB a seed"] = 0.01
    ((_, _, compiled),) = topology.compile_task(square, four_chips(), chunk, at_once, lambda _: None)
    assert compiled.plan == plan


def test_what_is_compiled_ahead_is_what_a_run_starts_with(square, monkeypatch):
    """On the same devices, whatever they are."""
    started, compiled = [], []
    monkeypatch.setattr(runner, "compile_program", lambda _, plan, mesh: started.append(plan) or 1 / 0)
    monkeypatch.setattr(topology, "batched", lambda _, plan, mesh: compiled.append(plan) or 1 / 0)
    for accelerated in (False, True):
        monkeypatch.setattr(plans, "is_cpu", lambda mesh, accelerated=accelerated: not accelerated)
        with pytest.raises(ZeroDivisionError):
            subsim.simulate(square.study)
        with pytest.raises(ZeroDivisionError):
            list(topology.compile_task(square, local_mesh(), None, None, lambda _: None))
    assert started == compiled
    assert len(set(started)) == 2


@pytest.fixture
def here(monkeypatch):
    """This machine's two devices in the place of a topology's."""
    monkeypatch.setattr(topology, "use_no_device", lambda: None)
    monkeypatch.setattr(topology, "topology_mesh", lambda name: local_mesh())


def compiled(capsys, *words):
    commands.main(["compile", *words])
    return capsys.readouterr().out


@pytest.mark.usefixtures("here")
def test_the_command_says_what_a_program_takes(capsys):
    printed = compiled(
        capsys, "single_step", "--topology", "v5e:2x2", *smoke_options("single_step"), "--chunk", "12",
        "--at-once", "2", "--sweep", "widths=8,4-4", "--sweep", "eps=0.1,0.2", "--precision", "float32",
    )  # fmt: skip
    for title in ("single_step, widths=8, float32 for v5e:2x2", "single_step, widths=4-4, float32 for v5e:2x2"):
        assert title in printed
    rows = dict(re.findall(r"^ ?(\S.*?)  +(\S.*?) *$", printed, re.MULTILINE))
    assert rows["devices"] == "2 x cpu"
    assert rows["seeds at once"] == "2 on each device, 4 on all"
    assert rows["seeds in a call"] == "12"
    assert rows["collectives"] == "none"
    assert re.fullmatch(r"[\d.]+ (bytes|KiB|MiB) of [\d.]+ GiB \(0%\)", rows["memory"])
    assert float(rows["FLOPs of matrix products, a seed"]) > 0


@pytest.mark.usefixtures("here")
def test_the_papers_size_is_compiled_too(capsys, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import jax, subsim\n"
        "run = lambda key, hyper: {'number': jax.random.normal(key)}\n"
        "study = subsim.Study('mine', '', lambda config, data: run, {'number': subsim.Variable('')}, chunk=2, \n"
        "                     sizes={'paper': {'chunk': 12, 'precision': 'float64'}})\n"
    )
    for size, title, chunk in (("tiny", "mine, float32", 2), ("paper", "mine, float64", 12)):
        printed = compiled(capsys, "./mine.py", "--topology", "v5e:2x2", "--size", size)
        assert title in printed
        assert re.search(rf"seeds in a call +{chunk}\b", printed)


@pytest.mark.parametrize(
    ("study", "words", "complaint"),
    [
        ("single_step", [], ["--topology"]),
        ("single_step", ["--topology", "v5e:2x2", "--chunk", "0"], ["chunk is 0"]),
        ("single_step", ["--topology", "v5e:2x2", "--at-once", "-1"], ["at_once is -1"]),
        ("single_step", ["--topology", "v5e:2x2", "--precision", "bfloat16"], ["precision", "float64"]),
        ("single_step", ["--topology", "v5e:2x2", "--sweep", "eps=-1,1"], ["eps is -1"]),
        ("single_step", ["--topology", "v5e:2x2", "--sweep", "eps=1", "--sweep", "eps=2"], ["twice"]),
        ("throughput", ["--topology", "v5e:2x2", *smoke_options("throughput")], ["no program"]),
    ],
)
@pytest.mark.usefixtures("here")
def test_bad_options_are_refused_in_a_sentence(capsys, study, words, complaint):
    refused(capsys, [study, *words], complaint)


def refused(capsys, words, complaint):
    with pytest.raises(SystemExit) as stop:
        commands.main(["compile", *words])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("subsim: ")
    assert error.count("\n") == 1
    for word in complaint:
        assert word in error


def test_without_libtpu_the_command_says_what_to_install():
    command = """
import sys
sys.modules["libtpu"] = None
from subsim.cli import main
main(["compile", "single_step", "--topology", "v5e:2x2"])
"""
    environment = {name: value for name, value in os.environ.items() if name != "TPU_LIBRARY_PATH"}
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("subsim: topology: the compiler for TPUs is not installed; pip install libtpu")
    assert "JAX_PLATFORMS=cpu" in done.stderr
    assert done.stderr.count("\n") == 1
