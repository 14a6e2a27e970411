"""One command at a time in a folder of results."""

import contextlib
import errno
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from subsim.options import UserError

try:
    import fcntl
except ImportError:  # Windows: nothing keeps a second process out there, and starting one is the user's own risk
    fcntl = None  # type: ignore[assignment]

FILE = "run.lock"
# What file systems answer that know no locks (some network mounts); there, too, nothing keeps a second process out.
_UNKNOWN = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextlib.contextmanager
def held(folder: Path, process: int = 0) -> Iterator[None]:
    """Keep every other command out of `folder` inside the block.

    Process 0 of a command enters only where no process of another command is left, and the command's further processes
    enter after it, beside it. The lock is the kernel's: it goes with its process, however that ends, and is never
    stale; the file stays, since removing it would let two processes hold two files of one name.

    Raises `UserError` where another command is at work, or where `folder` cannot be written.
    """
    with _opened(folder) as file:
        free = process > 0 or _locked(file, alone=True)
        if free and process == 0:
            with contextlib.suppress(OSError):  # a full disk; the name is a courtesy
                _sign(file)
        # From here on beside this command's other processes.
        if not (free and _locked(file, alone=False)):
            raise UserError(
                f"out: {folder} is in use by another run ({_holder(file)}); wait until it has ended, or choose another "
                "folder with --out."
            )
        yield


def _opened(folder: Path) -> IO[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return open(folder / FILE, "a+")
    except OSError as error:
        raise UserError(f"out: cannot write to {folder} ({error.strerror or error}); choose another folder.") from None


def _locked(file: IO[str], alone: bool) -> bool:
    """Whether the lock could be taken: by this process alone, or beside others that did not ask to be alone."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _UNKNOWN:
            return True
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def _sign(file: IO[str]) -> None:
    file.truncate(0)
    file.write(f"process {os.getpid()} on {platform.node()}\n")
    file.flush()


def _holder(file: IO[str]) -> str:
    file.seek(0)
    return file.read().strip() or "of unknown process"
