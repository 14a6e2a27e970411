"""What may befall a run, tried out: every drill says what it tried, and ends with the results of a quiet run."""

import collections
import contextlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import xarray as xr

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


def files(out: Path) -> dict[str, object]:
    """Name -> content of every file of a store, but for the times in the origins."""
    store = out / "run.zarr"
    found: dict[str, object] = {
        file.relative_to(store).as_posix(): file.read_bytes() for file in store.rglob("*") if file.is_file()
    }
    root = json.loads(found["zarr.json"])
    del root["attributes"]["origins"]
    return found | {"zarr.json": root}


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


SWEEP = {"size": [3, 1], "scale": [1.0, 2.5]}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Folders of finished runs, by the test that made them."""
    return tmp_path_factory.mktemp("finished")


@pytest.fixture
def held(toy, tmp_path, finished):
    """The folder of a finished sweep, its data set and its files."""
    if not (finished / "held").exists():
        subsim.simulate(toy, sweep=SWEEP, out=finished / "held")
    out = tmp_path / "held"
    shutil.copytree(finished / "held", out)
    return out, subsim.load_results(out), files(out)


def damages(file: Path, draw: random.Random):
    """What can become of a file: a bit flipped in each of three places, cut in two, emptied, gone."""
    content = file.read_bytes()
    for _ in range(3):
        flipped = bytearray(content)
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        yield "flipped", bytes(flipped)
    yield "cut", content[: len(content) // 2]
    yield "emptied", b""
    yield "gone", None


def damage(file: Path, content: bytes | None) -> None:
    file.unlink() if content is None else file.write_bytes(content)


def named(file: str, variables) -> str:
    """The words by which a damaged file is named: a chunk with its seeds, or a file of the metadata and labels."""
    folder, _, name = file.rpartition("/")
    if folder in variables and name.startswith("c."):
        first = 4 * int(name.split(".")[1])
        return f"{file} (seeds {first} to {min(first + 3, 9)})"
    return file


@pytest.mark.slow
def test_no_damage_goes_unnoticed_on_reading(held, tried):
    """Every file of a store in turn: it is named, with its seeds, or nothing that is read has changed."""
    out, results, _ = held
    store = out / "run.zarr"
    draw, outcomes = random.Random(0), collections.Counter()
    for file in sorted(path for path in store.rglob("*") if path.is_file()):
        name, original = file.relative_to(store).as_posix(), file.read_bytes()
        for kind, content in damages(file, draw):
            damage(file, content)
            complaint = reading(out, results)
            outcomes[kind, "named" if complaint else "without effect"] += 1
            words = named(name, results.data_vars)
            assert words in complaint or (kind == "flipped" and not complaint), (name, complaint)
            file.write_bytes(original)
    assert reading(out, results) == ""
    tried(f"{outcomes.total()} damages: {dict(outcomes)}")
    assert outcomes["flipped", "without effect"] < outcomes["flipped", "named"] / 5


def reading(out: Path, results: xr.Dataset) -> str:
    """What is complained of on reading; where nothing is, these are the results, whatever the root notes of them."""
    try:
        held = subsim.load_results(out)
        xr.testing.assert_identical(held.drop_attrs(deep=False), results.drop_attrs(deep=False))
    except UserError as error:
        return str(error)
    return ""


LOST = {"all/c.1.0.0.0": 4, "bits/c.0.1.0": 4, "first/c.2.1.0": 2, "status/c.1.0": 4, "made_by/c.0.0": 4}
"""Chunks of a store that are damaged, each with the number of its seeds."""


@pytest.mark.parametrize("file", LOST)
@pytest.mark.parametrize("kind", ["flipped", "gone"])
def test_a_damaged_chunk_is_refused_and_repaired_on_request(held, toy, file, kind):
    out, results, original = held
    path = out / "run.zarr" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 64
    damage(path, bytes(content) if kind == "flipped" else None)
    before, progress = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}, []

    def simulate(**options):
        return subsim.simulate(toy, sweep=SWEEP, out=out, progress=lambda done, _: progress.append(done), **options)

    with pytest.raises(UserError, match=rf"is damaged in {re.escape(named(file, results.data_vars))}.*--repair"):
        simulate()
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert not progress
    xr.testing.assert_equal(simulate(repair=True), results)
    assert progress[0] == 20 - LOST[file]  # nothing else was computed again
    xr.testing.assert_equal(subsim.load_results(out), results)
    assert files(out) == original


def test_damage_in_many_places_is_repaired_at_once(held, toy):
    out, results, original = held
    store = out / "run.zarr"
    for file in (store / "first").glob("c.*"):
        file.unlink()
    for file in ("status/c.2.1", "all/c.0.0.0.0", "made_by/c.1.1"):
        (store / file).write_bytes(b"x")
    with pytest.raises(UserError, match=r"is damaged in .*first.* and \d+ more files"):
        subsim.load_results(out)
    xr.testing.assert_equal(subsim.simulate(toy, sweep=SWEEP, out=out, repair=True), results)
    assert files(out) == original


@pytest.mark.parametrize(
    "file",
    ["place/c.0", "scale/c.0", "status/zarr.json", "all/zarr.json", "place/zarr.json", "seed/zarr.json", "seed/c.0"],
)
@pytest.mark.parametrize("kind", ["flipped", "gone"])
def test_damaged_metadata_are_named_and_refused(held, toy, file, kind):
    """A run does not guess them. A copy of the file brings everything back."""
    out, results, original = held
    path = out / "run.zarr" / file
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 64
    damage(path, bytes(flipped) if kind == "flipped" else None)
    words = rf"not a complete subsim store: its {file}( \(or the copy .*\))?, which says .* bring it back from a copy"
    for repair in (False, True):
        with pytest.raises(UserError, match=words):
            subsim.simulate(toy, sweep=SWEEP, out=out, repair=repair)
    with pytest.raises(UserError, match=words):
        subsim.load_results(out)
    path.write_bytes(content)
    xr.testing.assert_equal(subsim.simulate(toy, sweep=SWEEP, out=out), results)
    assert files(out) == original


def test_a_lost_root_is_refused(held, toy):
    out, _, _ = held
    root = out / "run.zarr" / "zarr.json"
    content = root.read_text()
    for text in ("{}", "", content.replace('"status"', '"statuc"'), content.replace("consolidated", "consolidatet")):
        root.write_text(text)
        for repair in (False, True):
            with pytest.raises(UserError, match=r"its zarr\.json, which says what it holds, is missing, damaged or"):
                subsim.simulate(toy, sweep=SWEEP, out=out, repair=repair)
        with pytest.raises(UserError, match="bring it back from a copy"):
            subsim.load_results(out)


def test_a_damaged_copy_of_the_metadata_is_refused(held):
    """Anyone reads an array by it: other numbers would come of another shape, or of what an empty place holds."""
    out, _, _ = held
    root = out / "run.zarr" / "zarr.json"
    content = root.read_text()
    copy = content.index("consolidated_metadata")
    for old, new in (
        ("    10,", "    18,"),
        ('"NaN"', "1.0"),
        ('"float32"', '"float64"'),
        ("all numbers", "any numbers"),
    ):
        at = content.index(old, copy)
        root.write_text(content[:at] + new + content[at + len(old) :])
        with pytest.raises(UserError, match=r"its (all/zarr\.json \(or the copy of it in )?zarr\.json\)?, which says"):
            subsim.load_results(out)


def test_a_repair_that_is_cut_short_is_repeated(held, toy, monkeypatch):
    """Stopped before any of the files of a damaged chunk is removed, in turn: the chunk stays damaged."""
    out, results, original = held
    unlink, room = Path.unlink, 0

    def stop(path, missing_ok=False):
        nonlocal room
        if room == 0:
            raise KeyboardInterrupt
        room -= 1
        unlink(path, missing_ok)

    for file, stopped_after in itertools.product(("all/c.1.0.0.0", "status/c.1.0"), range(4)):
        (out / "run.zarr" / file).write_bytes(b"x")
        room = stopped_after
        monkeypatch.setattr(Path, "unlink", stop)
        with pytest.raises(KeyboardInterrupt):
            subsim.simulate(toy, sweep=SWEEP, out=out, repair=True)
        monkeypatch.undo()
        with contextlib.suppress(UserError):
            assert subsim.load_results(out).seed.values.tolist() == [0, 1, 2, 3, 8, 9]
        subsim.simulate(toy, sweep=SWEEP, out=out, repair=True)
        assert files(out) == original
        xr.testing.assert_equal(subsim.load_results(out), results)


def test_a_disk_that_is_full_at_any_write(toy, tmp_path, disk, tried):
    """The sentence, what is finished, and going on, whichever file of a run is the one that no longer fits."""
    whole = subsim.simulate(toy, out=tmp_path / "whole")
    wanted, writes = files(tmp_path / "whole"), len(disk.files)
    rooms = range(0, writes, 3)
    for room in rooms:
        out = tmp_path / str(room)
        disk.full_after(room)
        with pytest.raises(UserError, match=r"out: cannot write to .*\(No space left on device\)"):
            subsim.simulate(toy, out=out)
        assert not list(out.glob("*.draft"))
        # The first and the last file of a chunk is its status.
        done = sum(file.startswith("status/c.") for file in (disk.files[-room:] if room else [])) // 2
        if done:
            xr.testing.assert_equal(subsim.load_results(out), whole.isel(seed=slice(4 * done)))
        else:
            with pytest.raises(UserError, match="holds no"):
                subsim.load_results(out)
        disk.full_after(10**6)
        xr.testing.assert_equal(subsim.simulate(toy, out=out), whole)
        assert files(out) == wanted
    tried(f"{len(rooms)} of the {writes} writes of a run refused by a full disk")


def test_a_file_system_that_is_full(toy, tmp_path, tried):
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        with pytest.raises(UserError, match=r"No space left on device\); finished seeds are kept"):
            subsim.simulate(toy, seeds=200, out=place / "r")
        kept = subsim.load_results(place / "r").sizes["seed"]
        assert 0 < kept < 200
        subprocess.run(["mount", "-o", "remount,size=10m", str(place)], check=True)
        xr.testing.assert_equal(subsim.simulate(toy, seeds=200, out=place / "r"), subsim.simulate(toy, seeds=200))
        tried(f"a file system of 512 KiB was full after {kept} of 200 seeds")
    finally:
        subprocess.run(["umount", str(place)], check=True)
