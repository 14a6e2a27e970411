"""Divide the chunks of one run among several processes. No process waits for another."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import filelock
import numpy as np

from subsim.options import UserError, require

_LOCKS = ".locks"
_PATIENCE = 1.0  # seconds; to look whether a lock is free takes it for a moment


class Shard(NamedTuple):
    """One of `total` processes that share a run; `number` counts from 1."""

    number: int = 1
    total: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"

    def part(self, missing: np.ndarray, chunk: int, program: int) -> np.ndarray:
        """Return the `missing` seeds of this shard's chunks: every `total`-th chunk of each program."""
        return missing[(missing // chunk + program) % self.total == self.number - 1]


@contextlib.contextmanager
def held(folder: Path, shard: Shard) -> Iterator[None]:
    """Lock `folder` inside the block against the same shard, and against shards with another `total`.

    Shards with the same `total` write different chunks. The kernel releases the locks of a process that ends.
    Raises `UserError` where another process is at work, or where `folder` cannot be written.
    """
    with _lock(folder, f"{shard.number}-of-{shard.total}", _PATIENCE) as free:
        # The own lock comes before the look at the others': of two that start together, at least one sees the other.
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
    """Take the lock `name` of `folder`; yields whether it was free within so many seconds."""
    try:
        (folder / _LOCKS).mkdir(parents=True, exist_ok=True)
        # On a file system without locks, filelock's fallback would outlive a killed process.
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
