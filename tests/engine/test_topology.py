"""Programs for devices that are not here, as far as no compiler for them is needed; the rest is in tests/tpu."""

import dataclasses
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import smoke_options
from jax.sharding import Mesh, PartitionSpec

import subsim
from subsim import UserError, arguments, cli
from subsim.engine import ahead, chunks, program, sweep
from subsim.engine.ahead import Ahead, Costs
from subsim.engine.axes import make
from subsim.engine.devices import AXIS, local_mesh
from subsim.engine.program import Plan


def spread(function):
    """`function` of each device's share of an array, which may speak to the other devices."""
    return jax.jit(
        jax.shard_map(function, mesh=local_mesh(), in_specs=PartitionSpec(AXIS), out_specs=PartitionSpec(AXIS))
    )


GOSSIP = spread(lambda x: x + jax.lax.psum(x, AXIS) + jnp.sum(jax.lax.all_gather(jnp.sin(x), AXIS)))


def test_what_passes_between_devices_is_counted():
    x = np.ones(4, np.float32)
    compiled = GOSSIP.lower(x).compile().as_text()
    assert sum(ahead.collectives(compiled).values()) == 2
    assert ahead.collectives(compiled)["all-reduce"] >= 1
    assert ahead.collectives(spread(jnp.sin).lower(x).compile().as_text()) == {}
    # As a TPU's program writes them: in two halves, and used by name.
    halves = " %a = f32[4] all-reduce-start(%x)\n %b = f32[4] all-reduce-done(%a)\n %c = f32[4] fusion(%all-reduce.1)\n"
    assert ahead.collectives(halves) == {"all-reduce": 1}


def exchanges(lowered):
    """The exchanges between devices in the text of an exported program."""
    names = "|".join(name.replace("-", "_") for name in ahead.COLLECTIVES)
    return re.findall(rf"stablehlo\.({names})\b", lowered)


def lowered_for_cuda(function, *arguments):
    return jax.export.export(function, platforms=["cuda"])(*arguments)


def test_an_exported_program_shows_what_passes_between_devices():
    assert set(exchanges(lowered_for_cuda(GOSSIP, np.ones(4, np.float32)).mlir_module())) == {
        "all_reduce",
        "all_gather",
    }


@pytest.mark.usefixtures("optax_promotion")
@pytest.mark.parametrize(
    ("name", "sweep"),
    [("mnist_aux_logits", {}), ("mnist_aux_logits", {"init_scale": (0.5, 1.0)}), ("single_step", {})],
)
def test_programs_lower_for_cuda(name, sweep):
    """What a CPU runs, for GPUs that are not here: one module, in which no device speaks to another."""
    study = subsim.load_study(name)
    _, config, hyper = arguments.parse_options(study, smoke_options(name), "", arguments.CompileOptions, topology="")
    prepared = program.prepare(study, config, hyper, make(sweep, config, hyper), 0, study.precision)
    with program.arithmetic(study.precision):
        exported = lowered_for_cuda(
            program.make_program(program.evaluated(prepared.one), 2, local_mesh()),
            *prepared.arguments,
            np.arange(8, dtype=np.uint32),
        )
    assert exported.platforms == ("cuda",)
    assert exported.nr_devices == 2
    assert exported.out_avals[0].shape[: 1 + len(sweep)] == (8, *(2,) * len(sweep))
    text = exported.mlir_module()
    assert len(re.findall(r"^\s*module @", text, re.MULTILINE)) == 1
    assert "dot_general" in text
    assert exchanges(text) == []


class Device:
    """A device of a topology, as far as its memory is asked for."""

    def __init__(self, kind, chip):
        self.device_kind, self.coords, self.platform = kind, [chip, 0, 0], "tpu"


def four_chips(kind="TPU v5 lite", devices_a_chip=1):
    return Mesh(np.array([Device(kind, n // devices_a_chip) for n in range(4 * devices_a_chip)]), (AXIS,))


def test_memory_of_a_device_is_its_part_of_the_chip():
    assert ahead.device_memory(four_chips()) == 16 * 2**30
    assert ahead.device_memory(four_chips("TPU v4", devices_a_chip=2)) == 16 * 2**30
    assert ahead.device_memory(four_chips("TPU v99")) is None


@pytest.fixture
def square(toy):
    """A study of 2 x 100^3 FLOPs a seed that leaves the engine to choose."""

    def run(key, hyper):
        matrix = jnp.ones((100, 100)) * hyper["scale"]
        return {"first": jnp.sum(matrix @ matrix)}

    return dataclasses.replace(toy, make_run=lambda config, data: run, chunk=None, lanes=None)


@pytest.mark.parametrize(
    ("seeds", "chunk", "lanes", "plan"),
    [
        (100, None, None, Plan(100, 25)),
        (101, None, None, Plan(104, 26)),
        (1, None, None, Plan(4, 1)),
        (100, 40, None, Plan(36, 9)),
        (100, 400, None, Plan(100, 25)),
        (100, None, 3, Plan(108, 3)),
        (100, None, 64, Plan(100, 25)),
        (100, 40, 4, Plan(36, 3)),
        (100, 4, 64, Plan(4, 1)),
        (8000, None, None, Plan(400, 100)),  # as many as are some seconds of work on each of the four
    ],
)
def test_the_plan_of_a_run_on_four_chips(square, monkeypatch, seeds, chunk, lanes, plan):
    monkeypatch.setattr(chunks, "FLOPS", 2 * 100**3 * 2)
    assert chunks.first_plan(square, prepared(square), four_chips(), seeds, chunk, lanes) == plan


def test_what_is_compiled_ahead_is_what_a_run_starts_with(square, monkeypatch):
    """On the same devices, whatever they are."""
    started, compiled = [], []
    monkeypatch.setattr(sweep, "trace", lambda _, plan, mesh: started.append(plan) or 1 / 0)
    monkeypatch.setattr(ahead, "compile_plan", lambda _, plan, *rest: compiled.append(plan) or 1 / 0)
    for accelerated in (False, True):
        monkeypatch.setattr(chunks, "is_cpu", lambda mesh, accelerated=accelerated: not accelerated)
        with pytest.raises(ZeroDivisionError):
            sweep.simulate(square, seeds=10_000)
        with pytest.raises(ZeroDivisionError):
            list(ahead.compile_ahead(square, mesh=local_mesh(), seeds=10_000))
    assert started == compiled
    assert len(set(started)) == 2


def prepared(study):
    return program.prepare(study, study.config, study.hyper, (), 0, "float32")


@pytest.fixture
def compiler(monkeypatch):
    """A compiler that refuses more than 15 GiB, for programs of half a GiB and more a lane; the plans it was given."""
    asked, needs = [], {"GiB a lane": 0.5}

    def compile_plan(prepared, plan, mesh, notice):
        asked.append(plan.lanes)
        memory = int(plan.lanes * needs["GiB a lane"] * 2**30)
        return Ahead(plan, Costs(0, 0, memory, 0, 1, 1, {}), 1.0) if memory <= 15 * 2**30 else None

    monkeypatch.setattr(ahead, "compile_plan", compile_plan)
    return asked, needs


@pytest.mark.parametrize(
    ("kind", "gib_a_lane", "lanes"),
    [
        ("TPU v5 lite", 0.5, 25),  # 12.5 of 16 GiB
        ("TPU v5 lite", 0.55, 12),  # 13.75 compile, but leave too little room
        ("TPU v5 lite", 0.7, 12),
        ("TPU v5 lite", 12.0, 1),
        ("TPU v99", 0.55, 25),
    ],
)
def test_the_largest_fitting_program_is_found_from_above(compiler, toy, kind, gib_a_lane, lanes):
    asked, needs = compiler
    needs["GiB a lane"] = gib_a_lane
    found = ahead.largest_fitting(prepared(toy), Plan(400, 100), four_chips(kind), lambda _: None)
    assert found.plan == Plan(4 * lanes, lanes)
    assert asked == [at for at in (100, 50, 25, 12, 6, 3, 1) if at >= lanes]


def test_nothing_is_found_where_one_seed_does_not_fit(compiler, toy):
    compiler[1]["GiB a lane"] = 13.0
    assert ahead.largest_fitting(prepared(toy), Plan(8, 2), four_chips(), lambda _: None) is None


@pytest.fixture
def here(monkeypatch):
    """This machine's two devices in the place of a topology's."""
    monkeypatch.setattr(ahead, "use_no_device", lambda: None)
    monkeypatch.setattr(ahead, "topology_mesh", lambda name: local_mesh())


def compiled(capsys, *words):
    cli.main(["compile", *words])
    return capsys.readouterr().out


@pytest.mark.usefixtures("here")
def test_the_command_says_what_a_program_takes(capsys):
    printed = compiled(
        capsys, "single_step", "--topology", "v5e:2x2", *smoke_options("single_step"), "--seeds", "10", "--lanes", "2",
        "--sweep", "widths=8,4-4", "--sweep", "eps=0.1,0.2", "--precision", "float32",
    )  # fmt: skip
    for title in ("single_step, widths=8, float32 for v5e:2x2", "single_step, widths=4-4, float32 for v5e:2x2"):
        assert title in printed
    rows = dict(re.findall(r"^ ?(\S.*?)  +(\S.*?) *$", printed, re.MULTILINE))
    assert rows["devices"] == "2 x cpu"
    assert rows["seeds"] == "6, 2 at once (12 on all devices)"
    assert rows["collectives"] == "none"
    assert rows["memory in all"].endswith("of an unknown number")
    assert float(rows["FLOPs of matrix products"]) > 0
    assert re.fullmatch(r"[\d.]+ (bytes|KiB|MiB)", rows["temporaries"])


@pytest.mark.usefixtures("here")
def test_the_papers_size_is_compiled_too(capsys, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import jax, subsim\n"
        "run = lambda key, hyper: {'number': jax.random.normal(key)}\n"
        "study = subsim.Study('mine', '', lambda config, data: run, {'number': subsim.Variable('')}, seeds=2, \n"
        "                     paper={'seeds': 12, 'precision': 'float64'})\n"
    )
    for size, title, seeds in (("laptop", "mine, float32", 2), ("paper", "mine, float64", 12)):
        printed = compiled(capsys, "./mine.py", "--topology", "v5e:2x2", "--size", size)
        assert title in printed
        assert f"({seeds} on all devices)" in printed


@pytest.mark.parametrize(
    ("study", "words", "complaint"),
    [
        ("single_step", [], ["--topology"]),
        ("single_step", ["--topology", "v5e:2x2", "--seeds", "0"], ["seeds is 0"]),
        ("single_step", ["--topology", "v5e:2x2", "--chunk", "0"], ["chunk is 0"]),
        ("single_step", ["--topology", "v5e:2x2", "--lanes", "-1"], ["lanes is -1"]),
        ("single_step", ["--topology", "v5e:2x2", "--precision", "bfloat16"], ["precision", "float64"]),
        ("single_step", ["--topology", "v5e:2x2", "--sweep", "eps=-1,1"], ["eps is -1"]),
        ("single_step", ["--topology", "v5e:2x2", "--sweep", "eps=1", "--sweep", "eps=2"], ["twice"]),
        ("throughput", ["--topology", "v5e:2x2"], ["no program"]),
    ],
)
@pytest.mark.usefixtures("here")
def test_bad_options_are_refused_in_a_sentence(capsys, study, words, complaint):
    refused(capsys, [study, *words], complaint)


def refused(capsys, words, complaint):
    with pytest.raises(SystemExit) as stop:
        cli.main(["compile", *words])
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


def test_too_little_memory_is_said(monkeypatch, toy):
    monkeypatch.setattr(ahead, "compile_plan", lambda *_: None)
    for options in ({}, {"chunk": 2}):
        with pytest.raises(UserError, match="too little memory"):
            list(ahead.compile_ahead(toy, mesh=local_mesh(), **options))


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0 bytes"),
        (1023, "1,023 bytes"),
        (1024, "1.0 KiB"),
        (55281152, "52.7 MiB"),
        (2**34, "16.0 GiB"),
    ],
)
def test_bytes_in_words(n, text):
    assert ahead.in_bytes(n) == text
