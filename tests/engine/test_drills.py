"""What may befall a run, tried out: every drill says what it tried, and ends with the results of a quiet run."""

import collections
import contextlib
import itertools
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

import subsim
from subsim import UserError

STUDY = """
'''Sums noise for a few milliseconds a chunk.'''
import jax
import subsim

def run(key, hyper):
    noise = jax.random.normal(key, (1000, 3))
    return {"total": noise.sum(), "each": noise.sum(0), "bits": jax.random.bits(key)}

study = subsim.Study(name="noise", title=__doc__, make_run=lambda config, data: run, seeds=256, chunk=4, lanes=4,
                     coords={"place": ["a", "b", "c"]},
                     variables={"total": subsim.Variable("sum"), "each": subsim.Variable("sums", ("place",)),
                                "bits": subsim.Variable("what the key is")})
"""
CHUNKS = 64
# A chunk that is given is not tuned, so that two runs round alike.
RUN = ("run", "./noise.py", "--chunk", "4")


class Nursery:
    """Runs commands in forks of a warm process; see nursery.py."""

    def __init__(self):
        words = [sys.executable, str(Path(__file__).with_name("nursery.py"))]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def start(self, *words: object) -> int:
        """The process id of the command."""
        self.process.stdin.write(json.dumps([str(word) for word in words]) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def wait(self) -> int:
        """The exit status of the command started last."""
        return int(self.process.stdout.readline())

    def run(self, *words: object) -> int:
        self.start(*words)
        return self.wait()


@pytest.fixture
def nursery(tmp_path):
    (tmp_path / "noise.py").write_text(STUDY)
    nursery = Nursery()
    with nursery.process:
        yield nursery
        os.killpg(nursery.process.pid, signal.SIGKILL)  # and a command that a failed test has left


def files(out: Path) -> dict[str, bytes]:
    """Name -> bytes of every file of a store, but for the one that says when it was made."""
    store = out / "run.zarr"
    found = (file for file in store.rglob("*") if file.is_file() and file != store / ".zattrs")
    return {file.relative_to(store).as_posix(): file.read_bytes() for file in found}


def begun(out: Path) -> int:
    """Chunks with a status: those that are finished, and the one at work."""
    return sum(file.name.isdecimal() for file in (out / "run.zarr" / "status").glob("*"))


def ended(child: int) -> bool:
    """Whether a command of the nursery has ended."""
    return not os.path.exists(f"/proc/{child}")


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.0005)


@pytest.mark.slow
def test_killed_at_random_moments(nursery, tmp_path, tried):
    """SIGKILL, fifty times and more: what is on disk is right at every moment, and in the end bit for bit the same."""
    quiet, out = tmp_path / "quiet", tmp_path / "killed"
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
            time.sleep(draw.uniform(0, writing / 4))
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
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
    assert moments["while it wrote a chunk"] >= 10


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_by_a_signal(nursery, tmp_path, number, status, tried):
    """Every chunk that was begun is finished, and the message says how to go on."""
    for _ in range(4):
        before = begun(tmp_path / "r")
        child = nursery.start(*RUN, "--seeds", 4000, "--out", "r")
        wait_for(lambda before=before: begun(tmp_path / "r") > before)
        time.sleep(random.random() / 10)
        os.kill(child, number)
        assert nursery.wait() == status
        complaint = (tmp_path / "log").read_text()
        assert "Repeat the command to go on." in " ".join(complaint.split())
        assert "Traceback" not in complaint
        assert not list((tmp_path / "r").rglob("*.partial"))
        assert subsim.load_results("r").sizes["seed"] == 4 * begun(tmp_path / "r")
    tried(f"4 times {number.name}: {begun(tmp_path / 'r')} of 1000 chunks begun, all of them finished")


def test_a_second_process_is_refused(nursery, tmp_path):
    child = nursery.start(*RUN, "--seeds", 4000, "--out", "r")
    wait_for(lambda: begun(tmp_path / "r") > 0)
    with pytest.raises(UserError, match=f"r is in use by another run .process {child} on .*--out"):
        subsim.simulate(subsim.load_study("./noise.py"), out="r")
    at_work = begun(tmp_path / "r")
    wait_for(lambda: begun(tmp_path / "r") > at_work)  # it was not disturbed
    os.kill(child, signal.SIGKILL)
    nursery.wait()
    progress = []
    study = subsim.load_study("./noise.py")
    subsim.simulate(study, seeds=4, out="r", progress=lambda done, asked: progress.append(done))
    assert progress == [4]  # it left no lock


SWEEP = {"size": [3, 1], "scale": [1.0, 2.5]}


@pytest.fixture
def held(toy, tmp_path):
    """The folder of a finished sweep, its data set and its files."""
    out = tmp_path / "held"
    results = subsim.simulate(toy, sweep=SWEEP, out=out)
    return out, results, files(out)


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


def test_no_damage_goes_unnoticed_on_reading(held, tried):
    """Every file of a store in turn: it is named, with its seeds, or nothing that is read has changed."""
    out, results, _ = held
    draw, outcomes = random.Random(0), collections.Counter()
    for file in sorted(path for path in (out / "run.zarr").rglob("*") if path.is_file()):
        name, original = file.relative_to(out / "run.zarr").as_posix(), file.read_bytes()
        words = name
        if file.parent.name in results.data_vars and not file.name.startswith(".z"):
            first = 4 * int(file.name.split(".")[0])
            words = f"{name} (seeds {first} to {min(first + 3, 9)})"
        for kind, content in damages(file, draw):
            damage(file, content)
            complaint = reading(out, results)
            outcomes[kind, "named" if complaint else "without effect"] += 1
            assert words in complaint or (kind == "flipped" and not complaint)
            file.write_bytes(original)
    assert reading(out, results) == ""
    tried(f"{outcomes.total()} damages: {dict(outcomes)}")
    assert outcomes["flipped", "without effect"] < outcomes["flipped", "named"] / 10


def reading(out: Path, results: xr.Dataset) -> str:
    """What is complained of on reading; where nothing is, these are the results."""
    try:
        xr.testing.assert_identical(subsim.load_results(out), results)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "file",
    [
        "all/1.0.0.0", "bits/0.1.0", "first/2.1.0", "status/1.0",
        "place/0", "scale/0", ".zgroup", "status/.zarray", "all/.zarray", "place/.zattrs", "seed/.zarray",
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["flipped", "gone"])
def test_damage_is_refused_and_repaired_on_request(held, toy, file, kind):
    out, results, original = held
    content = bytearray(original[file])
    content[len(content) // 2] ^= 64
    damage(out / "run.zarr" / file, bytes(content) if kind == "flipped" else None)
    before = files(out)
    with pytest.raises(UserError, match=rf"damaged in {file}.*--repair"):
        subsim.simulate(toy, sweep=SWEEP, out=out)
    assert files(out) == before
    progress = []
    repaired = subsim.simulate(
        toy, sweep=SWEEP, out=out, repair=True, progress=lambda done, asked: progress.append(done)
    )
    xr.testing.assert_identical(repaired, results)
    xr.testing.assert_identical(subsim.load_results(out), results)
    assert files(out) == original
    lost = {"all/1.0.0.0": 4, "bits/0.1.0": 4, "first/2.1.0": 2, "status/1.0": 4}
    assert progress[0] == 20 - lost.get(file, 0)  # nothing else was computed again


def test_a_lost_root_is_refused_and_a_lost_count_of_seeds_made_again(held, toy):
    out, results, original = held
    (out / "run.zarr" / "seed" / "0").write_bytes(b"x")
    xr.testing.assert_identical(subsim.simulate(toy, sweep=SWEEP, out=out), results)
    assert files(out) == original
    (out / "run.zarr" / ".zattrs").write_text("{}")
    for repair in (False, True):
        with pytest.raises(UserError, match=r"its \.zattrs, which says what it holds, is missing, damaged or"):
            subsim.simulate(toy, sweep=SWEEP, out=out, repair=repair)


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

    for file, stopped_after in itertools.product(("all/1.0.0.0", "status/1.0"), range(4)):
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
        xr.testing.assert_identical(subsim.load_results(out), results)


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
        done = sum(file.endswith(("status/0", "status/1", "status/2")) for file in disk.files[-room:] if room) // 2
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
