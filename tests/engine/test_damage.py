"""What may befall the files of a store: damage is named and can be repaired, and a full disk loses nothing."""

import collections
import contextlib
import itertools
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import xarray as xr
from conftest import files

import subsim
from subsim import UserError

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
    """What is complained of on reading; where nothing is, these are the results."""
    try:
        xr.testing.assert_identical(subsim.load_results(out), results)
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
    for text in (
        "{}",
        "",
        content.replace('"root_seed": 0', '"root_seed": 1'),
        content.replace('"chunk": 4', '"chunk": 5'),
        content.replace('"status"', '"statuc"'),
        content.replace("consolidated", "consolidatet"),
    ):
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
