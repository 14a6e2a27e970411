"""The devices of this process, as a mesh whose only axis is the seed."""

import os
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

AXIS = "seed"


def local_mesh() -> Mesh:
    """All devices of this process along the axis `seed`; the other processes of a run have theirs."""
    return Mesh(np.asarray(jax.local_devices()), (AXIS,))


def keep_programs(folder: Path) -> None:
    """Keep compiled programs in `folder`, so that a repeated command need not compile them; the user's own setting of
    jax's persistent compilation cache is left as it is."""
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(folder))


def memory_limit(mesh: Mesh) -> int:
    """Bytes of memory that each device of `mesh` has; devices on the CPU share the host's."""
    device = mesh.devices.flat[0]
    statistics = device.memory_stats()
    if statistics and "bytes_limit" in statistics:
        return int(statistics["bytes_limit"])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // mesh.size
