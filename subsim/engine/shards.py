"""Several processes of one run: each takes its share of the chunks, and none waits for another."""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
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


def parse(text: str | None, environment: Mapping[str, str] = os.environ) -> Shard:
    """Return the shard that --shard asks for: "I/N", or "auto" for what the cluster says; None is the whole run.

    Raises `UserError` where it is none.
    """
    if text is None:
        return Shard()
    if text == "auto":
        shard = _of_cluster(environment)
        require(
            1 <= shard.number <= shard.total,
            f"shard is 'auto', but the cluster's environment makes this shard {shard}, which there is not: the numbers "
            "of an array's jobs must follow one another; write I/N.",
        )
        return shard
    words = re.fullmatch(r"(\d+)/(\d+)", text)
    require(words is not None, f"shard is {text!r}; write I/N, such as 1/4, or auto.")
    assert words is not None
    index, count = int(words[1]), int(words[2])
    require(1 <= index <= count, f"shard is {text!r}; I must lie in 1 .. N.")
    return Shard(index, count)


def _of_cluster(environment: Mapping[str, str]) -> Shard:
    def number(name: str, otherwise: int) -> int:
        return int(environment.get(name) or otherwise)

    try:
        if "SLURM_JOB_ID" in environment:
            # Tasks of one job, jobs of an array, or both: every task of every job is a shard.
            tasks, step = number("SLURM_NTASKS", 1), number("SLURM_ARRAY_TASK_STEP", 1)
            first = number("SLURM_ARRAY_TASK_MIN", 0)
            job = (number("SLURM_ARRAY_TASK_ID", first) - first) // step
            return Shard(job * tasks + number("SLURM_PROCID", 0) + 1, number("SLURM_ARRAY_TASK_COUNT", 1) * tasks)
        if "JOB_COMPLETION_INDEX" in environment:
            require(
                "JOB_COMPLETIONS" in environment,
                "shard is 'auto', but a Kubernetes Job does not tell its pods how many they are; set JOB_COMPLETIONS "
                "in their environment.",
            )
            return Shard(number("JOB_COMPLETION_INDEX", 0) + 1, number("JOB_COMPLETIONS", 1))
    except ValueError as error:
        raise UserError(f"shard is 'auto', but the cluster's environment has no number ({error}); write I/N.") from None
    import jax  # here, because to look at results takes none

    try:
        jax.distributed.initialize()
    except (RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise UserError(
            f"shard is 'auto', but neither SLURM nor Kubernetes nor jax says which shard this is ({reason}); write I/N."
        ) from None
    return Shard(jax.process_index() + 1, jax.process_count())


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
    """Wait until no other process makes or mends the store in `folder`, and keep them out inside the block."""
    with _lock(folder, "store", 600.0) as free:
        require(free, f"out: {folder} is being made or mended by another run; wait until it has ended.")
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
