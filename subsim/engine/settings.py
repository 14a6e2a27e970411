"""The settings of jax that a run fixes, so that a seed is the same in every shell and notebook."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from subsim.engine.study import Precision

PRNG = "threefry2x32"
"""The implementation of every key: jax's default, whatever the variable JAX_DEFAULT_PRNG_IMPL says."""
# The precision of matrix products. By jax's default a GPU or TPU rounds float32 operands without a word.
_MATMUL = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "bfloat16", "float64": "highest"}
# A user's code may promote dtypes and ranks implicitly. Our own tests set both to their strict values.
dtype_promotion = "standard"
rank_promotion = "allow"
# By default jax keeps only programs that took a second to compile. The many small ones take longer together.
_KEEP_ALL = {"jax_persistent_cache_min_compile_time_secs": 0, "jax_persistent_cache_min_entry_size_bytes": -1}


@contextlib.contextmanager
def fixed(precision: Precision) -> Iterator[None]:
    """Set jax's precision and the settings of subsim inside the block."""
    with contextlib.ExitStack() as stack:
        for setting in (
            jax.enable_x64(precision == "float64"),
            jax.default_matmul_precision(_MATMUL[precision]),
            jax.default_prng_impl(PRNG),
            jax.threefry_partitionable(True),
            jax.disable_jit(False),
            jax.debug_nans(False),  # a seed that diverges is a result
            jax.debug_infs(False),
            jax.transfer_guard("allow"),
            jax.numpy_dtype_promotion(dtype_promotion),
            jax.numpy_rank_promotion(rank_promotion),
        ):
            stack.enter_context(setting)
        yield


def keep_programs(folder: Path) -> str | None:
    """Keep compiled programs in `folder`, so that a repeated command need not compile any.

    A compilation cache that the user has set stays in use. Returns a sentence where `folder` cannot be written; no
    program is kept then.
    """
    config: Any = jax.config  # whose settings some versions of jax do not declare
    if config.jax_compilation_cache_dir is not None:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        return (
            f"Compiled programs are not kept: {folder} cannot be written ({error.strerror or error}); "
            "XDG_CACHE_HOME names another folder."
        )
    jax.config.update("jax_compilation_cache_dir", str(folder))
    for name, value in _KEEP_ALL.items():
        if name.upper() not in os.environ:
            jax.config.update(name, value)
    return None
