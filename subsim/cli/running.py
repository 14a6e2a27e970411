"""Run a study as a command does: under a progress bar, with its programs kept, and for so many minutes at most."""

import functools
from time import monotonic
from typing import TYPE_CHECKING, Any

from subsim.cli.terminal import complain, progress_of
from subsim.options import require

if TYPE_CHECKING:
    import xarray as xr

    from subsim.engine.study import Study

IN_MEMORY = 2**25  # bytes of results that a run holds when it reports; of more it reads part after part


class OutOfTime(Exception):
    """The minutes of a run are over; what is finished is on disk."""


def deadline(minutes: float | None) -> float | None:
    """Return the moment, by `time.monotonic`, at which so many minutes are over; None where they have no end."""
    require(minutes is None or minutes > 0, f"minutes is {minutes}; it must be above 0.")
    return None if minutes is None else monotonic() + 60 * minutes


def simulate(study: "Study", config: Any, hyper: Any, *, until: float | None = None, **options: Any) -> "xr.Dataset":
    """The engine's `simulate` under a progress bar, with the programs that it compiles kept for the next time.

    Raises `OutOfTime` after the first call of a program that ends later than `until`, if seeds are left.
    """
    from subsim.engine import simulate as engine

    keep_programs()
    with progress_of(study.name) as (show, note):

        def progress(done: int, asked: int) -> None:
            show(done, asked)
            if until is not None and done < asked and monotonic() > until:
                raise OutOfTime(f"The minutes are over after {done:,} of {asked:,} seeds")

        return engine.simulate(study, config, hyper, progress=progress, notice=note, in_memory=IN_MEMORY, **options)


@functools.cache
def keep_programs() -> None:
    """Keep what jax compiles in subsim's cache; say why, once, where that cannot be."""
    from subsim.data.datasets import cache_folder
    from subsim.engine import settings

    reason = settings.keep_programs(cache_folder("programs"))
    if reason:
        complain(reason)
