"""The devices of this process, as a mesh whose only axis is the seed."""

import contextlib
import ctypes
import os
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

AXIS = "seed"
# By default jax keeps what took a second to compile, and a study's small programs together take more than that.
_KEEP_ALL = {"jax_persistent_cache_min_compile_time_secs": 0, "jax_persistent_cache_min_entry_size_bytes": -1}

_ARENAS = -8  # glibc's number of the setting M_ARENA_MAX


def local_mesh() -> Mesh:
    """All devices of this process along the axis `seed`; the other processes of a run have theirs."""
    return Mesh(np.asarray(jax.local_devices()), (AXIS,))


def is_cpu(mesh: Mesh) -> bool:
    """Whether the devices of `mesh` are CPUs."""
    return mesh.devices.flat[0].platform == "cpu"


def keep_programs(folder: Path) -> None:
    """Keep compiled programs in `folder`, the quickly compiled among them, so that a repeated command need not compile
    any; the user's own settings of jax's persistent compilation cache are left as they are."""
    if jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    for name, value in _KEEP_ALL.items():
        if name.upper() not in os.environ:
            jax.config.update(name, value)


def share_arena() -> None:
    """Have all threads of this process allocate from one arena, where its C library is glibc and the environment's
    `MALLOC_ARENA_MAX` does not say otherwise.

    By default each gets its own and keeps what was freed there. XLA allocates a program's memory from whichever thread
    runs it: a run of a million seeds came to hold 300 MB more than one of 10,000, and now holds what that holds.
    """
    if "MALLOC_ARENA_MAX" not in os.environ:
        with contextlib.suppress(OSError, AttributeError, TypeError):
            ctypes.CDLL(None).mallopt(_ARENAS, 1)


def memory_limit(mesh: Mesh) -> int:
    """Bytes of memory that each device of `mesh` has; devices on the CPU share the host's."""
    device = mesh.devices.flat[0]
    statistics = device.memory_stats()
    if statistics and "bytes_limit" in statistics:
        return int(statistics["bytes_limit"])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // mesh.size
