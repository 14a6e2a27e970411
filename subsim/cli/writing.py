"""Where a command writes: refused in one sentence, and before the work whose outcome goes there."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from subsim.options import UserError


def require_writable(option: str, path: Path, *, folder: bool = False, make: bool = True) -> None:
    """Raise `UserError` unless the file or `folder` at `path` can be written; `make` the folders that are missing.

    It is called before the work whose outcome goes there, so that none is done in vain.
    """
    with write_refusals(option, path, ValueError):
        parent = path if folder else path.parent
        if make:
            parent.mkdir(parents=True, exist_ok=True)
        # What is neither a file nor a folder, such as /dev/stdout, is not tried out.
        if folder or not path.exists() or path.is_file() or path.is_dir():
            probe = parent / f".subsim-{os.getpid()}" if folder else path
            there = probe.exists()
            with probe.open("ab"):
                pass
            if not there:
                probe.resolve().unlink()  # of a link to a file that is not there yet, the link stays


@contextlib.contextmanager
def write_refusals(option: str, path: Path, *others: type[Exception]) -> Iterator[None]:
    """Say in a sentence that `path`, which `option` names, cannot be written; `others` are errors that mean it, too."""
    refusals: tuple[type[Exception], ...] = (OSError, *others)
    try:
        yield
    except refusals as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{option}: cannot write to {path} ({reason}); choose another path.") from None
