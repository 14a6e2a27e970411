import dataclasses
import itertools
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import subsim
from subsim.engine import chunks, program
from subsim.engine.chunks import Plan, Runner
from subsim.engine.devices import local_mesh, memory_limit
from subsim.options import UserError


@pytest.mark.parametrize("seeds", [1, 5, 8, 9, 100])
@pytest.mark.parametrize("chunk", [1, 4, 9, 200])
@pytest.mark.parametrize("devices", [1, 3])
def test_plans_cover_the_seeds_and_idle_little(seeds, chunk, devices):
    for lanes in (1, 3, 64):
        cut = chunks.plan(seeds, chunk, lanes, devices)
        calls = -(-seeds // cut.chunk)
        assert cut.chunk % (devices * cut.lanes) == 0
        rounds = cut.chunk // cut.lanes // devices
        # Less than one seed idles in a round of a device, whatever the number of seeds.
        assert calls * cut.chunk - seeds < calls * devices * (rounds + 1)


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_halving_ends_at_one_seed_a_device(devices):
    cut, sizes = Plan(devices * 48, 16), []
    while cut is not None:
        sizes.append(cut.chunk)
        assert cut.chunk % (devices * cut.lanes) == 0
        cut = chunks.halved(cut, devices)
    assert sizes[-1] == devices
    assert all(b <= a / 2 for a, b in itertools.pairwise(sizes))


def runner(study, plan, notice=None):
    prepared = program.prepare(study, study.config, study.hyper, [], 0, "float32")
    return Runner(prepared, plan, program.trace(prepared, plan, local_mesh()), notice)


@pytest.fixture
def paced(monkeypatch):
    """A clock that only compiling and calling move on: by a second, and by the seconds a seed that the test sets."""
    now, paces = [0.0], {}
    compile_program = chunks.compile_program

    def slow(prepared, traced):
        now[0] += 1.0
        call = compile_program(prepared, traced)

        def run(seeds):
            now[0] += len(seeds) * paces["of"](len(seeds))
            return call.run(seeds)

        return call._replace(run=run)

    monkeypatch.setattr(chunks, "compile_program", slow)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return paces


@pytest.mark.parametrize(
    ("pace", "expected"),
    [
        (lambda chunk: 1 / chunk, 32768),  # the wider the faster: as wide as there are seeds
        (lambda chunk: abs(np.log(chunk / 512)) + 1.0, 512),  # best in between
        (lambda chunk: 1.0 + (chunk < 32), 32),  # neither neighbour is better
    ],
)
def test_the_fastest_width_is_found(toy, paced, pace, expected):
    paced["of"] = pace
    assert runner(toy, Plan(32, 16)).tuned(np.arange(100_000)).plan.chunk == expected


def test_narrower_lanes_are_tried_where_wider_ones_are_slower(toy, paced):
    paced["of"] = lambda chunk: float(chunk)
    assert runner(toy, Plan(32, 16)).tuned(np.arange(100_000)).plan == Plan(32, 16)
    lanes = []
    compile_one = chunks.trace
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "trace", lambda p, plan, mesh: lanes.append(plan.lanes) or compile_one(p, plan, mesh))
        runner(toy, Plan(32, 16)).tuned(np.arange(100_000))
    assert lanes == [64, 4]


def test_what_is_too_wide_for_a_cache_is_not_tried(toy, paced, monkeypatch):
    paced["of"] = lambda chunk: 1 / chunk  # the wider the faster, if it were tried
    prepared = runner(toy, Plan(32, 16))._prepared
    its_bytes = program.cost_of_one(prepared).bytes
    assert chunks.side_by_side(prepared) == chunks.CACHED // its_bytes
    monkeypatch.setattr(chunks, "CACHED", 64 * its_bytes)
    assert runner(toy, Plan(32, 16)).tuned(np.arange(100_000)).plan.lanes == 64


def test_seeds_that_cost_much_are_written_in_small_chunks(toy, monkeypatch):
    def product_of(size):
        def run(key, hyper):
            return {"first": jnp.sum(jnp.ones((size, size)) @ jnp.ones((size, size))) * hyper["scale"]}

        study = dataclasses.replace(toy, make_run=lambda config, data: run, chunk=None)
        return program.prepare(study, study.config, study.hyper, [], 0, "float32")

    assert program.cost_of_one(product_of(50)).flops == 2 * 50**3
    monkeypatch.setattr(chunks, "FLOPS", 2 * 50**3 * 7)
    assert chunks.at_once(product_of(50), local_mesh()) == 7
    assert chunks.at_once(product_of(500), local_mesh()) == 1
    assert chunks.at_once(product_of(2), local_mesh()) == chunks.MOST


def test_a_run_too_short_makes_no_trial(toy, paced):
    paced["of"] = lambda chunk: 1e-6 / chunk
    assert runner(toy, Plan(32, 16)).tuned(np.arange(100_000)).plan == Plan(32, 16)


def test_what_the_winning_trial_computed_is_not_computed_again(toy, paced):
    paced["of"] = lambda chunk: 1 / chunk
    tuned = runner(toy, Plan(4, 2)).tuned(np.arange(64))
    before = time.perf_counter()
    first = tuned(np.arange(tuned.plan.chunk))
    assert time.perf_counter() == before
    np.testing.assert_array_equal(first["bits"], subsim.simulate(toy, seeds=tuned.plan.chunk, chunk=4).bits)


def exhausted_above(monkeypatch, most):
    """A device that runs out of memory with more than `most` seeds at once."""
    compile_program, calls = chunks.compile_program, []

    def small(prepared, traced):
        call = compile_program(prepared, traced)

        def run(seeds):
            calls.append(len(seeds))
            if len(seeds) > most:
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate")
            return call.run(seeds)

        return call._replace(run=run)

    monkeypatch.setattr(chunks, "compile_program", small)
    return calls


def test_out_of_memory_halves_the_chunk_and_goes_on_with_a_notice(toy, monkeypatch, tmp_path):
    whole = subsim.simulate(toy, seeds=50)
    calls, notices = exhausted_above(monkeypatch, 8), []
    results = subsim.simulate(toy, seeds=50, chunk=32, out=tmp_path / "r", notice=notices.append)
    xr.testing.assert_equal(results, whole)
    assert max(calls[-5:]) <= 8 < calls[0]
    assert [words for words in notices if words.startswith("out of memory with chunk")]
    assert notices[-1].startswith("chunk ")


def test_what_the_compiler_finds_too_large_is_halved_too(toy, monkeypatch, tmp_path):
    whole, notices = subsim.simulate(toy, seeds=50), []
    compile_program = chunks.compile_program

    def refuse(prepared, traced):
        if traced.traced.out_info["bits"].shape[0] > 8:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm.")
        return compile_program(prepared, traced)

    monkeypatch.setattr(chunks, "compile_program", refuse)
    results = subsim.simulate(toy, seeds=50, chunk=32, out=tmp_path / "r", notice=notices.append)
    xr.testing.assert_equal(results, whole)
    assert [words.startswith("out of memory with chunk") for words in notices] == [True, True, False]
    monkeypatch.setattr(chunks, "compile_program", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        subsim.simulate(toy)


def test_one_seed_too_many_is_a_sentence(toy, monkeypatch):
    exhausted_above(monkeypatch, 0)
    with pytest.raises(UserError, match="One seed alone needs more memory"):
        subsim.simulate(toy, seeds=50, chunk=32)


def test_another_error_of_the_device_is_not_hidden(toy, monkeypatch):
    compile_program = chunks.compile_program

    def broken(prepared, traced):
        def run(seeds):
            raise jax.errors.JaxRuntimeError("INTERNAL: a fault")

        return compile_program(prepared, traced)._replace(run=run)

    monkeypatch.setattr(chunks, "compile_program", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="a fault"):
        subsim.simulate(toy)


def test_a_plan_that_does_not_fit_the_memory_is_halved_before_it_runs(toy, monkeypatch):
    needs = runner(toy, Plan(64, 32))._call.memory
    monkeypatch.setattr(chunks, "memory_limit", lambda mesh: needs / chunks.HEADROOM - 1)
    assert runner(toy, Plan(64, 32)).tuned(np.arange(64)).plan.chunk < 64
    assert memory_limit(local_mesh()) > 2**28


def test_a_continued_run_keeps_its_chunk(toy, tmp_path):
    study = dataclasses.replace(toy, chunk=8)
    subsim.simulate(study, seeds=12, out=tmp_path / "r")
    seen = []
    study = dataclasses.replace(toy, chunk=2)
    subsim.simulate(study, seeds=30, out=tmp_path / "r", progress=lambda done, asked: seen.append(done))
    assert seen == [12, 12, 20, 28, 30]


def test_a_chunk_that_was_halved_stays_so_for_the_configs_that_follow(toy, monkeypatch):
    calls = exhausted_above(monkeypatch, 8)
    subsim.simulate(toy, seeds=32, chunk=32, sweep={"size": [3, 4]})
    assert sum(seeds > 8 for seeds in calls) == 2  # 32 and 16, once
