import contextlib
import dataclasses
import functools
import json
import linecache

import numpy as np
import pytest
import xarray as xr
import zarr

import subsim
from subsim import UserError
from subsim.engine import provenance


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


def test_a_chunk_counts_only_when_its_data_is_on_disk(toy, tmp_path, monkeypatch):
    """A crash between the two writes of a chunk leaves it missing: what marks it as finished comes second."""
    write, regions = xr.Dataset.to_zarr, []

    def crash_at_the_second(dataset, *arguments, **options):
        if "region" in options:
            regions.append(options["region"])
            if len(regions) == 2:
                raise RuntimeError("power cut")
        return write(dataset, *arguments, **options)

    monkeypatch.setattr(xr.Dataset, "to_zarr", crash_at_the_second)
    with pytest.raises(RuntimeError, match="power cut"):
        subsim.simulate(toy, out=tmp_path / "r")
    monkeypatch.undo()
    with pytest.raises(UserError, match="no finished seed"):
        subsim.load_results(tmp_path / "r")
    xr.testing.assert_equal(subsim.simulate(toy, out=tmp_path / "r"), subsim.simulate(toy))


def test_identity_is_all_of_the_resolved_config(toy):
    def identity(root_seed):
        return provenance.identity(toy, toy.config, toy.hyper, [], root_seed, "float32", None)

    one = identity(0)
    assert json.loads(json.dumps(one)) == one
    assert provenance.digest(one) == provenance.digest(dict(reversed(one.items())))
    assert provenance.digest(one) != provenance.digest(identity(1))


def test_other_code_in_the_studys_file_is_another_run(tmp_path):
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
    with pytest.raises(UserError, match="other code in the study's file"):
        simulate(text.replace("normal(key)", "normal(key) + 1000"), 4)


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
    """Where a study has no file, its code cannot be compared; what it records can."""
    first = dataclasses.replace(toy, make_run=functools.partial(lambda run, *_: run, toy.make_run(None, None)))
    subsim.simulate(first, out=tmp_path / "r")

    def fewer(key, hyper):
        return {"bits": toy.make_run(None, None)(key, hyper)["bits"]}

    with pytest.raises(UserError, match="recorded other variables"):
        subsim.simulate(dataclasses.replace(toy, make_run=lambda *_: fewer), out=tmp_path / "r")


def test_a_full_disk_keeps_what_is_finished(toy, tmp_path, monkeypatch):
    write, calls = xr.Dataset.to_zarr, []

    def full(dataset, *arguments, **options):
        calls.append(options)
        if len(calls) > 4:
            raise OSError(28, "No space left on device")
        return write(dataset, *arguments, **options)

    monkeypatch.setattr(xr.Dataset, "to_zarr", full)
    with pytest.raises(UserError, match=r"No space left on device\); finished seeds are kept"):
        subsim.simulate(toy, out=tmp_path / "r")
    monkeypatch.undo()
    assert subsim.load_results(tmp_path / "r").sizes["seed"] == 4
    xr.testing.assert_equal(subsim.simulate(toy, out=tmp_path / "r"), subsim.simulate(toy))


def test_results_of_nobody_are_refused(toy, tmp_path):
    (tmp_path / "r").mkdir()
    xr.Dataset({"x": ("y", [1.0])}).to_zarr(tmp_path / "r" / "run.zarr", zarr_format=2, consolidated=False)
    with pytest.raises(UserError, match="cannot be read as a whole"):
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
