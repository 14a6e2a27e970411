"""The plan of a run: how many seeds one call takes, guessed from the cost of a seed, and halved if memory runs out."""

import math
from typing import NamedTuple

from jax.sharding import Mesh

from subsim.engine.cost import Cost
from subsim.engine.devices import all_cores, is_cpu, memory

CACHED = 128 * 2**20  # bytes of values of the seeds side by side on a CPU: measured best, from small nets to MNIST
ACCELERATED = 8 * 2**30  # the same for a GPU or TPU that does not report its memory
FLOPS = 5 * 10**10  # of a device's matrix products in a chunk: some seconds of small networks
FASTER = 100  # times as many on an accelerator
MOST = 16_384  # seeds in a chunk
AT_ONCE = MOST // 32  # and on a CPU the most at once: as many on each device whatever their number, so that bits agree
SHARED = 2**28  # FLOPs of a product from which on XLA keeps the cores of a CPU busy with the seeds of one device
HEADROOM = 0.8  # the share of a device's memory that a program may take; the rest is the runtime's


class Plan(NamedTuple):
    """How seeds are divided.

    `chunk` seeds lie in one file of the results and are the most that one call runs; `at_once` seeds advance side by
    side on each device, and a call runs as many rounds of them as it is given.
    """

    chunk: int
    at_once: int

    def rounds(self, devices: int) -> int:
        """The rounds of a whole chunk."""
        return math.ceil(self.chunk / (devices * self.at_once))


def devices_for(cost: Cost, mesh: Mesh) -> Mesh:
    """Return the devices of `mesh` that run seeds of this cost.

    Where matrix products are large, XLA uses all cores of a CPU for one device, and a single device runs all seeds.
    Otherwise, and where the user has set the number of CPU devices, all devices run seeds.
    """
    alone = cost.product >= SHARED and is_cpu(mesh) and all_cores()
    return Mesh(mesh.devices[:1], mesh.axis_names) if alone else mesh


def room(mesh: Mesh) -> int:
    """Return the most bytes of values that the seeds at once may have on each device.

    On an accelerator this is its memory, less the runtime's share. The program then fits, because its values never
    exist all at the same time.
    """
    if is_cpu(mesh):
        return CACHED
    here = memory(mesh)
    return ACCELERATED if here is None else int(HEADROOM * here)


def guess(cost: Cost, mesh: Mesh, chunk: int | None = None, at_once: int | None = None) -> Plan:
    """Return the plan for seeds of this cost.

    `chunk` and `at_once` are what the user or the study asks for. The plan does not depend on the number of seeds, so
    that a longer run continues a shorter one with the same bits.
    """
    flops, most = (FLOPS, AT_ONCE) if is_cpu(mesh) else (FASTER * FLOPS, MOST)
    at_once = at_once or max(1, min(most, MOST // mesh.size, room(mesh) // max(1, cost.bytes)))
    if chunk is None:
        together = at_once * mesh.size
        rounds = max(1, min(mesh.size * flops // max(1, cost.flops), MOST) // together)
        return Plan(together * rounds, at_once)
    share = math.ceil(chunk / mesh.size)
    # Rounds of nearly equal size: a chunk of 36 with 32 at once is two rounds of 18.
    return Plan(chunk, math.ceil(share / math.ceil(share / at_once)))


def halved(plan: Plan) -> Plan | None:
    """Return the plan with half as many seeds at once, rounded up; None where it has one seed at once.

    Rounding up makes two nearly full rounds of one full round; rounding down would make three.
    """
    return None if plan.at_once == 1 else plan._replace(at_once=-(-plan.at_once // 2))


def in_words(plan: Plan, devices: int) -> str:
    """Return the plan in words, for the progress line."""
    together = min(plan.chunk, plan.at_once * devices)
    return f"chunk {plan.chunk:,}" + (f", {together:,} at once" if together < plan.chunk else "")
