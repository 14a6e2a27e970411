"""Check that a command can write its output, before it starts its work."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from subsim.options import UserError


def require_writable(option: str, path: Path, *, folder: bool = False, make: bool = True) -> None:
    """Raise `UserError` unless the file or `folder` at `path` can be written; `make` missing folders.

    Call it before the work, so that no work is done in vain.
    """
    with write_refusals(option, path, ValueError):
        parent = path if folder else path.parent
        if make:
            parent.mkdir(parents=True, exist_ok=True)
        # Other paths, such as /dev/stdout, are not tested.
        if folder or not path.exists() or path.is_file() or path.is_dir():
            probe = parent / f".subsim-{os.getpid()}" if folder else path
            there = probe.exists()
            with probe.open("ab"):
                pass
            if not there:
                probe.resolve().unlink()  # keeps a link to a file that does not exist yet


@contextlib.contextmanager
def write_refusals(option: str, path: Path, *others: type[Exception]) -> Iterator[None]:
    """Turn errors of writing to `path`, given by `option`, into a `UserError`; `others` are further types of errors."""
    refusals: tuple[type[Exception], ...] = (OSError, *others)
    try:
        yield
    except refusals as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{option}: cannot write to {path} ({reason}); choose another path.") from None
