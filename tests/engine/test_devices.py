"""Four virtual devices, and what threads allocate from, in processes of their own: both are fixed at the start."""

import os
import platform
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

def run(key, hyper):
    a = jax.random.normal(key, (24, 24)) / 5
    return {"bits": jax.random.bits(key), "trace": jnp.trace(jnp.linalg.matrix_power(a, 5)), "row": a @ a[0]}

study = subsim.Study(
    name="products", title="Products.", make_run=lambda config, data: run, chunk=8, lanes=2,
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

prepared = program.prepare(study, None, None, (), 0, "float32")
traced = program.trace(prepared, program.Plan(4 * devices, 2), local_mesh()).traced
compiled = traced.lower().compile()
print(compiled.as_text())
record = compiled(*prepared.arguments, np.arange(4 * devices, dtype=np.uint32))
shares = record["trace"].addressable_shards
print("shares", [(share.device.id, *share.index[0].indices(4 * devices)[:2]) for share in shares])
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """A folder with the results of each number of seeds on one device and on four, and what the processes printed."""
    folder = tmp_path_factory.mktemp("devices")

    def printed(devices):
        environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)}
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
    xr.testing.assert_allclose(one, four, rtol=1e-5, atol=1e-5)


def test_each_device_has_its_share_and_none_speaks_to_another(outputs):
    _, printed = outputs
    assert "shares [(0, 0, 4), (1, 4, 8), (2, 8, 12), (3, 12, 16)]" in printed[4]
    assert "num_partitions=4" in printed[4]
    assert not re.search(r"all-(reduce|gather|to-all)|reduce-scatter|collective|send\(|recv\(", printed[4])


ALLOCATE = """
import ctypes, sys, threading
from subsim.engine import devices

if sys.argv[1] == "shared":
    devices.share_arena()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(4)


def allocate():
    together.wait()
    libc.malloc(1000)
    together.wait()


threads = [threading.Thread(target=allocate) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="arenas are glibc's")
@pytest.mark.parametrize(
    ("how", "setting", "alone"),
    [("shared", {}, True), ("shared", {"MALLOC_ARENA_MAX": "8"}, False), ("own", {}, False)],
)
def test_threads_share_an_arena_unless_the_user_says_otherwise(how, setting, alone):
    environment = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"} | setting
    command = [sys.executable, "-c", ALLOCATE, how]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert (ran.stdout.count("<heap nr=") == 1) is alone
