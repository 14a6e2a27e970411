"""Run the seeds of one program in calls of a few seconds each, with fewer seeds at once where memory runs out."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from subsim.engine.devices import memory
from subsim.engine.plan import HEADROOM, Plan, halved, in_words
from subsim.engine.program import Program, Records, compile_program
from subsim.options import UserError

Notice = Callable[[str], None]  # receives the plan in words, and every change of it
SECONDS = 2.0  # of work in a call, after which its records are written


def fitting(plan: Plan, mesh: Mesh, notice: Notice, compiled: Callable[[Plan], Any]) -> tuple[Plan, Any]:
    """Compile with `plan`; while the program does not fit the memory of the devices of `mesh`, with half of it.

    Returns the plan that fits and `compiled(plan)`, whose `memory` is the bytes that it needs on each device. Raises
    `UserError` where one seed alone does not fit.
    """
    limit = memory(mesh)
    while True:
        try:
            found = compiled(plan)
        except jax.errors.JaxRuntimeError as error:
            plan = smaller(plan, mesh, notice, error)
            continue
        if limit is None or found.memory <= HEADROOM * limit or halved(plan) is None:
            notice(in_words(plan, mesh.size))
            return plan, found
        plan = smaller(plan, mesh, notice)


def smaller(plan: Plan, mesh: Mesh, notice: Notice, error: Exception | None = None) -> Plan:
    """Return the half of a plan that needs too much memory; raises `error` again where memory is not its reason."""
    if error and "RESOURCE_EXHAUSTED" not in str(error):
        raise error
    half = halved(plan)
    if half is None:
        kind = mesh.devices.flat[0].device_kind
        words = f"One seed alone needs more memory than the device ({kind}) has; make the config smaller."
        raise UserError(words) from None
    notice(f"out of memory with {in_words(plan, mesh.size)}")
    return half


class Runner:
    """A compiled program, and the plan that fits the memory of the devices."""

    def __init__(self, program: Program, plan: Plan, mesh: Mesh, notice: Notice):
        self._program, self._mesh, self._notice = program, mesh, notice
        self._compile(plan)

    def _compile(self, plan: Plan) -> None:
        self.plan, self._call = fitting(
            plan, self._mesh, self._notice, lambda plan: compile_program(self._program, plan, self._mesh)
        )

    def __call__(self, seeds: np.ndarray) -> Iterator[tuple[np.ndarray, Records]]:
        """Yield consecutive pieces of the sorted `seeds`, each with its records.

        The first piece is one round. Its time decides how many rounds the next pieces have.
        """
        rounds = 1
        for stretch in np.split(seeds, np.flatnonzero(np.diff(seeds) > 1) + 1):
            done = 0
            while done < len(stretch):
                together = self.plan.at_once * self._mesh.size
                piece = stretch[done : done + min(rounds * together, self.plan.chunk)]
                started = time.perf_counter()
                try:
                    records = self._call(piece)
                except jax.errors.JaxRuntimeError as error:
                    self._compile(smaller(self.plan, self._mesh, self._notice, error))
                    rounds = 1
                    continue
                a_round = (time.perf_counter() - started) / -(-len(piece) // together)
                rounds = max(1, min(int(SECONDS / a_round), self.plan.rounds(self._mesh.size)))
                done += len(piece)
                yield piece, records
