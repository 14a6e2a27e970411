"""A run as a whole: its keys, its chunks, how it goes on, and what it refuses."""

import collections
import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import subsim
from subsim import UserError
from subsim.engine import identity
from subsim.engine.program import trace
from subsim.engine.settings import fixed


@pytest.fixture(scope="module")
def whole(toy):
    """Forty seeds of the toy, of which a run of fewer seeds must be a part."""
    return subsim.simulate(toy, seeds=40)


def part(whole, seeds):
    return whole.isel(seed=slice(seeds))


def test_seeds_side_by_side_equal_a_loop_over_seeds(toy, whole):
    run = toy.make_run(toy.config, None)
    hyper = {name: jnp.asarray(value) for name, value in toy.hyper.items()}
    for seed in range(7):
        alone = run(jax.random.fold_in(jax.random.key(0), seed), hyper)
        for name, value in alone.items():
            np.testing.assert_array_equal(whole[name].sel(seed=seed), value)


@pytest.mark.parametrize("chunk", [1, 3, 4, 7, 10])
def test_the_size_of_a_chunk_changes_nothing(toy, whole, chunk):
    xr.testing.assert_equal(subsim.simulate(toy, chunk=chunk), part(whole, 10))


def equal_to_rounding(a, b):
    """A compiler may round differently where more seeds are side by side, and takes no other liberty."""
    xr.testing.assert_equal(a[["bits", "status"]], b[["bits", "status"]])
    xr.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize(
    ("study_chunk", "chunk", "in_file", "notice"),
    [(4, 32, 32, "chunk 32"), (5, None, 5, "chunk 5"), (None, 1, 1, "chunk 1"), (4, 200, 200, "chunk 200")],
)
def test_the_chunk_that_is_asked_for_is_kept_exactly(toy, whole, tmp_path, study_chunk, chunk, in_file, notice):
    """Whatever the number of seeds and of devices."""
    study, notices = dataclasses.replace(toy, chunk=study_chunk), []
    results = subsim.simulate(study, seeds=64, chunk=chunk, out=tmp_path / "r", notice=notices.append)
    assert notices == [notice]
    assert results.attrs["chunk"] == in_file
    files = [file.name for file in (tmp_path / "r" / "run.zarr" / "bits").glob("c.*")]
    assert len(files) == -(-64 // in_file)
    equal_to_rounding(part(results, 40), whole)


def test_compiler_options_reach_the_compiler(toy, whole):
    hasty = dataclasses.replace(toy, compiler_options={"xla_backend_optimization_level": 0})
    xr.testing.assert_allclose(subsim.simulate(hasty), part(whole, 10))
    with pytest.raises(Exception, match="xla_no_such_option"):
        subsim.simulate(dataclasses.replace(toy, compiler_options={"xla_no_such_option": 1}))


def test_a_run_that_is_stopped_after_every_chunk_equals_an_uninterrupted_one(toy, whole, tmp_path):
    for held in (0, 4, 8):
        calls = []

        def interrupt(done, seeds, calls=calls):
            calls.append((done, seeds))
            if done > calls[0][0]:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            subsim.simulate(toy, out=tmp_path / "r", progress=interrupt)
        assert calls[0] == (held, 10)  # nothing is computed again
        assert subsim.load_results(tmp_path / "r").sizes["seed"] == min(held + 4, 10)
    progress = []
    resumed = subsim.simulate(toy, out=tmp_path / "r", progress=lambda done, seeds: progress.append((done, seeds)))
    assert set(progress) == {(10, 10)}
    xr.testing.assert_equal(resumed, part(whole, 10))


def test_holes_are_filled(toy, tmp_path):
    out = tmp_path / "r"
    original = subsim.simulate(toy, out=out)
    for name in ("status", "first", "bits", "all", "made_by"):
        (file,) = (out / "run.zarr" / name).glob("c.1*")
        file.unlink()  # the second chunk of four seeds
    assert subsim.load_results(out).seed.values.tolist() == [0, 1, 2, 3, 8, 9]
    xr.testing.assert_equal(subsim.simulate(toy, out=out, chunk=3), original)


def test_more_seeds_later_equal_all_at_once(toy, whole, tmp_path, monkeypatch):
    before = subsim.simulate(toy, seeds=6, out=tmp_path / "r")
    origin = identity.origin
    monkeypatch.setattr(identity, "origin", lambda mesh: origin(mesh) | {"python": "another"})
    progress = []
    more = subsim.simulate(toy, seeds=21, out=tmp_path / "r", progress=lambda done, seeds: progress.append(done))
    assert progress[0] == 6
    xr.testing.assert_equal(more.drop_vars("made_by"), part(whole, 21).drop_vars("made_by"))
    # Each seed tells by what it was made, the earlier ones as before.
    makers = [more.attrs["origins"][f"{maker:08x}"]["python"] for maker in more.made_by.values]
    assert makers == [origin_of(before)["python"]] * 6 + ["another"] * 15
    assert {**more.attrs, "origins": 0, "sha256": 0} == {**before.attrs, "origins": 0, "sha256": 0}
    assert subsim.simulate(toy, seeds=3, out=tmp_path / "r").sizes["seed"] == 3
    assert subsim.load_results(tmp_path / "r").sizes["seed"] == 21


def origin_of(results):
    (origin,) = results.attrs["origins"].values()
    return origin


def test_results_in_memory_are_those_of_a_folder(toy, tmp_path):
    unordered = collections.namedtuple("unordered", ("first", "bits", "all"))
    study = dataclasses.replace(
        toy, make_run=lambda config, data: lambda *seed: unordered(**toy.make_run(config, data)(*seed))
    )
    options = {"seeds": 3, "chunk": 2, "sweep": {"size": (3, 1), "scale": (1.0, 2.5)}}
    in_memory, on_disk = subsim.simulate(study, **options), subsim.simulate(study, out=tmp_path, **options)
    assert origin_of(in_memory) | {"created": 0} == origin_of(on_disk) | {"created": 0}
    of_the_files = {"origins", "programs", "sha256"}
    assert set(on_disk.attrs) - set(in_memory.attrs) == {"programs", "sha256"}
    xr.testing.assert_identical(*(each.assign_attrs(dict.fromkeys(of_the_files)) for each in (in_memory, on_disk)))
    assert list(in_memory) == list(on_disk)
    assert {name: each.dtype for name, each in in_memory.variables.items()} == {
        name: each.dtype for name, each in on_disk.variables.items()
    }


def test_the_root_seed_and_the_global_index_make_the_key(toy, whole):
    bits = whole.bits.values
    assert len(set(bits.tolist())) == 40
    assert not set(bits.tolist()) & set(subsim.simulate(toy, seeds=40, root_seed=1).bits.values.tolist())


def test_hyper_is_traced_and_overrides(toy, whole):
    results = subsim.simulate(toy, hyper={"scale": 3.0, "ceiling": 1e9})
    np.testing.assert_allclose(results["all"] / part(whole, 10)["all"], 1.5, rtol=1e-6)


def test_precision_holds_inside_and_not_outside(toy, whole):
    results = subsim.simulate(toy, precision="float64")
    assert results["all"].dtype == np.float64
    assert results.attrs["precision"] == "float64"
    assert jnp.asarray(1.0).dtype == jnp.float32
    assert whole["all"].dtype == np.float32


def test_a_precision_that_the_study_excludes_is_refused(toy):
    with pytest.raises(UserError, match="precision"):
        subsim.simulate(dataclasses.replace(toy, precisions=("float32",)), precision="bfloat16")


def test_a_diverged_seed_is_kept_and_named(toy, whole):
    results = subsim.simulate(toy, hyper={"scale": 2.0, "ceiling": 0.5}, seeds=40)
    diverged = np.isnan(results["first"].values)
    assert 0 < diverged.sum() < 40
    np.testing.assert_array_equal(results.status.values, np.where(diverged, 2, 1))
    assert int(subsim.mean_interval(results["first"]).dropped) == diverged.sum()
    xr.testing.assert_equal(results[["all", "bits"]], whole[["all", "bits"]])


def test_arrays_of_a_partial_are_arguments_not_constants(toy):
    table = jnp.arange(1000.0)

    def look_up(table, key, hyper):
        return {"first": table[jax.random.randint(key, (), 0, 1000)]}

    enters = dataclasses.replace(toy, make_run=lambda config, data: jax.tree_util.Partial(look_up, table))
    encloses = dataclasses.replace(toy, make_run=lambda config, data: lambda key, hyper: look_up(table, key, hyper))
    assert (subsim.simulate(enters)["first"] % 1 == 0).all()

    def text(study):
        with fixed("float32"):
            return trace(study, [None], study.hyper, (), 0, "float32").traced.lower().as_text()

    # A constant is spelled out in the program, all thousand numbers.
    assert '"0x' not in text(enters)
    assert '"0x' in text(encloses)


simulate = inspect.unwrap(subsim.simulate)  # as a user has it: without our tests' own check of annotations


@pytest.mark.parametrize(
    ("name", "value", "limits"),
    [
        *(("seeds", value, "at least 1 and less than 2^31") for value in (0, -1, 2**31, [17], True, 2.5, "10")),
        *(("chunk", value, "at least 1 and less than 2^31") for value in (0, "4", 2.0, False)),
        *(("root_seed", value, "at least 0 and less than 2^32") for value in (-1, 2**32, "1", True, None)),
    ],
)
def test_numbers_that_are_none_are_refused_by_name(toy, tmp_path, name, value, limits):
    with pytest.raises(UserError) as refusal:
        simulate(toy, **{name: value}, out=tmp_path / "r")
    assert str(refusal.value) == f"{name} is {value!r}; it must be a whole number, {limits}."
    assert not (tmp_path / "r").exists()


def test_numbers_of_numpy_are_numbers(toy, whole, tmp_path):
    results = simulate(toy, seeds=np.int64(5), chunk=np.int32(2), root_seed=np.uint32(0), out=tmp_path / "r")
    xr.testing.assert_equal(results, part(whole, 5))


@dataclasses.dataclass(frozen=True)
class ClockConfig:
    step: int = 1


HOST_CALLS: list[int] = []  # what a run encloses would be a part of its declaration


@pytest.fixture
def clock():
    """A study whose run is an ordinary function, and the seeds that it was called with."""
    HOST_CALLS.clear()

    def make_run(config, data):
        def run(seed, hyper):
            HOST_CALLS.append(seed)
            assert not isinstance(seed, jax.Array)
            times = np.full(2, hyper["start"] + seed * config.step)
            return {"times": times, "number": float("inf") if seed == 3 else seed}

        return run

    variables = {"times": subsim.Variable("times", ("hand",), "s"), "number": subsim.Variable("what was asked for")}
    return HOST_CALLS, subsim.Study(
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


def test_a_precision_that_this_device_lacks_is_refused(toy):
    with pytest.raises(UserError, match="precision is tf32, which GPUs alone have, and this is a CPU"):
        subsim.simulate(toy, precision="tf32")
