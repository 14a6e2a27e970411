import contextlib
import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
import zarr

import subsim
from subsim import UserError
from subsim.engine import identity, simulate, store
from subsim.engine.devices import AXIS


def test_the_store_says_what_it_holds(toy, tmp_path):
    subsim.simulate(toy, out=tmp_path / "r", root_seed=5)
    held = xr.open_zarr(tmp_path / "r" / "run.zarr")  # as anyone would: there is no warning
    assert dict(held.sizes) == {"seed": 10, "place": 3}
    assert held.place.values.tolist() == ["a", "b", "c"]
    assert held["all"].attrs == {"description": "all numbers", "units": "m"}
    attributes = held.attrs
    assert attributes["title"] == "A toy."
    assert attributes["config"] == {"size": 3}
    assert attributes["hyper"] == {"scale": 2.0, "ceiling": 1e9}
    assert (attributes["study"], attributes["root_seed"], attributes["precision"]) == ("toy", 5, "float32")
    assert attributes["study_file"] == str(toy.declared.partition(",")[0])
    xr.testing.assert_equal(held.load(), subsim.load_results(tmp_path / "r"))


def test_the_store_says_what_made_it(toy, tmp_path):
    results = subsim.simulate(toy, out=tmp_path / "r")
    (key,) = results.attrs["origins"]
    assert (results.made_by == int(key, 16)).all()
    origin = results.attrs["origins"][key]
    assert origin["versions"]["subsim"] == subsim.__version__
    assert set(identity.PACKAGES) < set(origin["versions"])
    assert origin["device"].startswith("cpu")
    assert origin["devices"] == 2
    assert {"commit", "created", "python", "cores", "xla_flags"} <= set(origin)
    (program,) = results.attrs["programs"].values()
    assert len(program["code_sha256"]) == len(program["data_sha256"]) == 64
    assert set(program["toolchain"]) == {"jax", "flax", "optax", "platform"}
    assert "subsim.engine.program" in program["sources"]
    assert program["declaration"]["make_run"]["function"].startswith("conftest.toy")


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


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"config": {"size": 4}}, "size 3 and not 4"),
        ({"hyper": {"scale": 9.0, "ceiling": 1e9}}, "scale 2.0 and not 9.0"),
        ({"root_seed": 1}, "root_seed 0 and not 1"),
        ({"precision": "float64"}, "precision float32 and not float64"),
        ({"sweep": {"scale": [1.0, 2.0]}}, r"sweep.scale None and not \[1.0, 2.0\]"),
    ],
)
def test_another_run_in_the_same_place_is_refused_with_the_difference(toy, tmp_path, change, words):
    subsim.simulate(toy, out=tmp_path / "r")
    before = contents(tmp_path / "r" / "run.zarr")
    if "config" in change:
        change = {"config": dataclasses.replace(toy.config, **change["config"])}
    with pytest.raises(UserError, match=f"r holds another run, with {words}.*; choose another folder with --out"):
        subsim.simulate(toy, out=tmp_path / "r", **change)
    assert contents(tmp_path / "r" / "run.zarr") == before


def test_a_number_that_is_none_is_like_itself(toy, tmp_path):
    hyper = {"scale": np.nan, "ceiling": np.inf}
    for seeds in (2, 4):
        subsim.simulate(toy, hyper=hyper, seeds=seeds, out=tmp_path / "r")
    assert np.isnan(subsim.load_results(tmp_path / "r")["all"]).all()


def test_a_folder_that_cannot_be_written_is_refused(toy, tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match=r"out: cannot write to .*file"):
        subsim.simulate(toy, out=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"


def test_what_is_no_store_is_left_alone(toy, tmp_path):
    (tmp_path / "r" / "run.zarr").mkdir(parents=True)
    with pytest.raises(UserError, match="not a complete subsim store"):
        subsim.simulate(toy, out=tmp_path / "r")
    assert list((tmp_path / "r" / "run.zarr").iterdir()) == []
    with pytest.raises(UserError, match="holds no results"):
        subsim.load_results(tmp_path / "nowhere")


def test_results_of_nobody_are_refused(toy, tmp_path):
    zarr.open_group(tmp_path / "r" / "run.zarr", mode="w").create_array("x", data=np.ones(3), dimension_names=["y"])
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
    assert store.finished(tmp_path / "r") == (0, 10)


def test_the_folders_with_a_store_are_found(toy, tmp_path):
    for folder in ("b", "a/c"):
        subsim.simulate(toy, seeds=2, out=tmp_path / folder)
    assert store.stores(tmp_path) == [tmp_path / "a" / "c", tmp_path / "b"]
    assert store.finished(tmp_path / "b") == (2, 2)
    assert store.finished(tmp_path) == (0, 0)


@pytest.mark.parametrize("written", range(7))
def test_a_chunk_counts_only_when_all_of_it_is_on_disk(toy, tmp_path, disk, written):
    """Stopped between any two files of the second chunk: what marks it as begun comes first, and as finished last."""

    def stop(file):
        nonlocal written
        if file.endswith(("/c.1", "/c.1.0")):
            if written == 0:
                raise ZeroDivisionError
            written -= 1

    disk.before, finished = stop, 4 if written < 6 else 8
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
    assert {file.name for file in (tmp_path / "r" / "run.zarr" / "first").iterdir()} >= {"c.0", "c.1", "c.2"}


def test_a_store_keeps_the_chunk_that_it_was_begun_with(toy, tmp_path):
    guessed = dataclasses.replace(toy, chunk=None)
    notices = []
    assert subsim.simulate(guessed, seeds=6, chunk=2, out=tmp_path / "r").attrs["chunk"] == 2
    results = subsim.simulate(guessed, seeds=11, out=tmp_path / "r", notice=notices.append)
    assert results.attrs["chunk"] == 2
    assert notices == ["chunk 2"]  # without --chunk, a call runs as many, too
    for chunk, seeds in ((1, 12), (7, 30)):
        results = subsim.simulate(guessed, seeds=seeds, chunk=chunk, out=tmp_path / "r")
    assert {len(file.name) for file in (tmp_path / "r" / "run.zarr" / "status").glob("c.?")} == {3}
    assert len(list((tmp_path / "r" / "run.zarr" / "status").glob("c.*"))) == 15
    xr.testing.assert_equal(results.drop_vars("made_by"), subsim.simulate(toy, seeds=30).drop_vars("made_by"))


def test_a_chunk_that_is_asked_for_is_had(toy, tmp_path):
    results = subsim.simulate(dataclasses.replace(toy, chunk=None), seeds=64, chunk=32, out=tmp_path / "r")
    assert results.attrs["chunk"] == 32
    assert {file.name for file in (tmp_path / "r" / "run.zarr" / "bits").glob("c*")} == {"c.0", "c.1"}


def test_every_seed_tells_what_made_it(toy, tmp_path, monkeypatch):
    """Other versions, flags and devices go on with the numbers of the same program, and are recorded."""
    out = tmp_path / "r"
    first = subsim.simulate(toy, seeds=4, out=out)
    subsim.simulate(toy, seeds=4, out=out)
    monkeypatch.setattr(identity, "__version__", "99.0")
    subsim.simulate(toy, seeds=4, out=out)  # nothing is made
    subsim.simulate(toy, seeds=8, out=out)
    monkeypatch.setenv("XLA_FLAGS", "--xla_some_flag")
    subsim.simulate(toy, seeds=12, out=out)
    one = jax.sharding.Mesh(np.asarray(jax.devices()[:1]), (AXIS,))
    monkeypatch.setattr(simulate, "local_mesh", lambda: one)
    subsim.simulate(toy, seeds=14, out=out)
    monkeypatch.setattr(identity, "cores", lambda: 1000)
    subsim.simulate(toy, seeds=16, out=out)
    monkeypatch.undo()
    subsim.simulate(toy, seeds=20, out=out)  # as it began
    results = subsim.load_results(out)
    origins = {int(key, 16): origin for key, origin in results.attrs["origins"].items()}
    makers = [origins[maker] for maker in results.made_by.values.tolist()]
    assert len(origins) == 5
    assert [maker["versions"]["subsim"] for maker in makers[::4]] == [
        subsim.__version__,
        *["99.0"] * 3,
        makers[0]["versions"]["subsim"],
    ]
    assert ["some_flag" in maker["xla_flags"] for maker in makers[::4]] == [False, False, True, True, False]
    assert [maker["devices"] for maker in makers[::2]] == [2] * 6 + [1] * 2 + [2] * 2
    assert [maker["cores"] == 1000 for maker in makers[::2]] == [False] * 7 + [True] + [False] * 2
    assert origins[int(first.made_by[0])] == makers[19]
    assert makers[0]["created"] <= makers[4]["created"]


def test_variables_come_in_the_same_order_on_every_file_system(toy, tmp_path, monkeypatch):
    results = subsim.simulate(toy, out=tmp_path / "r")
    opened = xr.open_dataset

    def backwards(*arguments, **options):
        held = opened(*arguments, **options)
        return held[list(held.data_vars)[::-1]]

    monkeypatch.setattr(xr, "open_dataset", backwards)
    again = subsim.load_results(tmp_path / "r"), subsim.simulate(toy, out=tmp_path / "r")
    assert [list(held.data_vars) for held in again] == [list(results.data_vars)] * 2


def test_growing_that_was_cut_short_at_any_write_loses_nothing(toy, tmp_path, disk):
    """Between the enlargements of two arrays, before the labels of the seeds, before the metadata's copy, and after."""
    subsim.simulate(toy, seeds=5, out=tmp_path / "whole")
    grown = subsim.simulate(toy, seeds=8)

    def grow(name, room=10**6):
        """Enlarge a copy of the store until so many files are written; returns these."""
        shutil.copytree(tmp_path / "whole", tmp_path / name)
        before = len(disk.files)

        def stop(file):
            if len(disk.files) == before + room:
                raise ZeroDivisionError

        disk.before = stop
        with contextlib.suppress(ZeroDivisionError):
            subsim.simulate(toy, seeds=8, out=tmp_path / name)
        disk.before = lambda file: None
        return disk.files[before:]

    writes = grow("r")
    assert writes[:2] == ["all/zarr.json", "bits/zarr.json"]
    assert [writes.index(file) for file in ("status/zarr.json", "seed/c.0", "zarr.json")] == [5, 6, 7]
    for room in range(len(writes)):
        assert grow(f"{room}", room) == writes[:room]
        held = subsim.load_results(tmp_path / f"{room}")
        xr.testing.assert_equal(held, grown.isel(seed=held.seed.values))
        assert held.sizes["seed"] >= 5
        assert xr.open_zarr(tmp_path / f"{room}" / "run.zarr").sizes["seed"] == (5 if room < 8 else 8)
        progress = []
        again = subsim.simulate(
            toy, seeds=8, out=tmp_path / f"{room}", progress=lambda done, _, seen=progress: seen.append(done)
        )
        assert progress[0] == held.sizes["seed"]
        xr.testing.assert_equal(again, grown)
    # A store that has grown gives fewer seeds as well.
    xr.testing.assert_equal(subsim.simulate(toy, seeds=5, out=tmp_path / "0"), grown.isel(seed=range(5)))


def test_other_variables_in_the_same_place_are_refused(toy, tmp_path):
    names = ["first", "bits"]

    def make_run(config, data):
        return lambda key, hyper: {name: toy.make_run(config, data)(key, hyper)[name] for name in names}

    study = dataclasses.replace(toy, make_run=make_run)
    subsim.simulate(study, out=tmp_path / "r")
    names.pop()
    with pytest.raises(UserError, match="another run, with "):
        subsim.simulate(study, out=tmp_path / "r")


def test_a_variable_cannot_have_the_name_of_what_a_store_keeps_itself():
    for name in ("made_by", "origins", "programs", "status"):
        with pytest.raises(UserError, match="a name that the engine uses itself"):
            subsim.Study("s", "S.", lambda config, data: None, {name: subsim.Variable("v")})


def test_arrays_are_cut_by_chunks_and_programs(toy, tmp_path):
    subsim.simulate(toy, sweep={"size": [3, 1], "scale": [1.0, 2.0]}, out=tmp_path / "r")
    held = zarr.open_group(tmp_path / "r" / "run.zarr", mode="r")
    assert held["all"].shape == (10, 2, 2, 3)
    assert held["all"].chunks == (4, 1, 2, 3)
    assert held["status"].chunks == held["made_by"].chunks == (4, 1)


def test_a_user_may_note_something_in_the_root(toy, tmp_path):
    subsim.simulate(toy, seeds=4, out=tmp_path / "r")
    zarr.open_group(tmp_path / "r" / "run.zarr", mode="r+").attrs["note"] = "for the paper"
    assert subsim.load_results(tmp_path / "r").attrs["note"] == "for the paper"
    grown = subsim.simulate(toy, seeds=8, out=tmp_path / "r")
    assert grown.attrs["note"] == "for the paper"
    xr.testing.assert_equal(grown, subsim.simulate(toy, seeds=8))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_label_that_zarr_need_not_write_is_read(toy, tmp_path, value):
    """Zarr writes no chunk of nothing but zeros where it is not told to."""
    made = subsim.simulate(toy, sweep={"scale": [value]}, out=tmp_path / "r")
    assert subsim.load_results(tmp_path / "r").scale.values.tolist() == [value]
    xr.testing.assert_equal(subsim.simulate(toy, sweep={"scale": [value]}, out=tmp_path / "r"), made)
