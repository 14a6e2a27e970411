"""The devices of this process, as a mesh whose only axis is the seed."""

import jax
import numpy as np
from jax.sharding import Mesh

AXIS = "seed"


def local_mesh() -> Mesh:
    """All devices of this process along the axis `seed`; the other processes of a run have theirs."""
    return Mesh(np.asarray(jax.local_devices()), (AXIS,))
