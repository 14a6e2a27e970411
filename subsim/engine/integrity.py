"""Whether the files of a store are whole: chunks tell by their checksum, all others by a hash in the root."""

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numcodecs
import numpy as np
import zarr

from subsim.engine import provenance
from subsim.options import require

# What the status of a seed says. Zarr's unwritten value is 0: a seed is missing until its chunk's status is written.
MISSING, FINISHED, DIVERGED = 0, 1, 2
# Zstandard's own checksum of the content lies at the end of each chunk's file: the atomic write of a chunk writes it
# too, and any zarr reader checks it. (The CRC32C of numcodecs would do the same, but needs one more package and does
# not compress: the status of a thousand seeds is some twenty bytes.) The lowest level is the fastest; the numbers of
# networks hardly compress at any.
CODEC = numcodecs.Zstd(level=1, checksum=True)
SEAL = "sha256"  # the root's attribute that holds the hash of every file of metadata, its own other attributes included
ROOT = ".zattrs"


class Damage(NamedTuple):
    """A file of the store that is cut, altered or gone: its name, the seeds in it, and its chunk's place along `seed`
    and the axes whose values have programs of their own. Metadata and coordinates have neither."""

    file: str
    seeds: range | None = None
    chunk: tuple[int, ...] | None = None

    def __str__(self) -> str:
        return self.file if self.seeds is None else f"{self.file} (seeds {self.seeds[0]} to {self.seeds[-1]})"


def require_whole(store: Path, damaged: Sequence[Damage], repair: bool = False) -> None:
    """Raise `UserError` where files are `damaged`, unless `repair` is asked for and can be done."""
    require(
        ROOT not in (damage.file for damage in damaged),
        f"{store} is not a complete subsim store: its {ROOT}, which says what it holds, is missing, damaged or another "
        "program's; bring it back from a copy, or remove the folder or choose another.",
    )
    named = ", ".join(map(str, damaged[:5])) + (f" and {len(damaged) - 5} more files" if len(damaged) > 5 else "")
    require(
        repair or not damaged,
        f"{store} is damaged in {named}; repeat the command that made it with --repair (in Python: repair=True), which "
        "mends the files and computes lost seeds again.",
    )


def seal(store: Path, **changes: Any) -> None:
    """Change attributes of the root, and record there the hash of every file of metadata."""
    root = attributes(store) | changes | {SEAL: _hashes(store)}
    root[SEAL] |= {ROOT: provenance.digest(root)}
    zarr.open_group(store, mode="r+", zarr_format=2).attrs.put(root)


def attributes(store: Path) -> dict[str, Any]:
    """The attributes of the root."""
    return json.loads((store / ROOT).read_bytes())


def damaged_metadata(store: Path) -> list[Damage]:
    """The damaged files among those that describe the store and its arrays."""
    try:
        root = attributes(store)
        own = root[SEAL].pop(ROOT)
        if own == provenance.digest(root):
            found = _hashes(store)
            return [Damage(file) for file, recorded in root[SEAL].items() if found.get(file) != recorded]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass
    return [Damage(ROOT)]


def _hashes(store: Path) -> dict[str, str]:
    """File -> hash of the JSON in it, of all metadata but the root's attributes. The length of an array is left out: it
    grows with the seeds."""
    hashes = {}
    for path in (store / ".zgroup", *store.glob("*/.z*")):
        try:
            content = json.loads(path.read_bytes())
            if path.name == ".zarray":
                content["shape"] = content["shape"][1:]
            hashes[path.relative_to(store).as_posix()] = provenance.digest(content)
        except (OSError, ValueError, LookupError, TypeError):
            pass  # a file without a hash is damaged
    return hashes


def damaged_chunks(store: Path) -> list[Damage]:
    """The damaged files among the coordinates and the chunks; the metadata must be whole already.

    A chunk of seeds is begun when any file of it exists; then its status must, and, where that has a seed that is not
    missing, so must all its data.
    """
    arrays, coordinates = _arrays(store)
    found = [
        Damage(_file(name, place))
        for name, array in coordinates.items()
        for place in _grid(array)
        if not _content(store, name, place, array)
    ]
    status = arrays.pop("status")
    depth = len(status["shape"])
    begun = {place[:depth] for name in ("status", *arrays) for place in _written(store / name)}
    for place in sorted(begun):
        first = place[0] * status["chunks"][0]
        seeds = range(first, min(first + status["chunks"][0], status["shape"][0]))
        states = _content(store, "status", place, status)
        needed = states is not None and any(state != MISSING for state in states)
        if not states:
            found.append(Damage(_file("status", place), seeds, place))
        for name, array in arrays.items():
            for inner in _grid(array, depth):
                content = _content(store, name, place + inner, array)
                # A run that was stopped before this file's turn left none, and no seed that needs it.
                if not content and (needed or content is not None):
                    found.append(Damage(_file(name, place + inner), seeds, place))
    return found


def discard(store: Path, places: Iterable[tuple[int, ...]]) -> None:
    """Make the chunks at `places` as if they had never begun; a stop in between leaves them damaged."""
    arrays, _ = _arrays(store)
    for place in places:
        for name, array in sorted(arrays.items(), key=lambda item: item[0] != "status"):
            # The status goes first: without it, what is left of the chunk counts as damage.
            for inner in _grid(array, len(place)):
                (store / _file(name, place + inner)).unlink(missing_ok=True)


def _arrays(store: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Name -> description (.zarray) of the arrays that runs fill chunk by chunk, and of the coordinates."""
    kinds: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for path in sorted(store.glob("*/.zarray")):
        dims = json.loads(path.with_name(".zattrs").read_bytes())["_ARRAY_DIMENSIONS"]
        coordinate = dims == [path.parent.name]
        kinds[coordinate][path.parent.name] = json.loads(path.read_bytes())
    return kinds


def _grid(array: dict[str, Any], depth: int = 0) -> Iterator[tuple[int, ...]]:
    """The places of an array's chunks, along its dimensions from number `depth` on."""
    counts = (math.ceil(size / chunk) for size, chunk in zip(array["shape"], array["chunks"], strict=True))
    return itertools.product(*map(range, itertools.islice(counts, depth, None)))


def _file(name: str, place: tuple[int, ...]) -> str:
    return f"{name}/{'.'.join(map(str, place))}"


def _written(folder: Path) -> Iterator[tuple[int, ...]]:
    """The places of the chunks that have a file in an array's folder."""
    for file in folder.iterdir():
        words = file.name.split(".")
        if all(word.isdecimal() for word in words):
            yield tuple(map(int, words))


def _content(store: Path, name: str, place: tuple[int, ...], array: dict[str, Any]) -> bytes | None:
    """The bytes of a chunk; no bytes where its file is damaged, None where there is none."""
    try:
        content = bytes(CODEC.decode((store / _file(name, place)).read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError, ValueError, MemoryError):  # the disk's own error, and those of the codec
        return b""
    size = math.prod(array["chunks"]) * np.dtype(array["dtype"]).itemsize
    return content if array["filters"] or len(content) == size else b""
