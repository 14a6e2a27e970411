"""Results on disk: one zarr group a run, made from a template, each chunk written into its own region, resumable."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from subsim.engine import provenance
from subsim.engine.axes import Axis
from subsim.engine.study import Study
from subsim.options import UserError, require

FILE = "run.zarr"
# Zarr's unwritten value is 0: a seed is missing until its chunk's status is written, after the chunk's data.
MISSING, FINISHED, DIVERGED = 0, 1, 2
_STATUS = {
    "description": "whether the seed's record is on disk, and whether all of it is finite",
    "flag_values": [MISSING, FINISHED, DIVERGED],
    "flag_meanings": "missing finished diverged",
}
# Version 2 of the format: version 3 has no stable form for the text labels of a coordinate.
_FORMAT: dict[str, Any] = {"zarr_format": 2, "consolidated": False}


def template(
    study: Study, record: Mapping[str, Any], identity: Mapping[str, Any], axes: Sequence[Axis], seeds: int
) -> xr.Dataset:
    """The data set of `study` with every dimension, coordinate and attribute, and `seeds` seeds that are all missing.

    `record` gives, by name, anything with the `shape` and `dtype` of one seed's value, the traced axes first.
    The arrays repeat one number in memory, however many seeds there are.
    """
    static, traced = ([axis for axis in axes if axis.traced is kind] for kind in (False, True))
    outer = {"seed": seeds, **{axis.name: len(axis.values) for axis in static}}
    inner = [axis.name for axis in traced]
    variables: dict[str, Any] = {}
    for name, value in record.items():
        require(name in study.variables, f"The study's record has {name!r}, which its variables do not describe.")
        require(name not in ("seed", "status"), f"The study's record has {name!r}, a name that the engine uses itself.")
        meaning = study.variables[name]
        require(
            len(meaning.dims) == len(value.shape) - len(inner),
            f"The study's variable {name!r} has dims {meaning.dims}, but its values have shape "
            f"{tuple(value.shape[len(inner) :])}.",
        )
        empty = np.nan if np.issubdtype(value.dtype, np.floating) else 0
        values = np.broadcast_to(np.asarray(empty, value.dtype), (*outer.values(), *value.shape))
        attributes = {"description": meaning.description, "units": meaning.units}
        variables[name] = ((*outer, *inner, *meaning.dims), values, attributes)
    variables["status"] = (tuple(outer), np.broadcast_to(np.uint8(MISSING), tuple(outer.values())), _STATUS)
    used = {dim for meaning in study.variables.values() for dim in meaning.dims}
    coords: dict[str, Any] = {dim: list(labels) for dim, labels in study.coords.items() if dim in used}
    coords |= {axis.name: axis.labels for axis in axes}
    coords["seed"] = ("seed", np.arange(seeds), {"description": "global index i; its key is fold_in(root, i)"})
    made_by = {"config_hash": provenance.digest(identity), **provenance.provenance()}
    return xr.Dataset(variables, coords, {"title": study.title, **identity, **made_by})


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _differences(here: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What tells two identities apart, as words: the study where that differs, else every option that does."""
    if here["study"] != wanted["study"]:
        return f"the study {here['study']} and not {wanted['study']}"
    ours, theirs = _flat(here), _flat(wanted)
    words = {"study_sha256": "other code in the study's file", "data_sha256": "other data"}
    return ", ".join(
        words.get(name)
        or f"{name.removeprefix('config.').removeprefix('hyper.')} {ours.get(name)} and not {theirs.get(name)}"
        for name in ours | theirs
        if ours.get(name) != theirs.get(name)
    )


class Store:
    """The results of one run: `missing` seeds, `write` a chunk, read the `dataset`.

    A `place` picks one value of each of the config's axes, by their numbers.
    """

    def __init__(self, target: Any, static: Sequence[str]):
        self._target, self._static = target, static

    def _open(self) -> xr.Dataset:
        return xr.open_zarr(self._target, chunks=None, consolidated=False)

    @property
    def block(self) -> int:
        """Seeds that lie in one file of each variable."""
        with self._open() as held:
            return int(held.status.encoding["chunks"][0])

    def missing(self, seeds: int, place: tuple[int, ...]) -> np.ndarray:
        """Those of the seeds 0 .. `seeds` - 1 that are not on disk at `place`, in order."""
        with self._open() as held:
            return np.flatnonzero(held.status.values[(slice(seeds), *place)] == MISSING)

    def write(self, first: int, place: tuple[int, ...], record: Mapping[str, np.ndarray]) -> None:
        """Write a chunk at `place`: seeds from `first` on, one row each. Its status follows its data, so that a chunk
        counts as finished only when all of it is on disk. Raises `UserError` where the disk refuses."""
        rows = len(next(iter(record.values())))
        finite = np.ones(rows, bool)
        for values in record.values():
            if np.issubdtype(values.dtype, np.floating):
                finite &= np.isfinite(values).reshape(rows, -1).all(axis=1)
        status = {"status": np.where(finite, FINISHED, DIVERGED).astype(np.uint8)}
        region = {"seed": slice(first, first + rows)}
        region |= {name: slice(at, at + 1) for name, at in zip(self._static, place, strict=True)}
        with self._open() as held:
            dims = {name: variable.dims for name, variable in held.data_vars.items()}
        try:
            for part in (record, status):
                placed = {
                    name: (dims[name], values.reshape(rows, *(1 for _ in place), *values.shape[1:]))
                    for name, values in part.items()
                }
                xr.Dataset(placed).to_zarr(self._target, region=region, **_FORMAT)
        except OSError as error:
            raise UserError(
                f"out: cannot write to {self._target} ({error.strerror or error}); finished seeds are kept: mend the "
                "folder and repeat the command."
            ) from None

    def dataset(self, seeds: int) -> xr.Dataset:
        """The labelled data set of seeds 0 .. `seeds` - 1, in memory."""
        with self._open() as held:
            return held.isel(seed=slice(0, seeds)).load()


def exists(out: str | Path | None) -> bool:
    """Whether folder `out` holds a store, whatever is in it."""
    return out is not None and (Path(out) / FILE).exists()


def open_store(out: str | Path | None, template: xr.Dataset, static: Sequence[str], chunk: int) -> Store:
    """The store in folder `out` with room for the seeds of `template`: made from it, or found there and continued.

    None keeps it in memory. Raises `UserError` where `out` cannot be written or holds a run of another identity.
    """
    encoding = {
        name: {
            "chunks": tuple(
                chunk if dim == "seed" else 1 if dim in static else max(1, size) for dim, size in variable.sizes.items()
            )
        }
        for name, variable in template.data_vars.items()
    }
    if out is None:
        memory = zarr.storage.MemoryStore()
        template.to_zarr(memory, mode="w-", encoding=encoding, **_FORMAT)
        return Store(memory, static)
    target = Path(out) / FILE
    try:
        if target.exists():
            _continue(target, template)
        else:
            # Complete under another name first: a folder that looks like a store is one.
            draft = target.with_name(f"{FILE}.{os.getpid()}")
            template.to_zarr(draft, mode="w", encoding=encoding, **_FORMAT)
            draft.rename(target)
    except OSError as error:
        raise UserError(f"out: cannot write to {out} ({error.strerror or error}); choose another folder.") from None
    return Store(target, static)


def _continue(target: Path, template: xr.Dataset) -> None:
    """Check that the store at `target` holds the run of `template`, and make room in it for that many seeds."""
    try:
        group: Any = zarr.open_group(target, mode="r+", zarr_format=2)
        here = {name: group.attrs[name] for name in provenance.IDENTITY}
        arrays = {name: array for name, array in group.arrays() if array.attrs["_ARRAY_DIMENSIONS"][0] == "seed"}
    except (FileNotFoundError, KeyError, ValueError):
        raise UserError(f"out: {target} is not a complete subsim store; remove it or choose another folder.") from None
    wanted = {name: template.attrs[name] for name in provenance.IDENTITY}
    require(
        here == wanted,
        f"out: {target.parent} holds another run, with {_differences(here, wanted)}; "
        "choose another folder with --out, or remove this one.",
    )
    shapes = {name: variable.shape[1:] for name, variable in template.variables.items() if variable.dims[0] == "seed"}
    require(
        {name: array.shape[1:] for name, array in arrays.items()} == shapes,
        f"out: {target.parent} holds a run that recorded other variables; choose another folder with --out.",
    )
    # Room is made array by array. A stop in between leaves them of different lengths, which the next opening evens out.
    longest = max(template.sizes["seed"], *(array.shape[0] for array in arrays.values()))
    for array in arrays.values():
        if array.shape[0] < longest:
            array.resize((longest, *array.shape[1:]))
    if (arrays["seed"][:] != np.arange(longest)).any():
        arrays["seed"][:] = np.arange(longest)


def load_results(out: str | Path) -> xr.Dataset:
    """The data set that a run left in folder `out`; seeds that are not finished are left out.

    Raises `UserError` where there is none.
    """
    target = Path(out) / FILE
    require(target.exists(), f"{out} holds no results; run the study first, or name its folder with --out.")
    try:
        with xr.open_zarr(target, chunks=None, consolidated=False) as held:
            everywhere = [dim for dim in held.status.dims if dim != "seed"]
            finished = held.isel(seed=(held.status != MISSING).all(everywhere).values).load()
    except (OSError, ValueError, AttributeError):
        raise UserError(f"{target} cannot be read as a whole; repeat the command that made it.") from None
    require(finished.sizes["seed"] > 0, f"{out} holds no finished seed; repeat the command that made it.")
    return finished
