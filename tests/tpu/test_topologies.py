"""Programs compiled for TPUs on a machine that has none; needs libtpu, which the extra tpu brings."""

import dataclasses
import re

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import subsim
from subsim import UserError
from subsim.cli import commands
from subsim.data import datasets
from subsim.engine import topology
from subsim.engine.devices import AXIS, memory
from subsim.engine.plan import HEADROOM
from subsim.engine.task import make_task

GIB = 2**30
topology.use_no_device()
# A third of the time; programs that are optimised less need no less memory.
jax.config.update("jax_optimization_level", "O1")


@pytest.fixture
def mnist(monkeypatch):
    """Images of MNIST's shapes, of which a compiler sees no more."""
    shapes = (60_000, 784), (60_000,), (10_000, 784), (10_000,)
    blank = datasets.Dataset(*map(np.zeros, shapes, (np.uint8, np.int32, np.uint8, np.int32)))
    monkeypatch.setattr(datasets, "load", lambda name: blank)


def compiled(study, name, chunk=None, at_once=None, notice=lambda words: None, precision=None):
    """The one program of `study`, compiled for the topology `name`."""
    task = make_task(study, None, None, None, 0, precision)
    ((_, _, found),) = topology.compile_task(task, topology.topology_mesh(name), chunk, at_once, notice)
    return found


@pytest.mark.usefixtures("mnist", "optax_promotion")
@pytest.mark.parametrize(("name", "chips", "seeds"), [("v5e:2x2", 4, 100), ("v5e:16x16", 256, 256)])
def test_figure_10_fits_its_chips_and_they_need_not_speak(name, chips, seeds):
    assert topology.topology_mesh(name).size == chips
    found = compiled(subsim.load_study("mnist_aux_logits").at_size("paper"), name, chunk=seeds)
    assert found.collectives == {}
    # Both sets of images, a byte a pixel, and their labels are the least.
    assert 70_000 * (784 + 4) < found.memory <= HEADROOM * 16 * GIB
    assert found.plan.at_once >= min(seeds // chips, 7)


def test_what_passes_between_chips_is_seen():
    mesh = topology.topology_mesh("v5e:2x2")
    apart = PartitionSpec(AXIS)
    gossip = jax.jit(jax.shard_map(lambda x: x + jax.lax.psum(x, AXIS), mesh=mesh, in_specs=apart, out_specs=apart))
    shares = jax.ShapeDtypeStruct((4, 1024), np.float32, sharding=NamedSharding(mesh, apart))
    assert topology.collectives(gossip.lower(shares).compile().as_text()) == {"all-reduce": 1}


def test_seeds_are_halved_until_the_compiler_and_the_memory_take_them(toy):
    """A seed holds a matrix of a GiB, and for part of the time a second one; a chip has 16 GiB."""

    def run(key, hyper):
        matrix = jax.random.normal(key, (2**14, 2**14))
        return {"first": (matrix @ matrix)[0, 0] + matrix[0, 0]}

    study = dataclasses.replace(toy, make_run=lambda config, data: run, chunk=64)
    tried = []
    found = compiled(study, "v5e:2x2", at_once=16, notice=tried.append)
    assert tried[:2] == ["chunk 64", "chunk 64, 32 at once"]
    assert found.plan.at_once in (4, 8)
    assert found.plan.at_once * GIB <= found.memory <= HEADROOM * 16 * GIB


def test_a_seed_that_no_chip_has_room_for_is_said(toy):
    def run(key, hyper):
        matrix = jax.random.normal(key, (2**16, 2**16))
        return {"first": (matrix @ matrix)[0, 0] + matrix[0, 0]}

    study = dataclasses.replace(toy, make_run=lambda config, data: run, chunk=4)
    with pytest.raises(UserError, match=r"One seed alone needs more memory than the device \(TPU v5 lite\) has"):
        compiled(study, "v5e:2x2")


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float64"])
def test_every_precision_compiles(toy, precision):
    found = compiled(toy, "v6e:2x2", precision=precision)  # of which two are one program: no cache may hold it
    assert found.collectives == {}
    assert found.memory > 0


def test_the_command(tmp_path, capsys):
    (tmp_path / "mine.py").write_text("""
import jax, subsim
study = subsim.Study(
    name="mine", title="Draws a number.", variables={"number": subsim.Variable("a number")},
    make_run=lambda config, data: lambda key, hyper: {"number": jax.random.normal(key)},
)
""")
    commands.main(["compile", "./mine.py", "--topology", "v5p:2x2x1", "--chunk", "10"])
    printed = capsys.readouterr().out
    for words in (
        "mine, float32 for v5p:2x2x1",
        "4 x TPU v5",
        "3 on each device, 12 on all",
        "of 95.0 GiB (0%)",
        "none",
    ):
        assert words in printed


@pytest.mark.parametrize(("name", "gib"), [("v4:2x2x1", 16), ("v5e:4x4", 16), ("v5p:2x2x1", 95), ("v6e:2x2", 32)])
def test_memory_of_every_kind(name, gib):
    assert memory(topology.topology_mesh(name)) == gib * GIB


@pytest.mark.parametrize("name", ["v5e:3x5", "v99:2x2", "v5e", "v5e:0x0", "", "v5e:2x2; v5e:2x2"])
def test_an_unknown_topology_is_refused_by_name(name):
    with pytest.raises(UserError, match=re.escape(f"topology is {name!r}")):
        topology.topology_mesh(name)
