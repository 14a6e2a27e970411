"""The results of a run: a zarr group on disk, written chunk by chunk, or arrays in memory."""

import contextlib
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from subsim.engine import integrity, shards
from subsim.engine.digests import digest
from subsim.engine.integrity import DIVERGED, FINISHED, MISSING
from subsim.options import UserError, require

FILE = "run.zarr"  # the store of a run, in the folder of its results
Index = tuple[int, ...]  # of one program: positions along the axes whose values each have a program

_STATUS = {
    "description": "whether the seed's record is on disk, and whether all of it is finite",
    "flag_values": [MISSING, FINISHED, DIVERGED],
    "flag_meanings": "missing finished diverged",
}
_MADE_BY = {"description": "the origin in the attribute `origins`, in hexadecimal digits, that made the seed's record"}


class Template(NamedTuple):
    """The arrays of a run: `dataset` has every dimension, label and attribute, for one seed that is missing.

    Each value of the dimensions `alone` has a program of its own. One file holds `chunk` seeds.
    """

    dataset: xr.Dataset
    alone: tuple[str, ...]
    chunk: int

    @property
    def depth(self) -> int:
        """The number of leading dimensions along which an array is written in pieces: the seed and `alone`."""
        return 1 + len(self.alone)


def template(
    title: str,
    meanings: Mapping[str, Any],
    record: Mapping[str, Any],
    labels: Mapping[str, Sequence[Any]],
    alone: Sequence[str],
    inner: Sequence[str],
    attributes: Mapping[str, Any],
    chunk: int,
) -> Template:
    """Return the arrays of a run.

    `record` gives by name the `shape` and `dtype` of one seed's value, whose first dimensions are `inner`. `meanings`
    has the description, dims and units of each variable. `labels` has the labels of each dimension.
    """
    outer = {"seed": 1, **{name: len(labels[name]) for name in alone}}
    variables: dict[str, Any] = {}
    for name, value in record.items():
        fill = np.nan if np.issubdtype(value.dtype, np.floating) else 0
        values = np.full((*outer.values(), *value.shape), fill, value.dtype)
        about = {"description": meanings[name].description, "units": meanings[name].units}
        variables[name] = ((*outer, *inner, *meanings[name].dims), values, about)
    variables["status"] = (tuple(outer), np.full(tuple(outer.values()), MISSING, np.uint8), _STATUS)
    variables["made_by"] = (tuple(outer), np.zeros(tuple(outer.values()), np.uint32), _MADE_BY)
    coords: dict[str, Any] = {dim: list(values) for dim, values in labels.items()}
    coords["seed"] = ("seed", np.arange(1), {"description": "global index i; its key is fold_in(root, i)"})
    dataset = xr.Dataset(variables, coords, {"title": title, **attributes})
    return Template(dataset, tuple(alone), chunk)


class Memory:
    """The results of a run in memory: the template's arrays, filled in the same way as a store's."""

    def __init__(self, made: Template, seeds: int):
        one = made.dataset
        self._arrays: dict[str, Any] = {
            str(name): np.repeat(variable.values, seeds, axis=0) for name, variable in one.data_vars.items()
        }
        held = {name: (one[name].dims, values, one[name].attrs) for name, values in self._arrays.items()}
        coords = {name: values for name, values in one.coords.items() if name != "seed"}
        self._dataset = xr.Dataset(held, coords | {"seed": ("seed", np.arange(seeds), one.seed.attrs)}, one.attrs)
        self._origin: tuple[str, Mapping[str, Any]] | None = None
        self.chunk = made.chunk  # seeds in one file

    def keep_origin(self, key: str, origin: Mapping[str, Any]) -> None:
        """Keep where and by what the seeds that are written from now on are made."""
        self._origin = key, origin

    def missing(self, seeds: int, index: Index) -> np.ndarray:
        """Return the seeds among 0 .. `seeds` - 1 that have no record at `index`, in order."""
        return np.flatnonzero(self._arrays["status"][(slice(seeds), *index)] == MISSING)

    def write(self, first: int, index: Index, records: Mapping[str, np.ndarray]) -> None:
        """Write the records of the seeds from `first` on, one row each, at `index`."""
        rows = len(next(iter(records.values())))
        finite = np.ones(rows, bool)
        for values in records.values():
            if np.issubdtype(values.dtype, np.inexact):
                finite &= np.isfinite(values).reshape(rows, -1).all(axis=1)
        region = (slice(first, first + rows), *index)
        for name, values in records.items():
            self._arrays[name][region] = values
        self._arrays["made_by"][region] = int(self._origin[0], 16) if self._origin else 0
        # The status comes last, so that a finished seed has its whole record.
        self._arrays["status"][region] = np.where(finite, FINISHED, DIVERGED)

    def dataset(self, seeds: int, most: int | None = None) -> xr.Dataset:
        """Return the labelled data set of seeds 0 .. `seeds` - 1."""
        origins = {self._origin[0]: dict(self._origin[1])} if self._origin else {}
        return _in_order(self._dataset.isel(seed=slice(0, seeds)).assign_attrs(origins=origins))


class Disk(Memory):
    """The results of a run in the zarr group `group` at `target`."""

    def __init__(self, target: Path):
        self._target, self._origin = target, None
        group = integrity.root(target, "r+")
        # Chunks of zeros are written too, so that an absent file is a lost one.
        with zarr.config.set({"array.write_empty_chunks": True}):
            self._arrays = dict(group.arrays())
        self.chunk = self._arrays["status"].chunks[0]

    @property
    def programs(self) -> dict[str, dict[str, Any]]:
        """The records of programs in the store, by their keys."""
        return attributes(self._target)["programs"]

    def keep_program(self, key: str, program: Mapping[str, Any]) -> None:
        """Keep the record of a program. Processes that share the store write the same record under the same key."""
        self._note("programs", key, program)

    def keep_origin(self, key: str, origin: Mapping[str, Any]) -> None:
        """Keep where and by what the seeds that are written from now on are made."""
        self._origin = key, origin
        self._note("origins", key, {**origin, **attributes(self._target)["origins"].get(key, {})})

    def _note(self, kind: str, key: str, note: Mapping[str, Any]) -> None:
        with shards.alone(self._target.parent), refusals(self._target):
            if attributes(self._target)[kind].get(key) != note:
                integrity.write_note(self._target, kind, key, note)

    def write(self, first: int, index: Index, records: Mapping[str, np.ndarray]) -> None:
        """Write the records of the seeds from `first` on; raises `UserError` where the disk refuses."""
        rows = len(next(iter(records.values())))
        with refusals(self._target):
            # The status also comes first: a chunk with other files and without a status has lost it.
            self._arrays["status"][(slice(first, first + rows), *index)] = MISSING
            super().write(first, index, records)

    def dataset(self, seeds: int, most: int | None = None) -> xr.Dataset:
        """Return the data set of seeds 0 .. `seeds` - 1; one of more than `most` bytes is read where it is used."""
        with _opened(self._target) as held:
            wanted = _in_order(held.isel(seed=slice(0, seeds)))
            return wanted if most is not None and wanted.nbytes > most else wanted.load()


def _in_order(results: xr.Dataset) -> xr.Dataset:
    """Sort the variables by name and convert text labels to numpy's, which stores order and read in their own ways."""
    text = {name: [*map(str, values.values)] for name, values in results.coords.items() if values.dtype.kind in "OT"}
    return results.assign_coords(text)[sorted(map(str, results.data_vars))]


def consolidate(target: Path) -> None:
    """Copy the metadata of all arrays into the root. This is the last step of every change of the arrays.

    Until then readers see all arrays with their former length.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Consolidated metadata")  # every zarr that pyproject.toml admits reads it
        zarr.consolidate_metadata(target, zarr_format=3)


def _opened(target: Path) -> xr.Dataset:
    """Open the data set at `target` lazily."""
    return xr.open_dataset(target, engine="zarr", consolidated=True, zarr_format=3, cache=False)


@contextlib.contextmanager
def refusals(target: Path) -> Iterator[None]:
    """Turn an error of the disk into a `UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"out: cannot write to {target.parent} ({error.strerror or error}); finished seeds are kept: mend the "
            "folder or choose another with --out, and repeat the command."
        ) from None


def attributes(target: Path) -> dict[str, Any]:
    """Return the attributes of the store at `target`."""
    return dict(integrity.root(target).attrs)


def exists(folder: Path) -> bool:
    """Return whether `folder` holds a store, whole or not."""
    return (folder / FILE).exists()


def make(target: Path, made: Template) -> None:
    """Make the store of a run at `target`, in a draft folder that is renamed when it is complete."""
    draft = target.with_name(f"{FILE}.draft")
    shutil.rmtree(draft, ignore_errors=True)  # of a run that was killed
    with refusals(target):
        try:
            attributes = made.dataset.attrs | {kind: {} for kind in integrity.NOTES}
            seal = {integrity.SEAL: {name: digest(value) for name, value in attributes.items()}}
            group = zarr.open_group(draft, mode="w", zarr_format=3, attributes=attributes | seal)
            for name in made.dataset.variables:
                _make_array(group, str(name), made)
            consolidate(draft)
            draft.rename(target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _make_array(group: Any, name: str, made: Template) -> None:
    """Make the array of one variable of the template in `group`."""
    variable = made.dataset[name].variable
    text = variable.dtype.kind in "OU"
    inner = variable.shape[made.depth :]
    chunks = (made.chunk, *[1] * len(made.alone), *inner) if name in made.dataset.data_vars else variable.shape
    array = group.create_array(
        name,
        shape=variable.shape,
        dtype=str if text else variable.dtype,
        chunks=(2**16,) if name == "seed" else tuple(max(1, size) for size in chunks),
        compressors=[ZstdCodec(level=1), Crc32cCodec()],
        fill_value="" if text else np.nan if variable.dtype.kind == "f" else 0,
        dimension_names=variable.dims,
        attributes=dict(variable.attrs),
        chunk_key_encoding=integrity.CHUNK_KEYS,
    )
    if name in made.dataset.coords:
        with zarr.config.set({"array.write_empty_chunks": True}):
            array[...] = variable.values.astype(object) if text else variable.values


def make_room(target: Path, seeds: int) -> None:
    """Enlarge every array of the store to at least `seeds` seeds.

    A kill halfway leaves arrays of different lengths; the next call makes them equal.
    """
    arrays = integrity.of_seeds(integrity.root(target, "r+"))
    longest = max(seeds, *(array.shape[0] for array in arrays.values()))
    with refusals(target):
        # The status comes last: a seed with a status then has room in every array.
        for _, array in sorted(arrays.items(), key=lambda item: (item[0] == "status", item[0])):
            if array.shape[0] < longest:
                array.resize((longest, *array.shape[1:]))
        if not np.array_equal(arrays["seed"][:], np.arange(longest)):
            arrays["seed"][:] = np.arange(longest)
        if integrity.copied(target)["seed"].shape[0] < longest:
            consolidate(target)


def finished(folder: Path) -> tuple[int, int]:
    """Return (seeds that are finished everywhere, seeds asked for) of the run in `folder`; (0, 0) where none is."""
    try:
        status: Any = zarr.open_array(folder / FILE, path="status", mode="r", zarr_format=3)
        done = (np.asarray(status[:]) != MISSING).reshape(status.shape[0], -1).all(axis=1)
        return int(done.sum()), len(done)
    except Exception:  # the folder holds something else
        return 0, 0


def stores(root: Path) -> list[Path]:
    """Return the folders at and below `root` that hold a store, sorted."""
    found = []
    for folder, inner, _ in os.walk(root):
        if FILE in inner:
            found.append(Path(folder))
        # Stores, with a file for every chunk, and hidden folders are not searched.
        inner[:] = [name for name in inner if not name.startswith((".", FILE))]
    return sorted(found)


def load_results(out: str | Path) -> xr.Dataset:
    """Return the data set of the finished seeds in folder `out`.

    Raises `UserError` where the folder holds no results, or where a file of them is damaged.
    """
    target = Path(out) / FILE
    require(target.exists(), f"{out} holds no results; run the study first, or name its folder with --out.")
    integrity.require_whole(target, integrity.damages(target))
    try:
        with _opened(target) as held:
            everywhere = [dim for dim in held.status.dims if dim != "seed"]
            results = held.isel(seed=(held.status != MISSING).all(everywhere).values).load()
    except (OSError, ValueError):
        raise UserError(f"{target} cannot be read as a whole; repeat the command that made it.") from None
    require(results.sizes["seed"] > 0, f"{out} holds no finished seed; repeat the command that made it.")
    return _in_order(results)
