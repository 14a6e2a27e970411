"""Run the seeds of one program in calls of a few seconds each, with fewer seeds at once where memory runs out."""

import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.sharding import Mesh

from subsim.engine.devices import memory_limit
from subsim.engine.plan import HEADROOM, Plan, halved, in_words
from subsim.engine.program import Call, Program, Records, compile_program
from subsim.options import UserError

Notice = Callable[[str], None]  # receives the plan in words, and every change of it
SECONDS = 2.0  # of work in a call, after which its records are written


def out_of_memory(error: Exception) -> bool:
    """Return whether jax raised the error because a device has too little memory."""
    return "RESOURCE_EXHAUSTED" in str(error)


class Runner:
    """A compiled program, and the plan that fits the memory of the devices."""

    def __init__(self, program: Program, plan: Plan, mesh: Mesh, notice: Notice):
        self._program, self._mesh, self._notice, self.plan = program, mesh, notice, plan
        self._call = self._compiled()

    def _compiled(self) -> Call:
        while True:
            try:
                call = compile_program(self._program, self.plan, self._mesh)
            except jax.errors.JaxRuntimeError as error:
                self._halve(error)
                continue
            if call.memory > HEADROOM * memory_limit(self._mesh) and halved(self.plan):
                self._halve()
                continue
            self._notice(in_words(self.plan, self._mesh.size))
            return call

    def _halve(self, error: Exception | None = None) -> None:
        """Halve the plan; raises `error` again where memory is not its reason."""
        if error and not out_of_memory(error):
            raise error
        smaller = halved(self.plan)
        if smaller is None:
            raise UserError("One seed alone needs more memory than the device has; make the config smaller.") from None
        self._notice(f"out of memory with {in_words(self.plan, self._mesh.size)}")
        self.plan = smaller

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
                    self._halve(error)
                    self._call, rounds = self._compiled(), 1
                    continue
                a_round = (time.perf_counter() - started) / -(-len(piece) // together)
                rounds = max(1, min(int(SECONDS / a_round), self.plan.rounds(self._mesh.size)))
                done += len(piece)
                yield piece, records
