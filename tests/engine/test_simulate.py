import collections
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import subsim
from subsim import UserError
from subsim.engine import program, provenance
from subsim.engine.devices import local_mesh


def equal(a, b):
    xr.testing.assert_equal(a.reset_coords(drop=True), b.reset_coords(drop=True))


def test_seeds_side_by_side_equal_a_loop_over_seeds(toy):
    results = subsim.simulate(toy, seeds=7)
    run = toy.make_run(toy.config, None)
    hyper = {name: jnp.asarray(value) for name, value in toy.hyper.items()}
    for seed in range(7):
        alone = run(jax.random.fold_in(jax.random.key(0), seed), hyper)
        for name, value in alone.items():
            np.testing.assert_array_equal(results[name].sel(seed=seed), value)


@pytest.mark.parametrize("chunk", [1, 3, 4, 7, 10, 64])
@pytest.mark.parametrize("lanes", [1, 4])
def test_cutting_changes_nothing(toy, chunk, lanes):
    whole = subsim.simulate(dataclasses.replace(toy, lanes=64), chunk=64)
    equal(subsim.simulate(dataclasses.replace(toy, lanes=lanes), chunk=chunk), whole)


def test_cpu_options_reach_the_compiler(toy):
    hasty = dataclasses.replace(toy, cpu_options={"xla_backend_optimization_level": 0})
    xr.testing.assert_allclose(subsim.simulate(hasty), subsim.simulate(toy))
    with pytest.raises(Exception, match="xla_no_such_option"):
        subsim.simulate(dataclasses.replace(toy, cpu_options={"xla_no_such_option": 1}))


@pytest.mark.parametrize("interrupted_after", [0, 1, 2])
def test_resumed_equals_uninterrupted(toy, tmp_path, interrupted_after):
    calls = []

    def interrupt(done, seeds):
        calls.append(done)
        if len(calls) > interrupted_after + 2:  # the first two calls are before any chunk
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        subsim.simulate(toy, out=tmp_path / "r", progress=interrupt)
    held = subsim.load_results(tmp_path / "r").sizes["seed"]
    assert 0 < held < toy.seeds or interrupted_after == 2
    progress = []
    resumed = subsim.simulate(toy, out=tmp_path / "r", progress=lambda done, seeds: progress.append((done, seeds)))
    assert progress[0] == (held, 10)  # nothing is computed again
    assert progress[-1] == (10, 10)
    equal(resumed, subsim.simulate(toy))


def test_holes_are_filled(toy, tmp_path):
    out = tmp_path / "r"
    whole = subsim.simulate(toy, out=out)
    for file in ("status/1", "first/1", "bits/1", "all/1.0"):
        (out / "run.zarr" / file).unlink()  # the second chunk of four seeds
    assert subsim.load_results(out).seed.values.tolist() == [0, 1, 2, 3, 8, 9]
    equal(subsim.simulate(toy, out=out, chunk=3), whole)


def test_more_seeds_later_equal_all_at_once(toy, tmp_path, monkeypatch):
    made_by = subsim.simulate(toy, seeds=6, out=tmp_path / "r").attrs
    another_day = provenance.origin() | {"created": "another day"}
    monkeypatch.setattr(provenance, "origin", lambda: another_day)
    progress = []
    more = subsim.simulate(toy, seeds=21, out=tmp_path / "r", progress=lambda done, seeds: progress.append(done))
    assert progress[0] == 6
    equal(more, subsim.simulate(toy, seeds=21))
    assert more.attrs == made_by
    assert subsim.simulate(toy, seeds=3, out=tmp_path / "r").sizes["seed"] == 3
    assert subsim.load_results(tmp_path / "r").sizes["seed"] == 21


def test_results_in_memory_are_those_of_a_folder(toy, tmp_path):
    unordered = collections.namedtuple("unordered", ("first", "bits", "all"))
    study = dataclasses.replace(
        toy, make_run=lambda config, data: lambda *seed: unordered(**toy.make_run(config, data)(*seed))
    )
    options = {"seeds": 5, "chunk": 2, "sweep": {"size": (3, 1), "scale": (1.0, 2.5)}}
    in_memory, on_disk = subsim.simulate(study, **options), subsim.simulate(study, out=tmp_path, **options)
    seals = {"created", "plan", "sha256"}  # of the moment, and of the files
    assert set(on_disk.attrs) - set(in_memory.attrs) <= seals
    plain = [each.assign_attrs(dict.fromkeys(seals)) for each in (in_memory, on_disk)]
    xr.testing.assert_identical(*plain)
    assert list(in_memory) == list(on_disk)
    assert {name: each.dtype for name, each in in_memory.variables.items()} == {
        name: each.dtype for name, each in on_disk.variables.items()
    }


def test_one_trace_a_config(toy):
    traces = []

    def make_run(config, data):
        run = toy.make_run(config, data)

        def counted(key, hyper):
            traces.append(config)
            return run(key, hyper)

        return counted

    subsim.simulate(dataclasses.replace(toy, make_run=make_run), seeds=23, chunk=4)
    assert len(traces) == 1


def test_the_root_seed_and_the_global_index_make_the_key(toy):
    bits = subsim.simulate(toy, seeds=50).bits.values
    assert len(set(bits.tolist())) == 50
    assert not set(bits.tolist()) & set(subsim.simulate(toy, seeds=50, root_seed=1).bits.values.tolist())


def test_hyper_is_traced_and_overrides(toy):
    results = subsim.simulate(toy, hyper={"scale": 3.0, "ceiling": 1e9})
    np.testing.assert_allclose(results["all"] / subsim.simulate(toy)["all"], 1.5, rtol=1e-6)


def test_precision_holds_inside_and_not_outside(toy):
    results = subsim.simulate(toy, precision="float64")
    assert results["all"].dtype == np.float64
    assert results.attrs["precision"] == "float64"
    assert jnp.asarray(1.0).dtype == jnp.float32
    assert subsim.simulate(toy)["all"].dtype == np.float32


def test_a_precision_that_the_study_excludes_is_refused(toy):
    with pytest.raises(UserError, match="precision"):
        subsim.simulate(dataclasses.replace(toy, precisions=("float32",)), precision="bfloat16")


def test_a_diverged_seed_is_kept_and_named(toy):
    results = subsim.simulate(toy, hyper={"scale": 2.0, "ceiling": 0.5}, seeds=40)
    diverged = np.isnan(results["first"].values)
    assert 0 < diverged.sum() < 40
    np.testing.assert_array_equal(results.status.values, np.where(diverged, 2, 1))
    summary = subsim.mean_interval(results["first"])
    assert int(summary.dropped) == diverged.sum()
    untouched = subsim.simulate(toy, seeds=40)
    equal(results[["all", "bits"]], untouched[["all", "bits"]])


def test_the_code_of_a_study_is_called_once_a_config(toy):
    """What is counted, compiled, sharded over devices and tried in several widths is one trace."""
    calls = []

    def make_run(config, data):
        run = toy.make_run(config, data)
        return lambda key, hyper: calls.append(config.size) or run(key, hyper)

    study = dataclasses.replace(toy, make_run=make_run, chunk=None, lanes=None)
    subsim.simulate(study, sweep={"scale": [1.0, 2.0], "size": [3, 4]})
    assert calls == [3, 4]


def test_arrays_of_a_partial_are_arguments_not_constants(toy):
    table = jnp.arange(1000.0)

    def look_up(table, key, hyper):
        return {"first": table[jax.random.randint(key, (), 0, 1000)]}

    study = dataclasses.replace(toy, make_run=lambda config, data: jax.tree_util.Partial(look_up, table))
    assert (subsim.simulate(study)["first"] % 1 == 0).all()

    def text(run):
        return (
            program.make_program(program.make_one(), 1, local_mesh())
            .lower(run, None, (), jax.random.key(0), np.zeros(2, np.uint32))
            .as_text()
        )

    # A constant is spelled out in the program, all thousand numbers.
    assert '"0x' not in text(jax.tree_util.Partial(look_up, table))
    assert '"0x' in text(jax.tree_util.Partial(lambda key, hyper: look_up(table, key, hyper)))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"seeds": 0}, "seeds"),
        ({"seeds": -1}, "seeds"),
        ({"chunk": 0}, "chunk"),
        ({"root_seed": -1}, "root_seed"),
    ],
)
def test_bad_options_are_refused_by_name(toy, options, field):
    with pytest.raises(UserError, match=field):
        subsim.simulate(toy, **options)


def test_a_record_that_its_study_does_not_describe_is_refused(toy):
    with pytest.raises(UserError, match="'bits'"):
        subsim.simulate(dataclasses.replace(toy, variables={k: v for k, v in toy.variables.items() if k != "bits"}))
    with pytest.raises(UserError, match="'all'"):
        subsim.simulate(dataclasses.replace(toy, variables={**toy.variables, "all": subsim.Variable("flat")}))
    with pytest.raises(UserError, match="record"):
        subsim.simulate(dataclasses.replace(toy, make_run=lambda config, data: lambda key, hyper: jnp.ones(3)))


@dataclasses.dataclass(frozen=True)
class ClockConfig:
    step: int = 1


@pytest.fixture
def clock():
    """A study whose run is an ordinary function, and the seeds that it was called with."""
    called = []

    def make_run(config, data):
        def run(seed, hyper):
            called.append(seed)
            assert not isinstance(seed, jax.Array)
            times = np.full(2, hyper["start"] + seed * config.step)
            return {"times": times, "number": float("inf") if seed == 3 else seed}

        return run

    variables = {"times": subsim.Variable("times", ("hand",), "s"), "number": subsim.Variable("what was asked for")}
    return called, subsim.Study(
        name="clock",
        title="A clock.",
        make_run=make_run,
        config=ClockConfig(),
        hyper={"start": 10},
        coords={"hand": ["long", "short"]},
        variables=variables,
        seeds=5,
        on_host=True,
    )


def test_a_run_on_the_host_is_called_once_a_seed_and_resumes(clock, tmp_path):
    called, study = clock
    subsim.simulate(study, seeds=2, out=tmp_path / "r")
    progress = []
    results = subsim.simulate(study, out=tmp_path / "r", progress=lambda done, seeds: progress.append((done, seeds)))
    assert called == [0, 1, 2, 3, 4]
    assert progress == [(2, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    np.testing.assert_array_equal(results.times.sel(hand="short"), [10, 11, 12, 13, 14])
    np.testing.assert_array_equal(results.number, [0, 1, 2, np.inf, 4])
    assert results.times.dtype == np.float64
    assert results.status.values.tolist() == [1, 1, 1, 2, 1]


def test_a_run_on_the_host_sweeps_its_config(clock):
    called, study = clock
    results = subsim.simulate(study, sweep={"step": [1, 3]})
    assert called == [*range(5), *range(5)]
    np.testing.assert_array_equal(results.times.sel(step=3, hand="long"), [10, 13, 16, 19, 22])


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"sweep": {"start": [1, 2]}}, "sweep of start"),
        ({"root_seed": 1}, "root_seed is 1"),
        ({"chunk": 2}, "chunk is 2"),
    ],
)
def test_options_of_compiled_runs_are_refused_on_the_host(clock, options, field):
    called, study = clock
    with pytest.raises(UserError, match=field):
        subsim.simulate(study, **options)
    assert called == []


def test_a_record_on_the_host_that_its_study_does_not_describe_is_refused(clock):
    _, study = clock
    with pytest.raises(UserError, match="'number'"):
        subsim.simulate(dataclasses.replace(study, variables={"times": study.variables["times"]}))
    with pytest.raises(UserError, match="'hand'"):
        subsim.simulate(dataclasses.replace(study, coords={}))
    with pytest.raises(UserError, match=r"'times': \(3,\)"):
        subsim.simulate(dataclasses.replace(study, coords={"hand": ["one", "too", "many"]}))
