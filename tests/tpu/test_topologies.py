"""Programs compiled for TPUs on a machine that has none; needs libtpu, which the extra tpu brings."""

import dataclasses
import re

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import subsim
from subsim import UserError, cli, datasets
from subsim.engine import ahead
from subsim.engine.chunks import HEADROOM
from subsim.engine.devices import AXIS

GIB = 2**30
ahead.use_no_device()
# A third of the time; programs that are optimised less need no less memory.
jax.config.update("jax_optimization_level", "O1")


@pytest.fixture
def mnist(monkeypatch):
    """Images of MNIST's shapes, of which a compiler sees no more."""
    shapes = (60_000, 784), (60_000,), (10_000, 784), (10_000,)
    blank = datasets.Dataset(*map(np.zeros, shapes, (np.uint8, np.int32, np.uint8, np.int32)))
    monkeypatch.setattr(datasets, "load", lambda name: blank)


@pytest.mark.usefixtures("mnist", "optax_promotion")
@pytest.mark.parametrize(("topology", "chips", "seeds"), [("v5e:2x2", 4, 100), ("v5e:16x16", 256, 256)])
def test_figure_10_fits_its_chips_and_they_need_not_speak(topology, chips, seeds):
    mesh = ahead.topology_mesh(topology)
    assert mesh.size == chips
    study = subsim.load_study("mnist_aux_logits")
    ((_, program),) = ahead.compile_ahead(study, mesh=mesh, seeds=seeds)
    assert program.costs.collectives == {}
    assert program.costs.memory <= HEADROOM * 16 * GIB
    assert program.plan.lanes >= min(seeds // chips, 8)
    # Both sets of images, a byte a pixel, and their labels, padded by an eighth at most.
    assert 1 <= program.costs.arguments / (70_000 * (784 + 4)) < 1.125


def test_what_passes_between_chips_is_seen():
    mesh = ahead.topology_mesh("v5e:2x2")
    apart = PartitionSpec(AXIS)
    gossip = jax.jit(jax.shard_map(lambda x: x + jax.lax.psum(x, AXIS), mesh=mesh, in_specs=apart, out_specs=apart))
    shares = jax.ShapeDtypeStruct((4, 1024), np.float32, sharding=NamedSharding(mesh, apart))
    assert ahead.collectives(gossip.lower(shares).compile().as_text()) == {"all-reduce": 1}


def test_seeds_are_halved_until_the_compiler_and_the_memory_take_them(toy):
    """A seed holds a matrix of a GiB, and for part of the time a second one; a chip has 16 GiB."""

    def run(key, hyper):
        matrix = jax.random.normal(key, (2**14, 2**14))
        return {"first": (matrix @ matrix)[0, 0] + matrix[0, 0]}

    study = dataclasses.replace(toy, make_run=lambda config, data: run, chunk=64)
    tried = []
    ((_, program),) = ahead.compile_ahead(study, mesh=ahead.topology_mesh("v5e:2x2"), seeds=64, notice=tried.append)
    assert tried[:2] == ["chunk 64", "chunk 32"]
    assert program.plan.lanes in (4, 8)
    assert program.plan.lanes * GIB <= program.costs.memory <= HEADROOM * 16 * GIB
    with pytest.raises(UserError, match="TPU v5 lite has too little memory"):
        list(ahead.compile_ahead(study, mesh=ahead.topology_mesh("v5e:2x2"), seeds=64, chunk=64))


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float64"])
def test_every_precision_compiles(toy, precision):
    ((_, program),) = ahead.compile_ahead(toy, mesh=ahead.topology_mesh("v6e:2x2"), precision=precision)
    assert program.costs.collectives == {}
    assert program.costs.code > 0


def test_the_command(tmp_path, capsys):
    (tmp_path / "mine.py").write_text("""
import jax, subsim
study = subsim.Study(
    name="mine", title="Draws a number.", variables={"number": subsim.Variable("a number")},
    make_run=lambda config, data: lambda key, hyper: {"number": jax.random.normal(key)},
)
""")
    cli.main(["compile", "./mine.py", "--topology", "v5p:2x2x1", "--seeds", "10"])
    printed = capsys.readouterr().out
    for words in ("mine, float32 for v5p:2x2x1", "4 x TPU v5", "3 (12 on all devices)", "of 95.0 GiB (0%)", "none"):
        assert words in printed


@pytest.mark.parametrize(("topology", "gib"), [("v4:2x2x1", 16), ("v5e:4x4", 16), ("v5p:2x2x1", 95), ("v6e:2x2", 32)])
def test_memory_of_every_kind(topology, gib):
    assert ahead.device_memory(ahead.topology_mesh(topology)) == gib * GIB


@pytest.mark.parametrize("name", ["v5e:3x5", "v99:2x2", "v5e", "v5e:0x0", "", "v5e:2x2; v5e:2x2"])
def test_an_unknown_topology_is_refused_by_name(name):
    with pytest.raises(UserError, match=re.escape(f"topology is {name!r}")):
        ahead.topology_mesh(name)
