"""The settings of jax that a run fixes for itself, so that a seed is the same in every shell and notebook."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from subsim.engine.study import Precision

PRNG = "threefry2x32"
"""The implementation of every key: jax's own default, whatever JAX_DEFAULT_PRNG_IMPL says."""
# What each precision asks of matrix products. By default a GPU or TPU would round float32 operands without a word.
_MATMUL = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "bfloat16", "float64": "highest"}
# What promotes silently in a user's code may do so; our own tests set both of these to their strict values.
dtype_promotion = "standard"
rank_promotion = "allow"
# By default jax keeps what took a second to compile, and a study's small programs together take more than that.
_KEEP_ALL = {"jax_persistent_cache_min_compile_time_secs": 0, "jax_persistent_cache_min_entry_size_bytes": -1}


@contextlib.contextmanager
def fixed(precision: Precision) -> Iterator[None]:
    """Run jax in `precision`, and with the settings of subsim, inside the block; as before outside it."""
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

    The user's own settings of jax's persistent compilation cache stay as they are. Returns a sentence where `folder`
    cannot be written; nothing is kept then.
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
