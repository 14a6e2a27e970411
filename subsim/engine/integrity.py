"""Whether a store is whole: chunks tell by a checksum, metadata by a hash that the root keeps, notes by their own."""

import contextlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import zarr

from subsim.engine.digests import digest
from subsim.options import require

# What the status of a seed says. Zarr's unwritten value is 0: a seed is missing until its status is written.
MISSING, FINISHED, DIVERGED = 0, 1, 2
SEAL = "sha256"  # the root's attribute that has the hash of every array's metadata, and of the other attributes
CHUNK_KEYS = {"name": "default", "separator": "."}
ROOT = "zarr.json"
COPY = "the copy of all metadata in zarr.json"
NOTES = ("origins", "programs")  # groups of groups whose attributes say what made the seeds
LAYERS = ("metadata", "chunks", "notes")  # each is seen to be damaged only where those before it are whole
_TOGETHER = 64  # chunks read in one piece; only where that fails is each read alone


class Damage(NamedTuple):
    """What is damaged: the metadata or labels of an array, or a note; or a chunk of an array, its index, and the seeds
    in it."""

    array: str
    chunk: tuple[int, ...] | None = None
    seeds: range | None = None

    def __str__(self) -> str:
        if self.seeds is None or self.chunk is None:
            return self.array
        return f"{self.array}/c.{'.'.join(map(str, self.chunk))} (seeds {self.seeds[0]} to {self.seeds[-1]})"


def root(store: Path, mode: Literal["r", "r+"] = "r") -> Any:
    """Open the group of a store as it is, whatever its consolidated metadata say."""
    return zarr.open_group(store, mode=mode, zarr_format=3, use_consolidated=False)


def of_seeds(group: Any) -> dict[str, Any]:
    """Return name -> array of those arrays that grow with the seeds."""
    return {name: array for name, array in group.arrays() if _grows(array)}


def require_whole(store: Path, damaged: Sequence[Damage], repair: bool = False) -> None:
    """Raise `UserError` where something is `damaged`, unless `repair` is asked for and can be done."""
    require(
        ROOT not in (damage.array for damage in damaged),
        f"{store} is not a complete subsim store: its {ROOT}, which says what it holds, is missing, damaged or another "
        "program's; bring it back from a copy, or remove the folder or choose another.",
    )
    named = ", ".join(map(str, damaged[:5])) + (f" and {len(damaged) - 5} more files" if len(damaged) > 5 else "")
    require(
        repair or not damaged,
        f"{store} is damaged in {named}; repeat the command that made it with --repair (in Python: repair=True), which "
        "mends the files and computes lost seeds again.",
    )


def seal(group: Any) -> None:
    """Record in the root the hash of every array's metadata, and of the root's own attributes."""
    attributes = {name: value for name, value in group.attrs.items() if name != SEAL}
    hashes = {name: _hash(array) for name, array in sorted(group.arrays())}
    group.attrs.put(attributes | {SEAL: hashes | {ROOT: digest([attributes, hashes])}})


def _hash(array: Any) -> str:
    """The hash of what an array's metadata say; its length is left out where it grows with the seeds."""
    meta = array.metadata
    shape = array.shape[1:] if _grows(array) else array.shape
    fixed = [meta.dimension_names, shape, array.chunks, str(array.dtype), str(array.fill_value), dict(array.attrs)]
    return digest([*fixed, meta.chunk_key_encoding.separator])


def _grows(array: Any) -> bool:
    return (array.metadata.dimension_names or ())[:1] == ("seed",)


def write_note(group: Any, path: str, note: Mapping[str, Any]) -> None:
    """Write `note` as the attributes of a group in `group`, with their own hash: in one piece, as a reader may come."""
    plain = json.loads(json.dumps(note))
    sealed = plain | {SEAL: digest(plain)}
    if path not in group:
        with contextlib.suppress(zarr.errors.ContainsGroupError):  # another shard came first, with the same
            group.create_group(path, attributes=sealed)
            return
    group[path].attrs.put(sealed)


def notes(store: Path, kind: str) -> dict[str, dict[str, Any] | None]:
    """Return the notes of a kind by their keys, sorted; None for one that is not as it was written."""
    found: dict[str, dict[str, Any] | None] = {}
    for file in sorted((store / kind).glob(f"*/{ROOT}")):
        note = _attributes(file, "group")
        found[file.parent.name] = note if note and note.pop(SEAL, "") == digest(note) else None
    return found


def _attributes(file: Path, kind: str) -> dict[str, Any] | None:
    """The attributes in the metadata of a group or an array; None where they are damaged."""
    try:
        metadata = json.loads(file.read_bytes())
        whole = (metadata["zarr_format"], metadata["node_type"]) == (3, kind)
        return dict(metadata["attributes"]) if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def damages(store: Path) -> list[Damage]:
    """Return all that is damaged in a store; what lies below damaged metadata comes to light when they are mended.

    A seed that is not missing must have every chunk of its record and a note of its origin and program, and every
    chunk that is there must be readable.
    """
    try:
        attributes: dict[str, Any] = dict(root(store).attrs)
        hashes = attributes.pop(SEAL)
        if hashes.pop(ROOT) != digest([attributes, hashes]):
            return [Damage(ROOT)]
    except Exception:  # whatever is there, it cannot be read
        return [Damage(ROOT)]
    arrays = {name: _array(store, name) for name in hashes}
    damaged = [name for name, array in arrays.items() if array is None or _hash(array) != hashes[name]]
    whole = {name: array for name, array in arrays.items() if name not in damaged}
    seeds = length_in_copy(store)
    found = [Damage(path) for path in _damaged_notes(store)] + ([] if seeds else [Damage(COPY)])
    seeds = seeds or max((array.shape[0] for array in whole.values() if _grows(array)), default=0)
    damaged += [name for name, array in whole.items() if _grows(array) and array.shape[0] < seeds]
    if damaged:  # what a chunk is, the metadata say
        return found + [Damage(name) for name in damaged]
    grow = {name: array for name, array in whole.items() if _grows(array) and name not in ("status", "seed")}
    labels = attributes["labels"]
    found += [Damage(name) for name in sorted(labels) if not _says(whole[name], labels[name])]
    seed = _values(whole["seed"], slice(seeds))
    found += [Damage("seed")] if seed is None or not np.array_equal(seed, np.arange(seeds)) else []
    found += _damaged_chunks(store, whole["status"], grow, seeds)
    return found or [Damage(path) for path in _lost_notes(store, whole["status"], whole["made_by"], labels, seeds)]


def _says(array: Any, labels: Any) -> bool:
    """Whether the values of an array are those that the root names."""
    values = _values(array)
    return values is not None and digest(values.tolist()) == digest(labels)


def _array(store: Path, name: str) -> Any:
    """An array as its own metadata have it; None where they cannot be read."""
    try:
        array = zarr.open_array(store, path=name, mode="r", zarr_format=3)
        whole = _attributes(store / name / ROOT, "array") is not None and _hash(array)
        return array if whole else None
    except Exception:
        return None


def length_in_copy(store: Path) -> int:
    """Return for how many seeds the arrays have room by the root's copy of their metadata; 0 where it is damaged."""
    try:
        group = zarr.open_group(store, mode="r", zarr_format=3, use_consolidated=True)
        hashes: Any = group.attrs[SEAL]
        arrays: Any = {name: group[name] for name in hashes if name != ROOT}
        lengths = {array.shape[0] for array in arrays.values() if _grows(array)}
        same = all(_hash(array) == hashes[name] for name, array in arrays.items())
        return lengths.pop() if same and len(lengths) == 1 else 0
    except Exception:
        return 0


def _damaged_notes(store: Path) -> Iterator[str]:
    for kind in NOTES:
        found = notes(store, kind)
        yield from [kind] if found and _attributes(store / kind / ROOT, "group") is None else []
        yield from (f"{kind}/{key}" for key, note in found.items() if note is None)


def _lost_notes(store: Path, status: Any, made_by: Any, labels: Mapping[str, Any], seeds: int) -> Iterator[str]:
    """The notes that seeds which are there ask for, and which are not there."""
    origins, programs = (notes(store, kind) for kind in NOTES)
    there, makers = np.asarray(status[:seeds]) != MISSING, np.asarray(made_by[:seeds])
    yield from (f"origins/{maker:08x}" for maker in np.unique(makers[there]) if f"{maker:08x}" not in origins)
    places = {note["place"] for note in programs.values() if note}
    for index in np.argwhere(there.any(axis=0)):
        at = zip(status.metadata.dimension_names[1:], index, strict=True)
        place = ", ".join(f"{dim}={labels[dim][number]}" for dim, number in at)
        if place not in places:
            yield f"programs of {place}" if place else "programs"


def _damaged_chunks(store: Path, status: Any, arrays: dict[str, Any], seeds: int) -> Iterator[Damage]:
    chunk = status.chunks[0]
    for index in itertools.product(*map(range, status.shape[1:])):
        for first in range(0, seeds, _TOGETHER * chunk):
            slab = (slice(first, first + _TOGETHER * chunk), *index)
            whole = all(_values(array, slab) is not None for array in (status, *arrays.values()))
            for start in range(first, min(first + _TOGETHER * chunk, seeds), chunk):
                here = range(start, min(start + chunk, seeds))
                region, number = (slice(here.start, here.stop), *index), (start // chunk, *index)
                if not whole and _values(status, region) is None:
                    yield Damage("status", number, here)
                    continue
                if start == first or not whole:
                    states = np.asarray(status[slab if whole else region])
                chunks = {name: (*number, *(0,) * (array.ndim - status.ndim)) for name, array in arrays.items()}
                there = {name for name, inner in chunks.items() if _file(store, name, inner).is_file()}
                if not (states[start - first : start - first + chunk] if whole else states).any():
                    # A chunk's status is written before its other arrays, with all seeds missing.
                    if there and not _file(store, "status", number).is_file():
                        yield Damage("status", number, here)
                    continue
                for name, inner in chunks.items():
                    if name not in there or not (whole or _values(arrays[name], region) is not None):
                        yield Damage(name, inner, here)


def _file(store: Path, name: str, chunk: tuple[int, ...]) -> Path:
    return store / name / f"c.{'.'.join(map(str, chunk))}"


def _values(array: Any, region: Any = ...) -> Any:
    """The values of `array` in `region`; None where not all chunks that are there can be decoded."""
    try:
        return array[region]
    except Exception:  # the disk's own errors, and all that a codec makes of bytes which are not its own
        return None


def discard(store: Path, damaged: Iterable[Damage]) -> None:
    """Make the seeds of damaged chunks missing, and remove what is left of them; a stop in between leaves damage."""
    # The status goes first: without it, nothing else of the chunk counts.
    arrays = of_seeds(root(store))
    names, dims = ["status", *sorted(arrays.keys() - {"status", "seed"})], arrays["status"].ndim
    chunks = [damage.chunk[:dims] for damage in damaged if damage.chunk is not None]
    for suffix in dict.fromkeys(".".join(map(str, chunk)) for chunk in chunks):
        for name in names:
            for file in (store / name / f"c.{suffix}", *(store / name).glob(f"c.{suffix}.*")):
                file.unlink(missing_ok=True)


def discard_note(store: Path, path: str) -> None:
    """Remove a note that is damaged or lost, or mend the group of all; of an origin, a note stays that it was lost."""
    (store / path / ROOT).unlink(missing_ok=True)
    if path in NOTES:
        zarr.open_group(store, path=path, mode="a", zarr_format=3)
    elif path.startswith("origins/"):
        write_note(root(store, "r+"), path, {"lost": True})
