"""Calls of a program: how many seeds each runs, and what happens where memory runs out."""

import dataclasses
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import subsim
from subsim.engine import runner
from subsim.engine.devices import local_mesh, memory
from subsim.engine.plan import HEADROOM, Plan
from subsim.engine.program import trace
from subsim.engine.runner import Runner
from subsim.options import UserError

CALLED: list[int] = []


@pytest.fixture(scope="module")
def products(toy):
    """A study of matrix products, whose bits are those of a compiler's own order of sums."""

    def run(key, hyper):
        CALLED.append(1)
        matrix = jax.random.normal(key, (24, 24)) / 5
        return {"first": jnp.trace(jnp.linalg.matrix_power(matrix, 5)), "bits": jax.random.bits(key)}

    return dataclasses.replace(toy, make_run=lambda config, data: run)


@pytest.fixture(scope="module")
def program(products):
    return trace(products, [products.config], products.hyper, [], 0, "float32")


@pytest.fixture(scope="module")
def whole(products):
    """Fifty seeds in chunks of 32, as they are where memory suffices."""
    return subsim.simulate(products, seeds=50, chunk=32)


def run(program, plan, seeds, notice=lambda words: None):
    """The seeds of each call, the records of all, and the plan that was left."""
    made = Runner(program, plan, local_mesh(), notice)
    pieces, records = zip(*made(np.asarray(seeds)), strict=True)
    return pieces, {name: np.concatenate([each[name] for each in records]) for name in records[0]}, made.plan


@pytest.mark.parametrize(
    ("a_round", "rounds"),
    [
        (0.5, [1, 4, 4, 4, 4, 3]),  # two seconds of work each, after the first
        (0.6, [1, 3, 3, 3, 3, 3, 3, 1]),
        (100.0, [1] * 20),
        (1e-6, [1, 8, 8, 3]),  # a chunk is the most
    ],
)
def test_a_call_is_some_seconds_of_work_and_the_first_is_one_round(program, monkeypatch, a_round, rounds):
    now = [0.0]
    compile_program = runner.compile_program

    def paced(*arguments):
        call = compile_program(*arguments)

        def run(seeds):
            now[0] += -(-len(seeds) // 4) * a_round
            return call.run(seeds)

        return call._replace(run=run)

    monkeypatch.setattr(runner, "compile_program", paced)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    pieces, *_ = run(program, Plan(32, 2), np.arange(80))
    assert [len(piece) / 4 for piece in pieces] == rounds
    np.testing.assert_array_equal(np.concatenate(pieces), np.arange(80))


@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_the_bits_are_the_same_however_rounds_fall(program, monkeypatch, seconds):
    _, expected, _ = run(program, Plan(64, 2), np.arange(50))
    monkeypatch.setattr(runner, "SECONDS", seconds)
    pieces, found, _ = run(program, Plan(64, 2), np.arange(50))
    assert len(pieces) == (13 if seconds == 0 else 2)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    # Wherever a run goes on, and whichever seeds are missing.
    gaps = np.array([0, 1, 2, 7, 8, 20, *range(30, 50)])
    pieces, found, _ = run(program, Plan(64, 2), gaps)
    np.testing.assert_array_equal(np.concatenate(pieces), gaps)
    assert all((np.diff(piece) == 1).all() for piece in pieces)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values[gaps])


def exhausted_above(monkeypatch, most):
    """A device that runs out of memory with more than `most` seeds at once; the seeds at once of each call."""
    compile_program, calls = runner.compile_program, []

    def small(program, plan, mesh):
        call = compile_program(program, plan, mesh)

        def run(seeds):
            calls.append(plan.at_once)
            if plan.at_once > most:
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate")
            return call.run(seeds)

        return call._replace(run=run)

    monkeypatch.setattr(runner, "compile_program", small)
    return calls


def test_out_of_memory_halves_the_seeds_at_once_and_goes_on_with_a_notice(products, whole, monkeypatch, tmp_path):
    calls, notices = exhausted_above(monkeypatch, 4), []
    CALLED.clear()
    results = subsim.simulate(products, seeds=50, chunk=32, out=tmp_path / "r", notice=notices.append)
    xr.testing.assert_allclose(results, whole, rtol=1e-5)
    xr.testing.assert_equal(results.bits, whole.bits)
    assert results.attrs["chunk"] == 32
    assert calls[:3] == [16, 8, 4]
    assert set(calls[3:]) == {4}
    assert notices == [
        "chunk 32",
        "out of memory with chunk 32",
        "chunk 32, 16 at once",
        "out of memory with chunk 32, 16 at once",
        "chunk 32, 8 at once",
    ]
    assert len(CALLED) == 1  # the study's code is traced once, however often its program is compiled


def test_what_the_compiler_finds_too_large_is_halved_too(products, whole, monkeypatch):
    compile_program, notices = runner.compile_program, []

    def refuse(program, plan, mesh):
        if plan.at_once > 4:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm.")
        return compile_program(program, plan, mesh)

    monkeypatch.setattr(runner, "compile_program", refuse)
    xr.testing.assert_allclose(subsim.simulate(products, seeds=50, chunk=32, notice=notices.append), whole, rtol=1e-5)
    assert [words.startswith("out of memory with chunk 32") for words in notices] == [True, True, False]


def test_a_plan_that_does_not_fit_the_memory_is_halved_before_it_runs(program, monkeypatch):
    needs = {plan: runner.compile_program(program, plan, local_mesh()).memory for plan in (Plan(32, 16), Plan(32, 8))}
    assert needs[Plan(32, 16)] > needs[Plan(32, 8)] > 0
    monkeypatch.setattr(runner, "memory", lambda mesh: needs[Plan(32, 16)] / HEADROOM - 1)
    assert run(program, Plan(32, 16), np.arange(32))[2] == Plan(32, 8)
    # Where not even one seed fits the headroom, it is tried.
    monkeypatch.setattr(runner, "memory", lambda mesh: 1)
    notices = []
    assert run(program, Plan(4, 2), np.arange(4), notices.append)[2] == Plan(4, 1)
    assert notices == ["out of memory with chunk 4", "chunk 4, 2 at once"]
    assert memory(local_mesh()) > 2**28


def test_one_seed_too_many_is_a_sentence(products, monkeypatch):
    exhausted_above(monkeypatch, 0)
    with pytest.raises(UserError, match="One seed alone needs more memory"):
        subsim.simulate(products, chunk=8)


@pytest.mark.parametrize("at", ["compile", "run"])
def test_another_error_of_the_device_is_not_hidden(products, monkeypatch, at):
    compile_program = runner.compile_program

    def fault(*_):
        raise jax.errors.JaxRuntimeError("INTERNAL: a fault")

    def broken(*arguments):
        return fault() if at == "compile" else compile_program(*arguments)._replace(run=fault)

    monkeypatch.setattr(runner, "compile_program", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="a fault"):
        subsim.simulate(products)


def test_what_was_halved_stays_so_for_the_programs_that_follow(products, monkeypatch):
    calls = exhausted_above(monkeypatch, 2)
    subsim.simulate(products, seeds=16, chunk=16, sweep={"size": [3, 4]})
    assert [at_once for at_once in calls if at_once > 2] == [8, 4]


def test_a_continued_run_keeps_its_chunk(toy, tmp_path):
    study, seen = functools.partial(dataclasses.replace, toy), []
    subsim.simulate(study(chunk=8), seeds=12, out=tmp_path / "r")
    subsim.simulate(study(chunk=2), seeds=30, out=tmp_path / "r", progress=lambda done, asked: seen.append(done))
    assert seen == [12, 12, 20, 28, 30]
    notices = []
    results = subsim.simulate(toy, seeds=34, chunk=3, out=tmp_path / "r", notice=notices.append)
    assert notices == ["chunk 3"]
    assert results.attrs["chunk"] == 8  # of the files
