"""What may befall a run, tried out: every drill says what it tried, and ends with the results of a quiet run."""

import collections
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import xarray as xr
from conftest import files

import subsim
from subsim import UserError
from subsim.engine import shards
from subsim.engine.shards import Shard

STUDY = """
'''Sums noise for a few milliseconds a chunk.'''
import jax
import subsim

def run(key, hyper):
    noise = jax.random.normal(key, (1000, 3))
    return {"total": noise.sum(), "each": noise.sum(0), "bits": jax.random.bits(key)}

study = subsim.Study("noise", __doc__, lambda config, data: run, seeds=256, chunk=4, coords={"place": ["a", "b", "c"]},
                     variables={"total": subsim.Variable("sum"), "each": subsim.Variable("sums", ("place",)),
                                "bits": subsim.Variable("what the key is")})
"""
CHUNKS = 64
RUN = ("run", "./noise.py")


class Nursery:
    """Runs commands in forks of a warm process; see nursery.py."""

    def __init__(self, home: Path):
        words = [sys.executable, str(Path(__file__).with_name("nursery.py"))]
        # The compiled programs are kept from one command to the next.
        outside = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "JAX_"))}
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
            env=outside | {"HOME": str(home), "XDG_CACHE_HOME": str(home)},
        )  # fmt: skip

    def start(self, *words: object) -> int:
        """Start the command in the working folder; returns its process id."""
        self.process.stdin.write(json.dumps([os.getcwd(), [str(word) for word in words]]) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def wait(self) -> int:
        """The exit status of the command started last."""
        return int(self.process.stdout.readline())

    def run(self, *words: object) -> int:
        self.start(*words)
        return self.wait()


@pytest.fixture(scope="module")
def nurseries(tmp_path_factory):
    """Two of them, for two commands at once."""
    home = tmp_path_factory.mktemp("home")
    both = Nursery(home), Nursery(home)
    with both[0].process, both[1].process:
        yield both
        for nursery in both:
            os.killpg(nursery.process.pid, signal.SIGKILL)  # and a command that a failed test has left


@pytest.fixture
def nursery(nurseries, tmp_path):
    (tmp_path / "noise.py").write_text(STUDY)
    return nurseries[0]


def chunks(array: Path) -> list[Path]:
    """The files of an array's chunks, without what a killed process has left half written."""
    return [file for file in array.glob("c.*") if file.suffix != ".partial"]


def begun(out: Path) -> int:
    """Chunks with a status: those that are finished, and the one at work."""
    return len(chunks(out / "run.zarr" / "status"))


def both_at_work(out: Path) -> bool:
    """Whether each of two shards has begun a chunk: the first has the even ones."""
    return {int(file.suffix[1:]) % 2 for file in chunks(out / "run.zarr" / "status")} == {0, 1}


def held_seeds(out: Path) -> int:
    """Finished seeds of a store; its first chunk may be the one that a signal cut."""
    with contextlib.suppress(UserError):
        return subsim.load_results(out).sizes["seed"]
    return 0


def ended(child: int) -> bool:
    """Whether a command of the nursery has ended."""
    return not os.path.exists(f"/proc/{child}")


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.0005)


def kill(child: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)


@pytest.mark.slow
def test_killed_at_random_moments(nursery, tmp_path, tried):
    """SIGKILL, fifty times and more: what is on disk is right at every moment, and in the end bit for bit the same."""
    quiet, out = tmp_path / "quiet", tmp_path / "killed"
    assert nursery.run(*RUN, "--seeds", 4, "--out", "warm") == 0
    start = time.monotonic()
    nursery.start(*RUN, "--out", quiet)
    wait_for(lambda: begun(quiet) > 0)
    first = time.monotonic()
    assert nursery.wait() == 0
    until_first, writing = first - start, time.monotonic() - first
    whole, wanted = subsim.load_results(quiet), files(quiet)
    draw = random.Random(0)
    moments = collections.Counter()
    while moments.total() < 52 or begun(out) < CHUNKS:
        before = begun(out)
        child = nursery.start(*RUN, "--out", out)
        if draw.random() < 0.2:
            time.sleep(draw.uniform(0, until_first))
        else:
            wait_for(lambda before=before, child=child: begun(out) > before or ended(child))
            time.sleep(draw.uniform(0, writing / 10))
        kill(child)
        assert nursery.wait() in (0, -signal.SIGKILL)
        held = None
        with contextlib.suppress(UserError):
            held = subsim.load_results(out)
            xr.testing.assert_equal(held, whole.sel(seed=held.seed))
        seeds = 0 if held is None else held.sizes["seed"]
        moments[
            "after the end" if seeds == 256
            else "before its first chunk" if begun(out) == before
            else "while it wrote a chunk" if seeds < 4 * begun(out)
            else "between two chunks"
        ] += 1  # fmt: skip
        if seeds == 256 and moments.total() < 52:
            assert files(out) == wanted
            shutil.rmtree(out)
    assert nursery.run(*RUN, "--out", out) == 0
    assert files(out) == wanted
    assert subsim.load_results(out).seed.values.tolist() == list(range(256))
    tried(f"{moments.total()} times SIGKILL: {dict(moments)}")


def rooms(store: Path) -> tuple[int, int, int]:
    """The least and the most seeds that an array of a store has room for, and the copy of its metadata says it has."""
    metadata = [json.loads((store / name / "zarr.json").read_text()) for name in ("bits", "each", "seed", "status")]
    copy = json.loads((store / "zarr.json").read_text())["consolidated_metadata"]["metadata"]["status"]
    *lengths, of_copy = (each["shape"][0] for each in (*metadata, copy))
    return min(lengths), max(lengths), of_copy


@pytest.mark.slow
def test_killed_while_a_finished_store_is_enlarged(nursery, tmp_path, tried):
    """SIGKILL, thirty times and more between the first enlarged array and the copy of the metadata: what was there is
    read at every moment, and the command, repeated, finishes."""
    out, store, draw, moments = tmp_path / "r", tmp_path / "r" / "run.zarr", random.Random(0), collections.Counter()
    assert nursery.run(*RUN, "--seeds", 400, "--out", "whole") == 0
    whole, seeds = subsim.load_results("whole"), 10
    assert nursery.run(*RUN, "--seeds", seeds, "--out", out) == 0
    first, last = store / "bits" / "zarr.json", store / "zarr.json"  # to be written when a store is enlarged
    takes = 0.0  # seconds from one to the other, here and now
    while moments["between two arrays"] + moments["before the copy of the metadata"] < 32:
        wanted = rooms(store)[2] + draw.choice((1, 2, 5))
        was = first.stat().st_mtime_ns, last.stat().st_mtime_ns
        child = nursery.start(*RUN, "--seeds", wanted, "--out", out)
        wait_for(lambda was=was: first.stat().st_mtime_ns != was[0])
        if takes == 0.0:
            begin = time.monotonic()
            wait_for(lambda was=was: last.stat().st_mtime_ns != was[1])
            takes = time.monotonic() - begin
        else:
            time.sleep(draw.uniform(0, takes))
        kill(child)
        assert nursery.wait() in (0, -signal.SIGKILL)
        least, most, copy = rooms(store)
        held = subsim.load_results(out)
        xr.testing.assert_equal(held, whole.sel(seed=held.seed))
        assert held.sizes["seed"] >= seeds
        assert xr.open_zarr(store).sizes["seed"] == copy
        before = "between two arrays" if least < most else "before the copy of the metadata"
        moment = "after" if copy == wanted else before
        moments[moment] += 1
        # Where it came too late, the next one shall come earlier.
        takes *= 0.8 if moment == "after" else 1.1
        if moment != "after":
            assert nursery.run(*RUN, "--seeds", wanted, "--out", out) == 0
            seeds = wanted
            xr.testing.assert_equal(subsim.load_results(out), whole.isel(seed=slice(seeds)))
            assert not list(store.rglob("*.partial"))
    assert nursery.run(*RUN, "--seeds", seeds, "--out", "quiet") == 0
    assert files(out) == files(tmp_path / "quiet")
    tried(f"{moments.total()} times SIGKILL: {dict(moments)}, from 10 to {seeds} seeds")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_at_once(nursery, tmp_path, tried, number, status):
    """Python, and XLA at work, would keep it waiting; what is being written is cut, and made whole by the next run."""
    slowest = 0.0
    for _ in range(4):
        before = begun(tmp_path / "r")
        child = nursery.start(*RUN, "--seeds", 4000, "--out", "r")
        wait_for(lambda before=before: begun(tmp_path / "r") > before)
        time.sleep(random.random() / 10)
        sent = time.monotonic()
        os.kill(child, number)
        assert nursery.wait() == status
        slowest = max(slowest, time.monotonic() - sent)
        complaint = (tmp_path / "log").read_text()
        assert "Repeat the command to continue." in " ".join(complaint.split())
        assert "Traceback" not in complaint
        held = held_seeds(tmp_path / "r")
        assert 4 * begun(tmp_path / "r") - 4 <= held <= 4 * begun(tmp_path / "r")
    assert slowest < 5
    some = held_seeds(tmp_path / "r")
    assert nursery.run(*RUN, "--seeds", some + 1, "--out", "r") == 0
    assert not list((tmp_path / "r").rglob("*.partial"))
    assert nursery.run(*RUN, "--seeds", some + 1, "--out", "quiet") == 0
    xr.testing.assert_equal(subsim.load_results("r"), subsim.load_results("quiet"))
    tried(f"4 times {number.name}, after {some} of 4000 seeds; it ended within {slowest:.2f} seconds")


def test_a_second_process_is_refused(nursery, tmp_path):
    child = nursery.start(*RUN, "--seeds", 4000, "--out", "r")
    wait_for(lambda: begun(tmp_path / "r") > 0)
    study = subsim.load_study("./noise.py")
    with pytest.raises(UserError, match=r"out: r is in use by another run; wait until it has ended, or .*--out"):
        subsim.simulate(study, out="r")
    at_work = begun(tmp_path / "r")
    wait_for(lambda: begun(tmp_path / "r") > at_work)  # it was not disturbed
    kill(child)
    nursery.wait()
    progress = []
    subsim.simulate(study, seeds=4, out="r", progress=lambda done, asked: progress.append(done))
    assert progress == [4]  # it left no lock


def test_two_shards_at_once_make_the_store_of_one_run(nurseries, nursery, tmp_path, tried):
    assert nursery.run(*RUN, "--out", "whole") == 0
    for shard, each in enumerate(nurseries, 1):
        each.start(*RUN, "--shard", f"{shard}/2", "--out", "r")
    assert [each.wait() for each in nurseries] == [0, 0]
    assert files(tmp_path / "r") == files(tmp_path / "whole")
    tried(f"{CHUNKS} chunks by two processes")


@pytest.mark.slow
def test_a_shard_is_killed_and_the_other_finishes(nurseries, nursery, tmp_path, tried, monkeypatch):
    """Whatever number of shards the command is then repeated with, they do what is left, and nothing else."""
    monkeypatch.setattr(shards, "_PATIENCE", 0.01)
    first, second = nurseries
    many = (*RUN, "--seeds", 2048)
    assert nursery.run(*many, "--out", "whole") == 0
    moments = []
    for total in (1, 2, 3):
        out = tmp_path / f"r{total}"
        # Each is stopped as soon as it has begun, so that neither ends before the other has begun.
        child = first.start(*many, "--shard", "1/2", "--out", out)
        wait_for(lambda out=out: begun(out) > 4)
        os.kill(child, signal.SIGSTOP)
        other = second.start(*many, "--shard", "2/2", "--out", out)
        wait_for(lambda out=out: both_at_work(out))
        os.kill(other, signal.SIGSTOP)
        kill(child)
        assert first.wait() == -signal.SIGKILL
        with (
            pytest.raises(UserError, match="in use by shard 2/2 of another run; wait until"),
            shards.held(out, Shard(3, 3)),
        ):
            pass
        os.kill(other, signal.SIGCONT)
        assert second.wait() == 0
        done = subsim.load_results(out).sizes["seed"]
        assert 1024 <= done < 2048
        moments.append(done)
        asked = []
        for shard in range(1, total + 1):
            words = (*many, *(("--shard", f"{shard}/{total}") if total > 1 else ()), "--out", out)
            before = {file: file.stat().st_mtime_ns for file in chunks(out / "run.zarr" / "bits")}
            assert nursery.run(*words) == 0
            asked += [file for file, at in before.items() if file.stat().st_mtime_ns != at]
        assert len(asked) <= 1  # the chunk that it was killed at, at most
        assert files(out) == files(tmp_path / "whole")
    tried(f"3 times SIGKILL to one of two shards; the other went on to {moments} of 2,048 seeds")
