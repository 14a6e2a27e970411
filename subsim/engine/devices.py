"""The devices of this process, as a mesh with the single axis `seed`."""

import functools
import os
import sys
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from subsim.options import UserError, require

AXIS = "seed"


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


def own_memory(mesh: Mesh) -> int | None:
    """Return the bytes of memory that each device of `mesh` reports; None for a CPU or another machine's device."""
    try:
        statistics = mesh.devices.flat[0].memory_stats()
    except jax.errors.JaxRuntimeError:  # the device is not on this machine
        return None
    return int(statistics["bytes_limit"]) if statistics and "bytes_limit" in statistics else None


def memory_limit(mesh: Mesh) -> int:
    """Return the bytes of memory of each device of `mesh`. CPU devices share the host's memory.

    Where the system does not report it, as on Windows, the limit is `sys.maxsize`.
    """
    own = own_memory(mesh)
    if own is not None:
        return own
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // mesh.size
    return sys.maxsize
