"""Find damage in a store: chunks carry checksums, and the root keeps the hashes of all metadata and of itself."""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import zarr

from subsim.engine.digests import digest
from subsim.options import require

# The status of a seed. Zarr reads 0 where nothing was written: a seed is missing until its status is written.
MISSING, FINISHED, DIVERGED = 0, 1, 2
SEAL = "sha256"  # the root's attribute with the hash of every array's metadata, and that of the other attributes
CHUNK_KEYS = {"name": "default", "separator": "."}
ROOT = "zarr.json"
COPY = "copy of all metadata in zarr.json"
NOTES = ("origins", "programs")  # the root's attributes that record what made the seeds, by their keys
_TOGETHER = 64  # chunks read in one piece; only where that fails is each read alone


class Damage(NamedTuple):
    """A damaged chunk: its array, its index, and the seeds in it."""

    array: str
    chunk: tuple[int, ...]
    seeds: range

    def __str__(self) -> str:
        return f"{self.array}/c.{'.'.join(map(str, self.chunk))} (seeds {self.seeds[0]} to {self.seeds[-1]})"


def root(store: Path, mode: Literal["r", "r+"] = "r") -> Any:
    """Open the group of a store by its own metadata, not by the consolidated copy."""
    return zarr.open_group(store, mode=mode, zarr_format=3, use_consolidated=False)


def of_seeds(group: Any) -> dict[str, Any]:
    """Return name -> array, for the arrays with a seed dimension."""
    return {name: array for name, array in group.arrays() if _grows(array)}


def require_whole(store: Path, damaged: Sequence[Damage]) -> None:
    """Raise `UserError` where something is `damaged`."""
    named = ", ".join(map(str, damaged[:5])) + (f" and {len(damaged) - 5} more files" if len(damaged) > 5 else "")
    require(
        not damaged,
        f"{store} is damaged in {named}; repeat the command that made it with --repair (in Python: repair=True), which "
        "computes these seeds again.",
    )


def seal(group: Any) -> None:
    """Record in the root the hash of every array's metadata, and of the root's own attributes."""
    _put(group, dict(group.attrs), {name: _hash(array) for name, array in sorted(group.arrays())})


def write_note(store: Path, kind: str, key: str, note: Mapping[str, Any]) -> None:
    """Write a note into the root in one atomic step. No other process may write notes at the same time."""
    group = zarr.open_group(store, mode="r+", zarr_format=3, use_consolidated=True)
    attributes: dict[str, Any] = dict(group.attrs)
    hashes = {name: value for name, value in attributes[SEAL].items() if name != ROOT}
    _put(group, attributes | {kind: attributes[kind] | {key: dict(note)}}, hashes)


def _put(group: Any, attributes: Mapping[str, Any], hashes: Mapping[str, str]) -> None:
    plain = json.loads(json.dumps({name: value for name, value in attributes.items() if name != SEAL}))
    group.attrs.put(plain | {SEAL: {**hashes, ROOT: digest([plain, hashes])}})


def _hash(array: Any) -> str:
    """Return the hash of an array's metadata, without the number of seeds."""
    meta = array.metadata
    shape = array.shape[1:] if _grows(array) else array.shape
    fixed = [meta.dimension_names, shape, array.chunks, str(array.dtype), str(array.fill_value), dict(array.attrs)]
    return digest([*fixed, meta.chunk_key_encoding.separator])


def _grows(array: Any) -> bool:
    return (array.metadata.dimension_names or ())[:1] == ("seed",)


def damages(store: Path) -> list[Damage]:
    """Return the damaged chunks of a store; raises `UserError` where its metadata or labels are damaged.

    Every chunk of a finished seed must exist, and every chunk that exists must be readable.
    """
    seeds = length_in_copy(store)
    arrays = _whole_arrays(store, seeds)
    grow = {name: array for name, array in arrays.items() if _grows(array) and name not in ("seed", "status")}
    return list(_damaged_chunks(store, arrays["status"], grow, seeds))


def _whole_arrays(store: Path, seeds: int) -> dict[str, Any]:
    """Open all arrays of a store with `seeds` seeds; raises `UserError` where metadata or labels are damaged."""

    def whole(holds: object, file: str) -> None:
        require(
            holds,
            f"{store} is not a complete subsim store: its {file}, which says what it holds, is missing, damaged or "
            "another program's; bring it back from a copy, or remove the folder or choose another.",
        )

    hashes, labels = _promised(store)
    whole(hashes, ROOT)
    whole(seeds, COPY)
    arrays = {name: _array(store, name) for name in hashes}
    for name, array in arrays.items():
        fits = array is not None and _hash(array) == hashes[name] and (not _grows(array) or array.shape[0] >= seeds)
        whole(fits, f"{name}/{ROOT}")
    for name in labels:
        values = _values(arrays[name])
        whole(values is not None and digest(values.tolist()) == digest(labels[name]), f"{name}/c.0")
    whole(np.array_equal(_values(arrays["seed"], slice(seeds)), np.arange(seeds)), "seed/c.0")
    return arrays


def _promised(store: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Return what the root promises: the hash of every array's metadata, and the labels; empty where it is damaged."""
    try:
        attributes: dict[str, Any] = dict(root(store).attrs)
        hashes = attributes.pop(SEAL)
        if hashes.pop(ROOT) == digest([attributes, hashes]):
            return hashes, attributes["labels"]
    except Exception:  # the root cannot be read
        pass
    return {}, {}


def _array(store: Path, name: str) -> Any:
    """Open an array by its own metadata; None where they cannot be read."""
    try:
        array = zarr.open_array(store, path=name, mode="r", zarr_format=3)
        return array if _hash(array) else None
    except Exception:
        return None


def length_in_copy(store: Path) -> int:
    """Return the number of seeds by the root's copy of all metadata; 0 where the copy is damaged."""
    try:
        group = zarr.open_group(store, mode="r", zarr_format=3, use_consolidated=True)
        hashes: Any = group.attrs[SEAL]
        arrays: Any = {name: group[name] for name in hashes if name != ROOT}
        lengths = {array.shape[0] for array in arrays.values() if _grows(array)}
        same = all(_hash(array) == hashes[name] for name, array in arrays.items())
        return lengths.pop() if same and len(lengths) == 1 else 0
    except Exception:
        return 0


def _damaged_chunks(store: Path, status: Any, arrays: dict[str, Any], seeds: int) -> Iterator[Damage]:
    chunk, all_states = status.chunks[0], _values(status, slice(seeds))
    whole = False
    for index in itertools.product(*map(range, status.shape[1:])):
        for start in range(0, seeds, chunk):
            if start % (_TOGETHER * chunk) == 0:
                slab = (slice(start, start + _TOGETHER * chunk), *index)
                whole = all(_values(array, slab) is not None for array in arrays.values())
            here, number = range(start, min(start + chunk, seeds)), (start // chunk, *index)
            region = (slice(here.start, here.stop), *index)
            states = _values(status, region) if all_states is None else all_states[region]
            chunks = {name: (*number, *(0,) * (array.ndim - status.ndim)) for name, array in arrays.items()}
            there = {name for name, inner in chunks.items() if _file(store, name, inner).is_file()}
            # A chunk's status is written before its other arrays, with all seeds missing.
            if states is None or (there and not states.any() and not _file(store, "status", number).is_file()):
                yield Damage("status", number, here)
            elif states.any():
                for name, inner in chunks.items():
                    if name not in there or not (whole or _values(arrays[name], region) is not None):
                        yield Damage(name, inner, here)


def _file(store: Path, name: str, chunk: tuple[int, ...]) -> Path:
    return store / name / f"c.{'.'.join(map(str, chunk))}"


def _values(array: Any, region: Any = ...) -> Any:
    """Return the values of `array` in `region`; None where a chunk cannot be decoded."""
    try:
        return array[region]
    except Exception:  # the errors of the disk, and whatever a codec raises on bytes that it did not write
        return None


def discard(store: Path, damaged: Iterable[Damage]) -> None:
    """Make the seeds of damaged chunks missing, and remove their files. If stopped halfway, the chunks stay damaged."""
    # The status goes first: without it, nothing else of the chunk counts.
    arrays = of_seeds(root(store))
    names, dims = ["status", *sorted(arrays.keys() - {"status", "seed"})], arrays["status"].ndim
    for suffix in dict.fromkeys(".".join(map(str, damage.chunk[:dims])) for damage in damaged):
        for name in names:
            for file in (store / name / f"c.{suffix}", *(store / name).glob(f"c.{suffix}.*")):
                file.unlink(missing_ok=True)
