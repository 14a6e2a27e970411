import concurrent.futures
import errno
import threading
from pathlib import Path

import filelock
import numpy as np
import pytest
import xarray as xr

import subsim
from subsim import UserError
from subsim.engine import shards, store
from subsim.engine.shards import Shard


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(shards, "_PATIENCE", 0.1)


@pytest.mark.parametrize("total", [1, 2, 3, 7])
@pytest.mark.parametrize(("chunk", "seeds"), [(1, 5), (4, 50), (64, 1000)])
def test_shards_are_whole_chunks_and_together_everything(total, chunk, seeds):
    random = np.random.default_rng(seeds)
    for program in range(3):
        missing = np.flatnonzero(random.random(seeds) < 0.3)
        parts = [Shard(number + 1, total).part(missing, chunk, program) for number in range(total)]
        np.testing.assert_array_equal(np.sort(np.concatenate(parts)), missing)
        owners = [{seed // chunk for seed in part} for part in parts]
        assert sum(map(len, owners)) == len(set().union(*owners))
    # The programs of a sweep begin with different shards: all have about as much to do.
    work = [
        sum(len(Shard(number, 2).part(np.arange(3 * chunk), chunk, place)) for place in range(2)) for number in (1, 2)
    ]
    assert work == [3 * chunk] * 2


def test_shards_that_cannot_be_are_refused(toy, tmp_path):
    for number, total in ((3, 2), (0, 2), (0, 0)):
        with pytest.raises(UserError, match=f"shard is {number}/{total}; the first number must lie in 1 .. {total}"):
            subsim.simulate(toy, shard=Shard(number, total), out=tmp_path / "r")
    with pytest.raises(UserError, match="out: several shards need a folder that they share"):
        subsim.simulate(toy, shard=Shard(1, 2))


def test_shards_make_the_store_of_one_run(toy, tmp_path):
    sweep = {"size": [3, 1], "scale": [1.0, 2.5]}
    whole = subsim.simulate(toy, seeds=18, sweep=sweep, out=tmp_path / "whole")
    progress = []
    for number in (3, 1, 2):
        results = subsim.simulate(
            toy, seeds=18, sweep=sweep, out=tmp_path / "r", shard=Shard(number, 3),
            progress=lambda done, asked: progress.append((done, asked)),
        )  # fmt: skip
        done, asked = progress[-1]
        assert done == asked < 20
    xr.testing.assert_equal(results, whole)
    assert sum(asked for asked, _ in set(progress) if (asked, asked) in progress) >= 36

    def contents(folder):
        files = {path for path in (folder / "run.zarr").rglob("*") if path.is_file()}
        files.remove(folder / "run.zarr" / "zarr.json")  # with the time
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

    assert contents(tmp_path / "r") == contents(tmp_path / "whole")


def test_a_shard_alone_says_that_others_are_not_done(command):
    Path("mine.py").write_text(
        "import jax, subsim\n"
        "def make_run(config, data): return lambda key, hyper: {'x': jax.random.normal(key)}\n"
        "study = subsim.Study('mine', 'Mine.', make_run, {'x': subsim.Variable('x')})\n"
    )
    words = ("run", "./mine.py", "--seeds", 8, "--chunk", 2, "--out", "r")
    status, printed, _ = command(*words, "--shard", "1/2")
    assert (status, printed) == (0, "Shard 1/2 is done; others are not: the last one reports.\n")
    assert subsim.load_results("r").seed.values.tolist() == [0, 1, 4, 5]
    status, printed, _ = command(*words, "--shard", "2/2")
    assert status == 0
    assert "Results: r" in printed
    assert subsim.load_results("r").sizes["seed"] == 8
    status, _, complaint = command(*words, "--shard", "3/2")
    assert status == 2
    assert "shard is '3/2'" in complaint


def test_a_folder_has_shards_of_one_number_at_a_time(tmp_path):
    refused = [
        (Shard(), Shard(), "another run"),
        (Shard(), Shard(1, 2), "another run"),
        (Shard(1, 2), Shard(1, 2), "shard 1/2 of another run"),
        (Shard(2, 2), Shard(), "shard 2/2 of another run"),
        (Shard(2, 2), Shard(1, 3), "shard 2/2 of another run"),
    ]
    for first, second, words in refused:
        sentence = f"out: {tmp_path} is in use by {words}; wait until it has ended, or choose another folder with --out"
        with shards.held(tmp_path, first):
            with pytest.raises(UserError, match=sentence), shards.held(tmp_path, second):
                pass
            assert not shards.others_at_work(tmp_path, first)
        with shards.held(tmp_path, second):
            assert not shards.others_at_work(tmp_path, second)
    with shards.held(tmp_path, Shard(1, 2)), shards.held(tmp_path, Shard(2, 2)):
        assert shards.others_at_work(tmp_path, Shard(1, 2))


def test_many_shards_that_begin_together_are_all_let_in(tmp_path, monkeypatch):
    """Each looks whether others are at work, and has their locks for a moment while it does."""
    monkeypatch.setattr(shards, "_PATIENCE", 10.0)
    with shards.held(tmp_path, Shard()):
        pass  # its lock stays, and is free
    here = threading.Barrier(8)

    def begin(number):
        here.wait()
        for _ in range(20):
            with shards.held(tmp_path, Shard(number, 8)):
                pass
        return True

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(begin, range(1, 9)))


@pytest.mark.parametrize("error", [NotImplementedError("no flock"), OSError(errno.ENOSYS, "no flock")])
def test_a_file_system_without_locks_is_refused(toy, tmp_path, monkeypatch, error):
    def acquire(*_arguments, **_options):
        raise error

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    with pytest.raises(UserError, match=r"out: cannot write to .*r \(no flock\); choose another folder"):
        subsim.simulate(toy, out=tmp_path / "r")
    assert not store.exists(tmp_path / "r")


def test_a_lock_outlives_no_process_where_there_is_no_flock(toy, tmp_path, monkeypatch):
    """filelock's own stand-in for the kernel's locks would."""
    import fcntl

    def flock(_file, _operation):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(UserError, match=r"out: cannot write to .*r \(Function not implemented\)"):
        subsim.simulate(toy, out=tmp_path / "r")


def test_repair_waits_until_other_shards_have_ended(toy, tmp_path):
    subsim.simulate(toy, out=tmp_path / "r")
    (tmp_path / "r" / "run.zarr" / "bits" / "c.0").write_bytes(b"x")
    words = r"repair: another shard is at work in .*r; repair it when that has ended"
    with shards.held(tmp_path / "r", Shard(2, 2)), pytest.raises(UserError, match=words):
        subsim.simulate(toy, out=tmp_path / "r", shard=Shard(1, 2), repair=True)
    subsim.simulate(toy, out=tmp_path / "r", shard=Shard(1, 2), repair=True)
    assert subsim.load_results(tmp_path / "r").sizes["seed"] == 10
