"""Run a study for a command: with a progress bar, a cache of compiled programs, and a time limit."""

import functools
from time import monotonic
from typing import TYPE_CHECKING, Any

from subsim.cli.terminal import complain, progress_of
from subsim.options import require

if TYPE_CHECKING:
    import xarray as xr

    from subsim.engine.study import Study

IN_MEMORY = 2**25  # bytes of results that a report loads at once; larger results are read part by part


class OutOfTime(Exception):
    """The time limit of a run has passed; finished seeds are on disk."""


def deadline(minutes: float | None) -> float | None:
    """Return the end of the time limit by `time.monotonic`; None if there is no limit."""
    require(minutes is None or minutes > 0, f"minutes is {minutes}; it must be above 0.")
    return None if minutes is None else monotonic() + 60 * minutes


def simulate(study: "Study", config: Any, hyper: Any, *, until: float | None = None, **options: Any) -> "xr.Dataset":
    """Run the engine's `simulate` with a progress bar and a persistent cache of compiled programs.

    Raises `OutOfTime` after the first call that ends later than `until`, if seeds are left.
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
    """Keep jax's compiled programs in subsim's cache; if this fails, print the reason once."""
    from subsim.data.datasets import cache_folder
    from subsim.engine import settings

    reason = settings.keep_programs(cache_folder("programs"))
    if reason:
        complain(reason)
