"""Four virtual devices, in processes of their own: their number is fixed at the start."""

import os
import re
import subprocess
import sys

import pytest
import xarray as xr

import subsim

SEEDS = (1, 3, 8, 10, 13)
SCRIPT = """
import sys
import jax, jax.numpy as jnp
import numpy as np
import subsim
from subsim.engine import program
from subsim.engine.devices import local_mesh
from subsim.engine.plan import Plan

def run(key, hyper):
    a = jax.random.normal(key, (24, 24)) / 5
    return {"bits": jax.random.bits(key), "trace": jnp.trace(jnp.linalg.matrix_power(a, 5)), "row": a @ a[0]}

study = subsim.Study(
    name="products", title="Products.", make_run=lambda config, data: run, chunk=8,
    variables={
        "bits": subsim.Variable("what the key is"),
        "trace": subsim.Variable("a trace"),
        "row": subsim.Variable("products", ("column",)),
    },
)
devices, *counts = map(int, sys.argv[1:])
assert jax.local_device_count() == devices
for seeds in counts:
    subsim.simulate(study, seeds=seeds, out=f"{devices}/{seeds}")

mesh, plan = local_mesh(), Plan(8 * devices, 2)
one = program.trace(study, [None], None, (), 0, "float32")
compiled = program.batched(one, plan, mesh).lower().compile()
print(compiled.as_text())
record = compiled(one.arguments, np.int32(4), np.arange(8 * devices, dtype=np.uint32).reshape(4, 2 * devices))
shares = record["trace"].addressable_shards
print("shares", [(share.device.id, *share.index[1].indices(2 * devices)[:2]) for share in shares])
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """A folder with the results of each number of seeds on one device and on four, and what the processes printed."""
    folder = tmp_path_factory.mktemp("devices")

    def printed(devices):
        # The program is the same for every number of seeds: it is compiled once.
        kept = {"JAX_COMPILATION_CACHE_DIR": str(folder / "kept"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        environment = os.environ | kept | {"JAX_NUM_CPU_DEVICES": str(devices)}
        command = [sys.executable, "-c", SCRIPT, str(devices), *map(str, SEEDS)]
        ended = subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        return ended.stdout

    return folder, {devices: printed(devices) for devices in (1, 4)}


@pytest.mark.parametrize("seeds", SEEDS)
def test_four_devices_give_the_results_of_one(outputs, seeds):
    folder, _ = outputs
    one, four = (subsim.load_results(folder / devices / str(seeds)) for devices in ("1", "4"))
    assert one.sizes["seed"] == seeds
    assert (one.status == 1).all()
    assert len(set(one.bits.values.tolist())) == seeds
    # Each device has its own number of rounds, and the compiler rounds a loop of one otherwise than a longer one.
    xr.testing.assert_equal(one[["bits", "status"]], four[["bits", "status"]])
    made_by = [{origin["devices"] for origin in each.attrs["origins"].values()} for each in (one, four)]
    assert made_by == [{1}, {4}]
    xr.testing.assert_allclose(one.drop_vars("made_by"), four.drop_vars("made_by"), rtol=1e-5, atol=1e-5)


def test_each_device_has_its_share_and_none_speaks_to_another(outputs):
    _, printed = outputs
    assert "shares [(0, 0, 2), (1, 2, 4), (2, 4, 6), (3, 6, 8)]" in printed[4]
    assert "num_partitions=4" in printed[4]
    assert not re.search(r"all-(reduce|gather|to-all)|reduce-scatter|collective|send\(|recv\(", printed[4])


ALONE = """
import sys
import jax, jax.numpy as jnp
import subsim
from subsim.engine.devices import cores

if "begun" in sys.argv:
    jnp.ones(3)
def run(key):
    a = jax.random.normal(key, (24, 24)) / 5
    return {"trace": jnp.trace(jnp.linalg.matrix_power(a, 5)), "row": a @ a[0]}

results = subsim.simulate(subsim.Study(name="products", run=run), seeds=300)
[origin] = results.attrs["origins"].values()
print(cores(), origin["devices"], jax.local_device_count(), results.row.values.tobytes().hex())
"""


def test_every_core_is_a_device_unless_the_user_says_how_many_or_jax_has_begun():
    outside = {name: value for name, value in os.environ.items() if name not in ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS")}
    ways = {
        "by itself": ({}, []),
        "begun": ({}, ["begun"]),
        "jax": ({"JAX_NUM_CPU_DEVICES": "3"}, []),
        "xla": ({"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}, []),
    }
    running = {
        way: subprocess.Popen(
            [sys.executable, "-c", ALONE, *words], env=outside | more, stdout=subprocess.PIPE, text=True
        )
        for way, (more, words) in ways.items()
    }
    printed = {way: process.communicate()[0].split() for way, process in running.items()}
    [cores] = {words[0] for words in printed.values()}
    assert {way: words[1:3] for way, words in printed.items()} == {
        "by itself": [cores, cores],
        "begun": ["1", "1"],
        "jax": ["3", "3"],
        "xla": ["4", "4"],
    }
    # Each device runs what one alone would.
    assert len({words[3] for words in printed.values()}) == 1


@pytest.mark.parametrize(
    ("asked", "words"), [("abacus", "JAX_PLATFORMS is 'abacus', but jax finds no device"), ("", "")]
)
def test_where_there_is_no_device_a_sentence_says_so(asked, words):
    script = "from subsim.engine.devices import local_mesh; print(local_mesh().size)"
    environment = os.environ | {"JAX_PLATFORMS": asked, "JAX_NUM_CPU_DEVICES": "3"}
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert words in ran.stderr
    assert (ran.stdout == "3\n") is (not words)
