import concurrent.futures
import contextlib
import dataclasses
import json
import linecache
import os
import shutil
import signal
import time

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
import zarr

import subsim
from subsim import UserError
from subsim.engine import integrity, provenance, store


def test_the_store_says_what_it_holds(toy, tmp_path):
    subsim.simulate(toy, out=tmp_path / "r", root_seed=5)
    held = xr.open_zarr(tmp_path / "r" / "run.zarr", chunks=None, consolidated=False)
    assert dict(held.sizes) == {"seed": 10, "place": 3}
    assert held.place.values.tolist() == ["a", "b", "c"]
    assert held["all"].attrs == {"description": "all numbers", "units": "m"}
    attributes = held.attrs
    assert attributes["config"] == {"size": 3}
    assert attributes["hyper"] == {"scale": 2.0, "ceiling": 1e9}
    assert (attributes["study"], attributes["root_seed"], attributes["precision"]) == ("toy", 5, "float32")
    assert attributes["versions"]["subsim"] == subsim.__version__
    assert attributes["device"].startswith("cpu")
    assert {"commit", "created", "python", "data_sha256"} <= set(attributes)
    assert attributes["config_hash"] == provenance.digest({name: attributes[name] for name in provenance.IDENTITY})


def test_in_memory_and_on_disk_agree(toy, tmp_path):
    memory, disk = subsim.simulate(toy), subsim.simulate(toy, out=tmp_path / "r")
    xr.testing.assert_equal(memory, disk)
    xr.testing.assert_equal(disk, subsim.load_results(tmp_path / "r"))


def test_results_of_more_than_so_many_bytes_stay_on_disk(toy, tmp_path):
    size = subsim.simulate(toy).nbytes
    few, many = (subsim.simulate(toy, out=tmp_path / "r", in_memory=limit) for limit in (size, size - 1))
    xr.testing.assert_identical(few, many)
    shutil.rmtree(tmp_path / "r")
    assert np.isfinite(few["all"]).all()
    assert np.isnan(many["all"]).all()  # read again, and there is nothing any more
    xr.testing.assert_equal(subsim.simulate(toy, in_memory=0), few)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"config": {"size": 4}}, "size 3 and not 4"),
        ({"hyper": {"scale": 9.0, "ceiling": 1e9}}, "scale 2.0 and not 9.0"),
        ({"root_seed": 1}, "root_seed 0 and not 1"),
        ({"precision": "float64"}, "precision float32 and not float64"),
    ],
)
def test_another_run_in_the_same_place_is_refused_with_the_difference(toy, tmp_path, change, words):
    subsim.simulate(toy, out=tmp_path / "r")
    before = {path: path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file()}
    if "config" in change:
        change = {"config": dataclasses.replace(toy.config, **change["config"])}
    with pytest.raises(UserError, match=words):
        subsim.simulate(toy, out=tmp_path / "r", **change)
    assert before == {path: path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file()}


def test_other_data_in_the_same_place_is_refused(toy, tmp_path):
    def on(data):
        return dataclasses.replace(toy, load=lambda config: np.asarray(data))

    subsim.simulate(on([1, 2]), out=tmp_path / "r")
    with pytest.raises(UserError, match="other data"):
        subsim.simulate(on([1, 3]), out=tmp_path / "r")


def test_a_folder_that_cannot_be_written_is_refused(toy, tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match=r"out: cannot write to .*file"):
        subsim.simulate(toy, out=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"


def test_what_is_no_store_is_left_alone(toy, tmp_path):
    (tmp_path / "r" / "run.zarr").mkdir(parents=True)
    with pytest.raises(UserError, match="not a complete subsim store"):
        subsim.simulate(toy, out=tmp_path / "r")
    with pytest.raises(UserError, match="holds no results"):
        subsim.load_results(tmp_path / "nowhere")


@pytest.mark.parametrize("written", range(6))
def test_a_chunk_counts_only_when_all_of_it_is_on_disk(toy, tmp_path, disk, written):
    """Stopped between any two files of the second chunk: what marks it as finished comes last."""

    def stop(file):
        nonlocal written
        if file.endswith(("/1", "/1.0")):
            if written == 0:
                raise ZeroDivisionError
            written -= 1

    disk.before, finished = stop, 4 if written < 5 else 8
    with pytest.raises(ZeroDivisionError) if finished == 4 else contextlib.nullcontext():
        subsim.simulate(toy, out=tmp_path / "r", seeds=8)
    assert written == 0
    assert subsim.load_results(tmp_path / "r").seed.values.tolist() == list(range(finished))
    disk.before = lambda file: None
    xr.testing.assert_equal(subsim.simulate(toy, out=tmp_path / "r", seeds=8), subsim.simulate(toy, seeds=8))


def test_a_chunk_of_nothing_but_zeros_has_files(toy, tmp_path):
    """So that a file that is not there was lost."""
    zeros = dataclasses.replace(toy, make_run=lambda config, data: lambda key, hyper: {"first": jnp.zeros(())})
    subsim.simulate(zeros, out=tmp_path / "r")
    assert {file.name for file in (tmp_path / "r" / "run.zarr" / "first").iterdir()} >= {"0", "1", "2"}


def test_a_run_that_is_interrupted_while_it_writes_finishes_the_chunk(toy, tmp_path, disk, interruptible):
    """Without the wait, the data of the second chunk would be there in vain."""

    def interrupt(file):
        if file == "first/1":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)  # a slow disk: the run could be gone before the status is written

    disk.before = interrupt
    with pytest.raises(KeyboardInterrupt):
        subsim.simulate(toy, out=tmp_path / "r")
    assert "status/2" not in disk.files
    assert subsim.load_results(tmp_path / "r").sizes["seed"] == 8


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_what_must_not_be_interrupted(interruptible, number):
    class Told(BaseException):
        pass

    def tell(_number, _frame):
        raise Told

    done = []

    @store.uninterrupted
    def work():
        for step in range(3):
            signal.raise_signal(number)
            done.append(step)
        return "all"

    before = signal.signal(number, tell)
    try:
        with pytest.raises(Told):
            work()
        assert done == [0, 1, 2]
        assert signal.getsignal(number) is tell
        # Control: without it the first signal ends the work.
        with pytest.raises(Told):
            work.__wrapped__()
        assert done == [0, 1, 2]
        # Other threads hear of no signal, and may do the same.
        with concurrent.futures.ThreadPoolExecutor(1) as another:
            assert another.submit(store.uninterrupted(lambda: "done")).result() == "done"
    finally:
        signal.signal(number, before)


def test_the_block_is_the_chunk_of_the_run_that_made_the_store(toy, tmp_path):
    whole = subsim.simulate(toy, seeds=6, chunk=4, out=tmp_path / "r")
    assert whole.attrs["plan"] == {"chunk": 4, "lanes": 2}
    for chunk, seeds in ((1, 7), (2, 11), (7, 30)):
        subsim.simulate(toy, seeds=seeds, chunk=chunk, out=tmp_path / "r")
    held = store.Store(tmp_path / "r" / "run.zarr")
    assert held.block == 4
    xr.testing.assert_equal(held.dataset(30), subsim.simulate(toy, seeds=30))
    assert {len(file.name) for file in (tmp_path / "r" / "run.zarr" / "status").glob("?")} == {1}


def test_other_versions_go_on_and_are_recorded(toy, tmp_path, monkeypatch):
    out, here = tmp_path / "r", provenance.origin()

    def simulate(seeds, **versions):
        origin = here | {"created": str(seeds), "versions": here["versions"] | versions}
        monkeypatch.setattr(provenance, "origin", lambda: origin)
        return subsim.simulate(toy, seeds=seeds, out=out)

    assert simulate(4).attrs["continued_by"] == []
    assert simulate(8).attrs["continued_by"] == []  # nothing differs
    assert simulate(8, jax="99.0").attrs["continued_by"] == []  # nothing was added
    (entry,) = simulate(12, jax="99.0").attrs["continued_by"]
    assert entry["versions"] == here["versions"] | {"jax": "99.0"}
    assert simulate(16, jax="99.0").attrs["continued_by"] == [entry]  # it has its entry already
    assert simulate(20).attrs["continued_by"] == [entry]
    assert subsim.load_results(out).attrs["versions"] == here["versions"]
    assert len(simulate(24, numpy="1.0").attrs["continued_by"]) == 2


def test_identity_is_all_of_the_resolved_config(toy):
    def identity(root_seed):
        return provenance.identity(toy, toy.config, toy.hyper, [], root_seed, "float32", None)

    one = identity(0)
    assert json.loads(json.dumps(one)) == one
    assert provenance.digest(one) == provenance.digest(dict(reversed(one.items())))
    assert provenance.digest(one) != provenance.digest(identity(1))


def test_other_code_of_the_study_is_another_run(tmp_path):
    text = """
import jax, subsim
def run(key, hyper):
    return {"number": jax.random.normal(key)}  # one number
study = subsim.Study(name="mine", title="Mine.", make_run=lambda config, data: run,
                     variables={"number": subsim.Variable("a number")})
"""
    file = tmp_path / "mine.py"

    def simulate(code, seeds):
        file.write_text(code)
        linecache.clearcache()
        return subsim.simulate(subsim.load_study(str(file)), seeds=seeds, out=tmp_path / "r")

    first = simulate(text, 2)
    again = simulate(text.replace("# one number", "# another comment"), 3)
    np.testing.assert_array_equal(first.number, again.number[:2])
    with pytest.raises(UserError, match="another run, with other code in mine; choose"):
        simulate(text.replace("normal(key)", "normal(key) + 1000"), 4)


def test_a_store_that_records_no_code_is_read_and_not_continued(toy, tmp_path):
    results, target = subsim.simulate(toy, out=tmp_path / "r"), tmp_path / "r" / "run.zarr"
    attributes = {name: value for name, value in integrity.attributes(target).items() if name != "code_sha256"}
    (target / ".zattrs").write_text(json.dumps(attributes))
    integrity.seal(target)
    xr.testing.assert_equal(subsim.load_results(tmp_path / "r"), results)
    with pytest.raises(UserError, match=r"another run, with other code in conftest, .* and \d+ more modules;"):
        subsim.simulate(toy, out=tmp_path / "r", seeds=99)


@pytest.fixture
def interruptible():
    """Ctrl-C interrupts, also where the tests were started in the background of a shell, which has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_variables_come_in_the_same_order_on_every_file_system(toy, tmp_path, monkeypatch):
    results = subsim.simulate(toy, out=tmp_path / "r")
    opened = xr.open_zarr

    def backwards(*arguments, **options):
        held = opened(*arguments, **options)
        return held[list(held.data_vars)[::-1]]

    monkeypatch.setattr(xr, "open_zarr", backwards)
    again = subsim.load_results(tmp_path / "r"), subsim.simulate(toy, out=tmp_path / "r")
    assert [list(held.data_vars) for held in again] == [list(results.data_vars)] * 2


@pytest.mark.parametrize("died_after", range(5))
def test_growing_that_was_cut_short_loses_nothing(toy, tmp_path, monkeypatch, died_after):
    """Killed between the enlargements of two arrays, at each place in turn."""
    whole = subsim.simulate(toy, seeds=6, out=tmp_path / "r")
    resize, calls = zarr.Array.resize, []

    def dies(array, shape):
        if len(calls) == died_after:
            raise KeyboardInterrupt
        calls.append(array)
        resize(array, shape)

    monkeypatch.setattr(zarr.Array, "resize", dies)
    with contextlib.suppress(KeyboardInterrupt):
        subsim.simulate(toy, seeds=9, out=tmp_path / "r")
    monkeypatch.undo()
    assert len(calls) == died_after
    progress = []
    again = subsim.simulate(toy, seeds=6, out=tmp_path / "r", progress=lambda done, seeds: progress.append(done))
    assert progress == [6]
    xr.testing.assert_equal(again, whole)
    xr.testing.assert_equal(subsim.simulate(toy, seeds=9, out=tmp_path / "r"), subsim.simulate(toy, seeds=9))


def test_other_variables_in_the_same_place_are_refused(toy, tmp_path):
    """The code is compared, not what it finds outside: what is recorded tells."""
    names = ["first", "bits"]

    def make_run(config, data):
        return lambda key, hyper: {name: toy.make_run(config, data)(key, hyper)[name] for name in names}

    study = dataclasses.replace(toy, make_run=make_run)
    subsim.simulate(study, out=tmp_path / "r")
    names.pop()
    with pytest.raises(UserError, match="recorded other variables"):
        subsim.simulate(study, out=tmp_path / "r")


def test_results_of_nobody_are_refused(toy, tmp_path):
    (tmp_path / "r").mkdir()
    xr.Dataset({"x": ("y", [1.0])}).to_zarr(tmp_path / "r" / "run.zarr", zarr_format=2, consolidated=False)
    with pytest.raises(UserError, match="not a complete subsim store"):
        subsim.load_results(tmp_path / "r")
    with pytest.raises(UserError, match="not a complete subsim store"):
        subsim.simulate(toy, out=tmp_path / "r")


def test_an_unfinished_store_has_no_results(toy, tmp_path):
    def stop(done, seeds):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        subsim.simulate(toy, out=tmp_path / "r", progress=stop)
    with pytest.raises(UserError, match="holds no finished seed"):
        subsim.load_results(tmp_path / "r")
