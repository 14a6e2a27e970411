"""Processes that share the seeds of one store, and watch over each other through the folder that they share.

Each process signs a file of its own every second and reads the others'. That asks nothing of a file system but that a
file, opened anew, shows what was last written; locks, which many network file systems lack, would ask for more.
"""

import contextlib
import json
import os
import platform
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from subsim.options import UserError, require

LOST = 1  # exit status of a process that ends because another one did
PATIENCE = 120.0  # seconds that processes wait for one another at the start
BEAT = 1.0  # seconds between two signs of life, and between two looks at the others'
# Looks in a row that find no new sign, and the process counts as lost. Looks and not seconds: a file system that hangs
# hangs for the one who looks as well.
SILENCE = 20

Farewell = Callable[[str], None]  # says why the process ends
Place = tuple[int, ...]  # one value of each axis whose values have programs of their own, by their numbers


class Sign(NamedTuple):
    """What a process says of itself: `token` is of this start alone, `state` is here, ready, done or ended."""

    token: str
    host: str
    beat: int = 0
    state: str = "here"
    finished: int = 0
    why: str = ""


class Work(NamedTuple):
    """What process 0 found missing: who runs what must not depend on the moment at which a process looks.

    `todo` lists every stretch of `unit` seeds in which some are missing: the number of its place, and its own.
    """

    seeds: int
    chunk: int
    unit: int
    todo: list[tuple[int, int]]


def leave(farewell: Farewell, sentence: str, status: int) -> NoReturn:
    """Say `sentence` and end this process from any of its threads, whatever the others do: a compiled chunk, or jax,
    may hold the main one for minutes, and no exception reaches it there."""
    farewell(sentence)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


class Team:
    """The processes of one run, seen from one of them; as a context, it watches over the others."""

    def __init__(self, folder: Path, process: int, processes: int, farewell: Farewell):
        self.folder, self.process, self.processes = folder, process, processes
        self._farewell = farewell
        self._mine = Sign(uuid.uuid4().hex, platform.node())
        self._finished = 0
        self._others: dict[int, Sign] = {}
        self._silent = dict.fromkeys((other for other in range(processes) if other != process), 0)
        self._lock, self._over = threading.Lock(), threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    @property
    def first(self) -> bool:
        """Whether this is process 0, which makes the store and reports for all."""
        return self.process == 0

    def awaited(self, seeds: int) -> Work | None:
        """What process 0 found to do, waited for until the store is ready; None in process 0 itself.

        Raises `UserError` where it runs another number of seeds.
        """
        if self.first:
            return None
        while self._others[0].state not in ("ready", "done"):
            time.sleep(BEAT / 4)
        work = Work(**json.loads(self._file("work").read_text()))
        require(
            work.seeds == seeds, f"seeds is {seeds} and not {work.seeds} as in process 0; give all the same options."
        )
        return work

    def share(
        self, missing: Mapping[Place, np.ndarray], seeds: int, chunk: int, block: int, work: Work | None
    ) -> dict[Place, np.ndarray]:
        """This process's part of the seeds that are `missing` at each place.

        Process 0, which has no `work` from another, makes it for all. `block` seeds lie in one file of the store, and
        no two processes write into the same.
        """
        if work is None:
            unit = block * max(1, chunk // block)
            work = Work(seeds, chunk, unit, stretches(missing, unit))
            self._write("work", work)
            self.sign(state="ready")
        return portion(missing, work, self.process, self.processes)

    def count(self, seeds: int) -> None:
        """Note that this process has finished so many more `seeds`; its next sign tells the others."""
        self._finished += seeds

    @property
    def finished(self) -> int:
        """Seeds that all processes have finished since the start."""
        return self._finished + sum(sign.finished for sign in self._others.values())

    def finish(self, look: Callable[[], None]) -> None:
        """Wait until all processes have done their part, calling `look` every now and then."""
        self.sign(state="done")
        while any(sign.state != "done" for sign in self._others.values()):
            time.sleep(BEAT / 4)
            look()

    def sign(self, **news: Any) -> None:
        """Give a sign of life, with `news`: fields of `Sign`. Raises `UserError` where the folder refuses."""
        with self._lock:
            self._mine = self._mine._replace(beat=self._mine.beat + 1, finished=self._finished, **news)
            self._write(self.process, self._mine)

    def __enter__(self) -> "Team":
        deadline = time.monotonic() + PATIENCE
        for other in self._silent:
            while (sign := self._read(other)) is None:
                require(
                    time.monotonic() < deadline,
                    f"out: process {other} left no sign in {self.folder} within {PATIENCE:.0f} s; give all the same "
                    "--out, on a file system that they share.",
                )
                time.sleep(BEAT / 4)
            self._others[other] = sign._replace(beat=-1)  # the watcher is to see it as news
        self._watcher.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        self._over.set()
        self._watcher.join()
        if kind is not None:
            why = str(error) if isinstance(error, UserError) else kind.__name__
            # Where the disk is full, silence says it.
            with contextlib.suppress(UserError):
                self.sign(state="ended", why=why.rstrip("."))

    def _file(self, name: int | str) -> Path:
        return self.folder / f"{name}.json"

    def _write(self, name: int | str, content: Sign | Work) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file(name).write_text(json.dumps(content._asdict()))
        except OSError as error:
            raise UserError(
                f"out: cannot write to {self.folder} ({error.strerror or error}); choose another folder."
            ) from None

    def _read(self, process: int) -> Sign | None:
        """The last sign of a process; None where there is none, or it is just being written."""
        try:
            return Sign(**json.loads(self._file(process).read_text()))
        except (OSError, ValueError):
            return None

    def _watch(self) -> None:
        while not self._over.wait(BEAT):
            mine = self._read(self.process)
            if mine is not None and mine.token != self._mine.token:
                leave(self._farewell, f"another run has begun in {self.folder.parent}; this one ends.", LOST)
            # A disk that refuses is met, and named, where results are written.
            with contextlib.suppress(UserError):
                self.sign()
            for other in self._silent:
                fate = self._look(other)
                if fate:
                    leave(
                        self._farewell,
                        f"process {other} of {self.processes}, on {self._others[other].host}, {fate}; what is finished "
                        "is on disk: repeat the command, with any number of processes, to go on.",
                        LOST,
                    )

    def _look(self, other: int) -> str:
        """Read the other's sign; returns what has become of it, in words, where it is gone."""
        before, sign = self._others[other], self._read(other)
        if sign is None or sign == before:
            self._silent[other] += 1
            return "was lost" if self._silent[other] >= SILENCE else ""
        if sign.token != before.token:
            return "was lost, and another has taken its place"
        self._others[other], self._silent[other] = sign, 0
        return f"ended early ({sign.why})" if sign.state == "ended" else ""


def stretches(missing: Mapping[Place, np.ndarray], unit: int) -> list[tuple[int, int]]:
    """Every stretch of `unit` seeds in which some are missing, as pairs: the number of its place, and its own."""
    return [(place, int(number)) for place, seeds in enumerate(missing.values()) for number in np.unique(seeds // unit)]


def portion(missing: Mapping[Place, np.ndarray], work: Work, process: int, processes: int) -> dict[Place, np.ndarray]:
    """The `missing` seeds of each place that are this process's: every N-th stretch of `work`, N the `processes`."""
    mine = work.todo[process::processes]
    return {
        place: seeds[np.isin(seeds // work.unit, [number for where, number in mine if where == at])]
        for at, (place, seeds) in enumerate(missing.items())
    }
