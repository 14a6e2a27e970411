"""The devices of this process, as a mesh with the single axis `seed`."""

import functools
import os
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from subsim.options import UserError, require

AXIS = "seed"
# GiB of memory of a chip, by the kind that its devices report; from Google's page on each version of the TPU.
CHIP_MEMORY = {"TPU v4": 32, "TPU v5 lite": 16, "TPU v5": 95, "TPU v6 lite": 32}


@functools.cache
def all_cores() -> bool:
    """Make every core a device. Return False where the user has set their number, or jax has already started."""
    config: Any = jax.config
    if config.jax_num_cpu_devices >= 0 or "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return False
    try:
        config.update("jax_num_cpu_devices", cores())
    except RuntimeError:  # jax has computed something
        return False
    return True


def local_mesh() -> Mesh:
    """Return all devices of this process along the axis `seed`; raises `UserError` where jax finds none."""
    all_cores()
    try:
        return Mesh(np.asarray(jax.local_devices()), (AXIS,))
    except (RuntimeError, AssertionError) as error:  # the latter where jax passes over the only platform asked for
        reason = str(error).partition("\n")[0].rstrip(".") or "it has no such one"
        asked = os.environ.get("JAX_PLATFORMS")
        asks = f"JAX_PLATFORMS is {asked!r}, but jax" if asked else "jax"
        raise UserError(f"{asks} finds no device to run on ({reason}); set JAX_PLATFORMS=cpu.") from None


def is_cpu(mesh: Mesh) -> bool:
    """Whether the devices of `mesh` are CPUs."""
    return mesh.devices.flat[0].platform == "cpu"


def require_precision(precision: str, mesh: Mesh) -> None:
    """Raise `UserError` if the devices of `mesh` lack this precision: jax would compute in float32 without a word."""
    platform = mesh.devices.flat[0].platform
    require(
        precision != "tf32" or platform == "gpu",
        f"precision is tf32, which GPUs alone have, and this is a {platform.upper()}; choose float32 or bfloat16.",
    )


def cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory(mesh: Mesh) -> int | None:
    """Return the bytes of memory of each device of `mesh`; None where nobody knows them.

    CPU devices share the host's memory. A device of another machine has the memory of its kind.
    """
    device = mesh.devices.flat[0]
    if is_cpu(mesh):
        reported = hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names  # not on Windows
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // mesh.size if reported else None
    try:
        return int(device.memory_stats()["bytes_limit"])
    except (jax.errors.JaxRuntimeError, TypeError, KeyError):  # it is not on this machine, or does not tell
        if device.device_kind not in CHIP_MEMORY:
            return None
    # On some kinds a device is half a chip.
    chips = len({tuple(each.coords) for each in mesh.devices.flat})
    return CHIP_MEMORY[device.device_kind] * 2**30 * chips // mesh.size
