"""Several processes of one run: each takes its share of the chunks, and none waits for another."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import filelock
import numpy as np

from subsim.options import UserError, require

_LOCKS = ".locks"
_PATIENCE = 1.0  # seconds: who only looks whether a lock is free has it for a moment


class Shard(NamedTuple):
    """This is the `number`-th, from 1, of `total` processes that share a run."""

    number: int = 1
    total: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"

    def part(self, missing: np.ndarray, chunk: int, program: int) -> np.ndarray:
        """Return those of the `missing` seeds whose chunks are this shard's: every `total`-th, for each program."""
        return missing[(missing // chunk + program) % self.total == self.number - 1]


@contextlib.contextmanager
def held(folder: Path, shard: Shard) -> Iterator[None]:
    """Keep out of `folder`, inside the block, the same shard of another process and shards of any other number.

    Shards of one number write different chunks. The locks are the kernel's and go with their process, however it ends.
    Raises `UserError` where another process is at work, or where `folder` cannot be written.
    """
    with _lock(folder, f"{shard.number}-of-{shard.total}", _PATIENCE) as free:
        # Its own lock comes first, and then the look at others': of two that begin together, none overlooks the other.
        others = sorted(name for name in _names(folder) if not name.endswith(f"-of-{shard.total}")) if free else []
        busy = next((name for name in others if not _is_free(folder, name)), "")
        held_by = busy.replace("-of-", "/") if free else str(shard)
        words = "another run" if held_by == "1/1" else f"shard {held_by} of another run"
        require(
            not held_by,
            f"out: {folder} is in use by {words}; wait until it has ended, or choose another folder with --out.",
        )
        yield


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other process makes or repairs the store in `folder`, and keep them out inside the block."""
    with _lock(folder, "store", 600.0) as free:
        require(free, f"out: {folder} is being made or repaired by another run; wait until it has ended.")
        yield


def others_at_work(folder: Path, shard: Shard) -> bool:
    """Whether another shard of the run is at work in `folder`."""
    return not all(_is_free(folder, name) for name in _names(folder) - {f"{shard.number}-of-{shard.total}"})


def _names(folder: Path) -> set[str]:
    return {file.stem for file in (folder / _LOCKS).glob("*-of-*.lock")}


def _is_free(folder: Path, name: str) -> bool:
    with _lock(folder, name, _PATIENCE) as free:
        return free


@contextlib.contextmanager
def _lock(folder: Path, name: str, seconds: float) -> Iterator[bool]:
    """Take the lock `name` of `folder`, and say whether it was free within so many seconds."""
    try:
        (folder / _LOCKS).mkdir(parents=True, exist_ok=True)
        # Where the file system has no locks, filelock's own stand-in would outlive a process that is killed.
        lock = filelock.FileLock(folder / _LOCKS / f"{name}.lock", timeout=seconds, fallback_to_soft=False)
        lock.acquire()
    except filelock.Timeout:
        yield False
        return
    except (OSError, NotImplementedError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"out: cannot write to {folder} ({reason}); choose another folder.") from None
    try:
        yield True
    finally:
        lock.release()
