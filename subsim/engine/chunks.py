"""How many seeds a call of the program runs: a first guess, then what measures best and fits the device's memory."""

import math
import time
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh

from subsim.engine.devices import is_cpu, memory_limit
from subsim.engine.program import Call, Plan, Prepared, Program, compile_program, cost_of_one, trace
from subsim.engine.study import Study
from subsim.options import UserError

Notice = Callable[[str], None]  # told the plan, and every change of it, in words
Records = dict[str, np.ndarray]
STEP = 4.0  # from one candidate to the next: between neighbours the throughput of real work differs by little
GAIN = 1.05  # less than this much faster is no reason to go on
FIRST_HOPE = 1.1  # the speed-up that a first trial is worth its time for; afterwards, the one before is hoped for again
CACHED = 128 * 2**20  # bytes of values of the seeds side by side on a CPU: what measured best, from small nets to MNIST
FLOPS = 2 * 10**12  # of matrix products in a chunk: some seconds on a CPU
ACCELERATED = 50  # times as many on a GPU or TPU
MOST = 4096  # seeds in a chunk of an accelerator or of a CPU; more made none of the small works faster
HEADROOM = 0.8  # of the device's memory; the rest is the runtime's


def plan(seeds: int, chunk: int, lanes: int | None = None, devices: int = 1, processes: int = 1) -> Plan:
    """Cut `seeds` into chunks of at most about `chunk`, and chunks into rounds of about `lanes`, of nearly equal size.

    Every chunk has the same shape, whatever its number of seeds: one compile. It is a multiple of the number of
    `devices`, all equally busy; so are `processes`, which get the same number of chunks each. Without `lanes`, a device
    advances its whole share of a chunk side by side.
    """
    chunks = processes * math.ceil(seeds / (processes * chunk))
    share = math.ceil(math.ceil(seeds / chunks) / devices)
    rounds = 1 if lanes is None else math.ceil(share / max(1, lanes))
    lanes = math.ceil(share / rounds)
    return Plan(devices * rounds * lanes, lanes)


def first_plan(
    study: Study,
    prepared: Prepared,
    mesh: Mesh,
    seeds: int,
    chunk: int | None = None,
    lanes: int | None = None,
    processes: int = 1,
) -> Plan:
    """The plan that a run starts with, on devices that need not be here: what is asked for, or guessed from the cost of
    one seed."""
    if lanes is None and is_cpu(mesh):
        lanes = study.lanes or side_by_side(prepared)
    # An accelerator's own scheduler spreads a wide program better than a loop of narrow ones.
    return plan(seeds, chunk or study.chunk or at_once(prepared, mesh), lanes, mesh.size, processes)


def side_by_side(prepared: Prepared) -> int:
    """How many seeds to advance side by side on a CPU, by the bytes of what one computes."""
    return max(1, CACHED // max(1, cost_of_one(prepared).bytes))


def at_once(prepared: Prepared, mesh: Mesh) -> int:
    """How many seeds to write together where nobody says it: some seconds of work, which is what a kill may cost."""
    # The devices of a CPU share its cores.
    speed, devices = (1, 1) if is_cpu(mesh) else (ACCELERATED, mesh.size)
    return devices * min(MOST, max(1, speed * FLOPS // max(1, cost_of_one(prepared).flops)))


def halved(cut: Plan, devices: int) -> Plan | None:
    """About half of the seeds at once, for a device that ran out of memory; None where that is less than one."""
    share = cut.chunk // devices
    if share == 1:
        return None
    lanes = max(1, cut.lanes // 2)
    return Plan(devices * lanes * max(1, share // 2 // lanes), lanes)


def out_of_memory(error: Exception) -> bool:
    """Whether it is what jax raises where a device, or the compiler for one, finds too little memory."""
    return "RESOURCE_EXHAUSTED" in str(error)


def in_words(cut: Plan, devices: int) -> str:
    """The plan as the progress line tells it."""
    together = cut.lanes * devices
    return f"chunk {cut.chunk:,}" + (f", {together:,} at once" if together < cut.chunk else "")


def scaled(cut: Plan, factor: float, devices: int) -> Plan:
    """`cut` with its lanes multiplied, in as many rounds as keep the chunk from growing where there are several."""
    lanes = max(1, round(cut.lanes * factor))
    rounds = max(1, cut.chunk // devices // lanes)
    return Plan(devices * rounds * lanes, lanes)


class Runner:
    """A study's compiled program, called with any number of seeds; `plan` says how many it takes at once.

    Where the device runs out of memory, the plan is halved and the run goes on.
    """

    def __init__(self, prepared: Prepared, plan: Plan, program: Program, notice: Notice | None = None):
        self._prepared, self._notice, self.plan = prepared, notice, plan
        self.mesh: Mesh = program.mesh
        """The devices that it runs on."""
        self._ready: tuple[np.ndarray, Records] | None = None
        self._call: Call = self._compiled(program)

    def _compiled(self, program: Program) -> Call:
        """The program of the plan; where the compiler finds that it does not fit the device, of a smaller one."""
        while True:
            started = time.perf_counter()
            try:
                call = compile_program(self._prepared, program)
            except jax.errors.JaxRuntimeError as error:
                program = self._smaller(error)
                continue
            self.seconds_to_compile = time.perf_counter() - started
            if self._notice:
                self._notice(in_words(self.plan, self.mesh.size))
            return call

    def __call__(self, seeds: np.ndarray) -> Records:
        """The records of `seeds`, by name, one row a seed."""
        ready, self._ready = self._ready, None
        if ready is not None and np.array_equal(ready[0], seeds):
            return ready[1]
        records: list[Records] = []
        done = 0
        while done < len(seeds):
            piece = seeds[done : done + self.plan.chunk]
            try:
                # The last piece repeats seeds to keep the one compiled shape; the repeats are dropped.
                record = self._call(np.resize(piece, self.plan.chunk))
            except jax.errors.JaxRuntimeError as error:
                self._call = self._compiled(self._smaller(error))
                continue
            records.append({name: values[: len(piece)] for name, values in record.items()})
            done += len(piece)
        return {name: np.concatenate([record[name] for record in records]) for name in records[0]}

    def _smaller(self, error: Exception | None = None) -> Program:
        """The program of half the plan, which becomes the plan; `error` is raised again where it has other reasons than
        the device's memory."""
        if error and not out_of_memory(error):
            raise error
        smaller = halved(self.plan, self.mesh.size)
        if smaller is None:
            raise UserError("One seed alone needs more memory than the device has; make the config smaller.") from None
        if self._notice:
            self._notice(f"out of memory with {in_words(self.plan, self.mesh.size)}")
        self.plan = smaller
        return trace(self._prepared, smaller, self.mesh)

    def tuned(self, seeds: np.ndarray) -> "Runner":
        """The fastest of this runner and its neighbours in width for the run of `seeds`, each tried on the first ones.

        Wider ones are tried while they are faster and fit the device's memory, then narrower ones where no wider one
        was better; on a CPU none that is too wide for its cache. A trial is made only if the time it is likely to
        save is more than it costs, so that a short run makes none. What the winner's trial computed is kept: the run
        need not repeat it.
        """
        while self._call.memory > HEADROOM * memory_limit(self.mesh):
            self._call = self._compiled(self._smaller())
        best, pace = self, self._pace(seeds)
        for factor in (STEP, 1 / STEP):
            hope = FIRST_HOPE
            while True:
                cut = scaled(best.plan, factor, self.mesh.size)
                cost = best.seconds_to_compile + cut.chunk * pace
                saved = (len(seeds) - best.plan.chunk) * pace * (1 - 1 / hope)
                if cut == best.plan or cut.chunk > len(seeds) or saved < cost or self._spills(cut):
                    break
                candidate = Runner(self._prepared, cut, trace(self._prepared, cut, self.mesh))
                if candidate._call.memory > HEADROOM * memory_limit(self.mesh):
                    break
                its_pace = candidate._pace(seeds)
                if its_pace * GAIN > pace:
                    break
                hope, best, pace = pace / its_pace, candidate, its_pace
            if best is not self:
                break
        best._notice = self._notice
        if best is not self and self._notice:
            self._notice(in_words(best.plan, self.mesh.size))
        return best

    def _spills(self, cut: Plan) -> bool:
        """Whether `cut` is too wide for a CPU's cache: no such plan was faster, and trying it costs memory."""
        return is_cpu(self.mesh) and cut.lanes > 1 and cut.lanes * cost_of_one(self._prepared).bytes > CACHED

    def _pace(self, seeds: np.ndarray) -> float:
        """Seconds a seed, measured on the first chunk of `seeds`, whose record is kept."""
        started, chunk = time.perf_counter(), self.plan.chunk
        record = self(seeds[:chunk])
        self._ready = seeds[:chunk], record
        return (time.perf_counter() - started) / chunk
