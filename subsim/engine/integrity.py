"""Find damage in a store: zarr keeps checksums of chunks and all metadata twice, and the root hashes of the rest."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import zarr

from subsim.engine.digests import digest
from subsim.options import require

# The status of a seed. Zarr reads 0 where nothing was written: a seed is missing until its status is written.
MISSING, FINISHED, DIVERGED = 0, 1, 2
CHUNK_KEYS = {"name": "default", "separator": "."}
ROOT = "zarr.json"
SEAL = "sha256"  # the root's attribute with the hash of each of the attributes that subsim wrote
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


def write_note(store: Path, kind: str, key: str, note: Mapping[str, Any]) -> None:
    """Write a note into the root in one atomic step. No other process may write notes at the same time."""
    group = zarr.open_group(store, mode="r+", zarr_format=3, use_consolidated=True)
    attributes: dict[str, Any] = dict(group.attrs)
    notes = attributes[kind] | {key: dict(note)}
    group.attrs.put(attributes | {kind: notes, SEAL: attributes[SEAL] | {kind: digest(notes)}})


def _grows(array: Any) -> bool:
    return (array.metadata.dimension_names or ())[:1] == ("seed",)


def damages(store: Path) -> list[Damage]:
    """Return the damaged chunks of a store; raises `UserError` where its metadata or labels are damaged.

    Every chunk of a finished seed must exist, and every chunk that exists must be readable.
    """
    arrays, seeds = _whole_arrays(store)
    grow = {name: array for name, array in arrays.items() if _grows(array) and name not in ("seed", "status")}
    return list(_damaged_chunks(store, arrays["status"], grow, seeds))


def _whole_arrays(store: Path) -> tuple[dict[str, Any], int]:
    """Open all arrays of a store, and return them with its number of seeds.

    Raises `UserError` where labels or metadata are damaged. The root has all labels, and a copy of all arrays'
    metadata: what is altered in one of them differs from the other.
    """

    def whole(holds: object, file: str) -> None:
        require(
            holds,
            f"{store} is not a complete subsim store: its {file}, which says what it holds, is missing, damaged or "
            "another program's; bring it back from a copy, or remove the folder or choose another.",
        )

    copies: dict[str, Any] = _read(lambda: copied(store)) or {}
    lengths = {copy.shape[0] for copy in copies.values() if _grows(copy)}
    attributes = _read(lambda: dict(root(store).attrs)) or {}
    seal = attributes.get(SEAL) or {}
    whole("labels" in seal and all(digest(attributes.get(name)) == value for name, value in seal.items()), ROOT)
    labels: Any = attributes["labels"]
    named = {name for name, copy in copies.items() if not _grows(copy)} <= labels.keys()
    whole(len(lengths) == 1 and named and {"seed", "status", "made_by"} <= copies.keys(), ROOT)
    (seeds,) = lengths
    arrays = {name: _read(functools.partial(_array, store, name)) for name in copies}
    for name, array in arrays.items():
        same = array is not None and _metadata(array) == _metadata(copies[name])
        whole(same and (not _grows(array) or array.shape[0] >= seeds), f"{name}/{ROOT} (or the copy of it in {ROOT})")
        values = None if _grows(array) else _values(array)
        whole(_grows(array) or (values is not None and digest(values.tolist()) == digest(labels[name])), f"{name}/c.0")
    whole(np.array_equal(_values(arrays["seed"], slice(seeds)), np.arange(seeds)), "seed/c.0")
    return arrays, seeds


def copied(store: Path) -> dict[str, Any]:
    """Return the arrays of a store as the root's copy of all metadata has them, which readers go by."""
    return dict(zarr.open_group(store, mode="r", zarr_format=3, use_consolidated=True).arrays())


def _array(store: Path, name: str) -> Any:
    return zarr.open_array(store, path=name, mode="r", zarr_format=3)


def _metadata(array: Any) -> str:
    """Return the metadata of an array as text, without the number of seeds."""
    return str(array.metadata.to_dict() | {"shape": array.shape[1:] if _grows(array) else array.shape})


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
    return _read(lambda: array[region])


def _read(read: Callable[[], Any]) -> Any:
    """Return `read()`, or None where it fails."""
    try:
        return read()
    except Exception:  # the errors of the disk, and whatever zarr and its codecs raise on bytes that they did not write
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
