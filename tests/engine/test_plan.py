"""How seeds are divided: what is guessed from the cost of one, and what is asked for."""

import itertools

import numpy as np
import pytest
from jax.sharding import Mesh

from subsim.engine import plan
from subsim.engine.cost import Cost
from subsim.engine.plan import Plan, guess, halved, in_words

COSTS = [Cost(flops, size) for flops in (0, 10**4, 10**8, 10**11, 10**13) for size in (0, 10**3, 10**6, 10**9)]


class Device:
    """A device, as far as a plan asks for it."""

    def __init__(self, platform, memory=None):
        self.platform, self.memory, self.device_kind = platform, memory, platform

    def memory_stats(self):
        return self.memory and {"bytes_limit": self.memory}


def devices(n, platform="cpu", memory=None):
    return Mesh(np.array([Device(platform, memory) for _ in range(n)]), ("seed",))


@pytest.mark.parametrize("chunk", [1, 4, 9, 32, 200])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_chunk_that_is_asked_for_is_kept_and_its_rounds_are_nearly_full(n, chunk):
    for cost, at_once in itertools.product(COSTS, (None, 1, 3, 64)):
        made = guess(cost, devices(n), chunk, at_once)
        assert made.chunk == chunk
        assert at_once is None or made.at_once <= at_once
        together, rounds = made.at_once * n, made.rounds(n)
        assert (rounds - 1) * together < chunk <= rounds * together
        # On each device less than one seed idles in a round.
        assert rounds * together - chunk < n * (rounds + 1)


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
@pytest.mark.parametrize("n", [1, 2, 3, 64])
def test_what_is_guessed_fills_the_cache_and_some_seconds(n, platform):
    cached, flops, most = plan.CACHED, plan.FLOPS * n, min(plan.AT_ONCE, plan.MOST // n)
    if platform == "gpu":
        cached, flops, most = plan.ACCELERATED, flops * plan.FASTER, plan.MOST // n
    for cost in COSTS:
        made = guess(cost, devices(n, platform))
        together = made.at_once * n
        assert made.chunk % together == 0  # whole rounds
        assert made.at_once == 1 or made.at_once * cost.bytes <= cached
        assert made.chunk == together or made.chunk * cost.flops <= flops
        assert made.chunk <= plan.MOST
        # And no less than it may: another seed at once, or another round, would be too many.
        more = made.at_once + 1
        assert more * cost.bytes > cached or more > most
        longer = made.chunk + together
        assert longer * cost.flops > flops or longer > plan.MOST


def test_an_accelerator_is_filled_by_its_own_memory():
    cost, gib = Cost(10**10, 2**29), 2**30
    for memory in (16 * gib, 60 * gib, 105 * gib):
        here = guess(cost, devices(1, "gpu", memory))
        assert here.at_once == int(plan.HEADROOM * memory) // cost.bytes
    assert guess(cost, devices(1, "gpu")).at_once == plan.ACCELERATED // cost.bytes
    assert guess(cost, devices(1, "cpu", 60 * gib)) == guess(cost, devices(1))


@pytest.mark.parametrize("n", [2, 4, 16])
def test_a_cpus_devices_run_each_what_one_would(n):
    """As many seeds at once, and in a loop or not: what the compiler makes of them is the same, bit for bit."""
    for cost in COSTS:
        one, several = guess(cost, devices(1)), guess(cost, devices(n))
        assert one.at_once == several.at_once
        assert (one.rounds(1) > 1) == (several.rounds(n) > 1)
        assert guess(cost, devices(n), several.chunk) == several  # a run that goes on, too


def test_seeds_that_cost_much_are_written_in_small_chunks(monkeypatch):
    monkeypatch.setattr(plan, "FLOPS", 7000)  # for a device
    monkeypatch.setattr(plan, "CACHED", 30)
    assert guess(Cost(1000, 10), devices(1)) == Plan(6, 3)
    assert guess(Cost(10_000, 10), devices(1)) == Plan(3, 3)
    assert guess(Cost(10_000, 100), devices(2)) == Plan(2, 1)
    assert guess(Cost(1000, 10), devices(2)) == Plan(12, 3)


@pytest.mark.parametrize("ours", [True, False])
def test_large_products_have_the_cores_of_a_cpu_for_themselves(monkeypatch, ours):
    """But for a user who has said how many devices a CPU is."""
    monkeypatch.setattr(plan, "all_cores", lambda: ours)
    small, large = Cost(product=plan.SHARED - 1), Cost(product=plan.SHARED)
    assert [plan.devices_for(small, devices(2, kind)).size for kind in ("cpu", "gpu")] == [2, 2]
    assert [plan.devices_for(large, devices(2, kind)).size for kind in ("cpu", "gpu")] == [1 if ours else 2, 2]


@pytest.mark.parametrize("n", [1, 2, 4])
def test_halving_ends_at_one_seed_a_device_and_keeps_the_chunk(n):
    made, plans = Plan(52, 52 // n), []
    while made is not None:
        plans.append(made)
        made = halved(made)
    assert {each.chunk for each in plans} == {52}
    assert plans[-1].at_once == 1
    for before, after in itertools.pairwise(plans):
        assert after.at_once in (before.at_once / 2, (before.at_once + 1) / 2)
        assert after.rounds(n) <= 2 * before.rounds(n)


@pytest.mark.parametrize(
    ("made", "n", "words"),
    [
        (Plan(32, 16), 2, "chunk 32"),
        (Plan(5, 3), 2, "chunk 5"),
        (Plan(1000, 4), 2, "chunk 1,000, 8 at once"),
        (Plan(4000, 1000), 2, "chunk 4,000, 2,000 at once"),
        (Plan(1, 1), 2, "chunk 1"),
    ],
)
def test_a_plan_in_words(made, n, words):
    assert in_words(made, n) == words
