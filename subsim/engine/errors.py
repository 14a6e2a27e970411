"""The errors of a study's own code, without the frames of the engine around them."""

import functools
import logging
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

import jax

P = ParamSpec("P")
T = TypeVar("T")

_ENGINE = Path(__file__).parent
_HIDDEN = (_ENGINE, Path(jax.__file__).parent)
# Where jax reports, and then wraps beyond recognition, what a function called on the host raises inside a program.
_CALLBACKS = logging.getLogger(jax.pure_callback.__module__)


def runs_the_study(function: Callable[P, T]) -> Callable[P, T]:
    """`function`, which calls the study's code, but raising what that code raised: with the study's frames alone, and
    itself where a host function inside the program raised it.

    Set JAX_TRACEBACK_FILTERING=off to see every frame, as with jax itself.
    """

    @functools.wraps(function)
    def calling_the_study(*args: P.args, **kwargs: P.kwargs) -> T:
        raised: list[BaseException] = []

        def take(record: logging.LogRecord) -> bool:
            if record.exc_info and record.exc_info[1]:
                raised.append(record.exc_info[1])
            return not record.exc_info  # it is raised below, and so not reported

        _CALLBACKS.addFilter(take)
        try:
            return function(*args, **kwargs)
        except Exception as error:
            raised.append(error)
        finally:
            _CALLBACKS.removeFilter(take)
        if len(raised) > 1:
            _forget_callbacks()
        # The first is the cause of the others. Raised out here, it takes none of them along as its context.
        raise raised[0].with_traceback(_trimmed(raised[0].__traceback__))

    return calling_the_study


def _forget_callbacks() -> None:
    """Have every device end well the last program that called the host: jax would report how that ended at exit, again,
    and once for each device."""
    for device in jax.local_devices():
        with jax.default_device(device):
            jax.jit(functools.partial(jax.debug.callback, lambda: None))()


def own_traceback(error: BaseException) -> types.TracebackType | None:
    """The frames of the study that raised `error`; None where it is not an error of a study."""
    entries = list(_entries(error.__traceback__))
    ours = [number for number, entry in enumerate(entries) if _file(entry).is_relative_to(_ENGINE)]
    # Trimmed above, the innermost frame of the engine is that of `calling_the_study`.
    return entries[ours[-1]].tb_next if ours and _file(entries[ours[-1]]) == Path(__file__) else None


def _trimmed(traceback: types.TracebackType | None) -> types.TracebackType | None:
    """`traceback` without the frames of the engine and of jax; all of it where there are no others."""
    if getattr(jax.config, "jax_traceback_filtering", None) == "off":
        return traceback
    kept = None
    for entry in reversed(list(_entries(traceback))):
        if not any(_file(entry).is_relative_to(folder) for folder in _HIDDEN):
            kept = types.TracebackType(kept, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return kept or traceback


def _entries(traceback: types.TracebackType | None) -> Iterator[types.TracebackType]:
    while traceback:
        yield traceback
        traceback = traceback.tb_next


def _file(entry: types.TracebackType) -> Path:
    return Path(entry.tb_frame.f_code.co_filename)
