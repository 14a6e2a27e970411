import dataclasses
import json

import numpy as np
import pytest
import xarray as xr

import subsim
from subsim import UserError
from subsim.engine import store


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
    identity = {
        name: attributes[name] for name in ("study", "config", "hyper", "root_seed", "precision", "data_sha256")
    }
    assert attributes["config_hash"] == store.digest(identity)


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
    with pytest.raises(UserError, match="data_sha256"):
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
    """A crash between a chunk's data and its status leaves the chunk missing."""
    write = xr.Dataset.to_zarr

    def crash_at_the_status(dataset, *arguments, **options):
        if "region" in options and "status" in dataset:
            raise RuntimeError("power cut")
        return write(dataset, *arguments, **options)

    monkeypatch.setattr(xr.Dataset, "to_zarr", crash_at_the_status)
    with pytest.raises(RuntimeError, match="power cut"):
        subsim.simulate(toy, out=tmp_path / "r")
    monkeypatch.undo()
    assert subsim.load_results(tmp_path / "r").sizes["seed"] == 0
    xr.testing.assert_equal(subsim.simulate(toy, out=tmp_path / "r"), subsim.simulate(toy))


def test_identity_is_all_of_the_resolved_config(toy):
    one = store.identity("toy", toy.config, toy.hyper, 0, "float32", None)
    assert json.loads(json.dumps(one)) == one
    assert store.digest(one) == store.digest(dict(reversed(one.items())))
    assert store.digest(one) != store.digest(store.identity("toy", toy.config, toy.hyper, 1, "float32", None))
