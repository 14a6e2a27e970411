"""Hashes of plain values and of arrays."""

import hashlib
import json
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np


def digest(value: Any) -> str:
    """Return the sha256 of a plain value in canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def fingerprint(arrays: Iterable[Any]) -> str:
    """Return the sha256 of `arrays`, with their shapes and types."""
    found = hashlib.sha256()
    for array in map(plain_array, arrays):
        found.update(f"{array.dtype} {array.shape} ".encode() + array.tobytes())
    return found.hexdigest()


def plain_array(array: Any) -> np.ndarray:
    """Return an array of numbers or keys as a numpy array in row-major order."""
    jax = sys.modules.get("jax")  # where it is not loaded, it has made no array
    if jax and isinstance(array, jax.Array) and jax.dtypes.issubdtype(array.dtype, jax.dtypes.extended):
        array = jax.random.key_data(array)
    return np.ascontiguousarray(array)
