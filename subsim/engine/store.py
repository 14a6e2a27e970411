"""Results on disk: one zarr group a run, made from a template, each chunk written into its own region, resumable."""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr
import zarr

from subsim.engine.study import Precision, Study
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


def plain(value: Any) -> Any:
    """`value`, a config or a pytree of numbers, as what JSON can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return np.asarray(value).tolist()
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


def fingerprint(data: Any) -> str | None:
    """sha256 of the arrays in `data`, with their shapes and types; None where there are none."""
    leaves = [np.ascontiguousarray(leaf) for leaf in jax.tree.leaves(data)]
    digest = hashlib.sha256()
    for leaf in leaves:
        digest.update(f"{leaf.dtype} {leaf.shape} ".encode() + leaf.tobytes())
    return digest.hexdigest() if leaves else None


def identity(study: str, config: Any, hyper: Any, root_seed: int, precision: Precision, data: Any) -> dict[str, Any]:
    """All that the values of a run depend on, beside the code: two runs with one identity may share a store."""
    return {
        "study": study,
        "config": plain(config),
        "hyper": plain(hyper),
        "root_seed": root_seed,
        "precision": precision,
        "data_sha256": fingerprint(data),
    }


def digest(identity: Mapping[str, Any]) -> str:
    """sha256 of an identity in canonical JSON."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def provenance() -> dict[str, Any]:
    """Where and by what a run was made."""
    packages = ("subsim", "jax", "jaxlib", "flax", "optax", "numpy", "xarray", "zarr")
    device = jax.devices()[0]
    return {
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "python": platform.python_version(),
        "device": f"{device.platform} {device.device_kind}",
        "commit": _commit(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _commit() -> str | None:
    """The commit of the checkout that this package lies in, with a + where files differ from it; None outside one."""

    def git(*words: str) -> str:
        folder = Path(__file__).parent
        return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()

    try:
        # An installed copy may lie inside somebody else's checkout: that commit says nothing about it.
        if git("ls-files", __file__) == "":
            return None
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def template(study: Study, record: Mapping[str, Any], identity: Mapping[str, Any]) -> xr.Dataset:
    """The data set of `study` with no seeds: every variable, dimension, coordinate and attribute.

    `record` gives, by name, anything with the `shape` (without the seed axis) and `dtype` of one seed's value.
    """
    variables: dict[str, Any] = {}
    for name, value in record.items():
        require(name in study.variables, f"The study's record has {name!r}, which its variables do not describe.")
        meaning = study.variables[name]
        require(
            len(meaning.dims) == len(value.shape),
            f"The study's variable {name!r} has dims {meaning.dims}, but its values have shape {tuple(value.shape)}.",
        )
        empty = np.nan if np.issubdtype(value.dtype, np.floating) else 0
        values = np.broadcast_to(np.asarray(empty, value.dtype), (0, *value.shape))
        attributes = {"description": meaning.description, "units": meaning.units}
        variables[name] = (("seed", *meaning.dims), values, attributes)
    variables["status"] = (("seed",), np.zeros(0, np.uint8), _STATUS)
    used = {dim for meaning in study.variables.values() for dim in meaning.dims}
    coords: dict[str, Any] = {dim: list(labels) for dim, labels in study.coords.items() if dim in used}
    coords["seed"] = ("seed", np.zeros(0, np.int64), {"description": "global index i; key fold_in(root, i)"})
    attributes = {"title": study.title, **identity, "config_hash": digest(identity), **provenance()}
    return xr.Dataset(variables, coords, attributes)


def _unwritten(template: xr.Dataset, first: int, last: int) -> xr.Dataset:
    """`template` with seeds `first` .. `last` - 1, all missing; its arrays take no memory."""

    def longer(variable: xr.DataArray) -> Any:
        empty = np.nan if np.issubdtype(variable.dtype, np.floating) else 0
        shape = (last - first, *variable.shape[1:])
        return variable.dims, np.broadcast_to(np.asarray(empty, variable.dtype), shape), variable.attrs

    variables = {str(name): longer(variable) for name, variable in template.data_vars.items()}
    seeds = ("seed", np.arange(first, last), template.seed.attrs)
    return xr.Dataset(variables, {**template.drop_vars("seed").coords, "seed": seeds}, template.attrs)


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _differences(here: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What tells two identities apart, as words."""
    ours, theirs = _flat(here), _flat(wanted)
    names = [name for name in ours | theirs if ours.get(name) != theirs.get(name)]
    return ", ".join(
        f"{name.removeprefix('config.').removeprefix('hyper.')} {ours.get(name)} and not {theirs.get(name)}"
        for name in names
    )


class Store:
    """The results of one run: `missing` seeds, `write` a chunk, read the `dataset`."""

    def __init__(self, target: Any):
        self._target = target

    def _status(self) -> np.ndarray:
        with xr.open_zarr(self._target, chunks=None, consolidated=False) as dataset:
            return dataset.status.values

    def missing(self, seeds: int) -> np.ndarray:
        """Those of the seeds 0 .. `seeds` - 1 that are not on disk, in order."""
        return np.flatnonzero(self._status()[:seeds] == MISSING)

    def write(self, first: int, record: Mapping[str, np.ndarray]) -> None:
        """Write a chunk: seeds from `first` on, one row each. Its status follows its data, so that a chunk counts as
        finished only when all of it is on disk."""
        with xr.open_zarr(self._target, chunks=None, consolidated=False) as held:
            dims = {name: held[name].dims for name in record}
        rows = len(next(iter(record.values())))
        finite = np.ones(rows, bool)
        for values in record.values():
            if np.issubdtype(values.dtype, np.floating):
                finite &= np.isfinite(values).reshape(rows, -1).all(axis=1)
        status = np.where(finite, FINISHED, DIVERGED).astype(np.uint8)
        region = {"seed": slice(first, first + rows)}
        data = xr.Dataset({name: (dims[name], values) for name, values in record.items()})
        data.to_zarr(self._target, region=region, **_FORMAT)
        xr.Dataset({"status": ("seed", status)}).to_zarr(self._target, region=region, **_FORMAT)

    def dataset(self, seeds: int) -> xr.Dataset:
        """The labelled data set of seeds 0 .. `seeds` - 1, in memory."""
        with xr.open_zarr(self._target, chunks=None, consolidated=False) as dataset:
            return dataset.isel(seed=slice(0, seeds)).load()


def open_store(out: str | Path | None, template: xr.Dataset, seeds: int, chunk: int) -> Store:
    """The store in folder `out` with room for `seeds` seeds: made from `template`, or found there and continued.

    None keeps it in memory. Raises `UserError` where `out` cannot be written or holds a run of another identity.
    """
    encoding = {
        name: {"chunks": (chunk, *(max(1, size) for size in variable.shape[1:]))}
        for name, variable in template.data_vars.items()
    }
    if out is None:
        memory = zarr.storage.MemoryStore()
        _unwritten(template, 0, seeds).to_zarr(memory, mode="w-", encoding=encoding, **_FORMAT)
        return Store(memory)
    target = Path(out) / FILE
    try:
        if not target.exists():
            # Complete under another name first: a folder that looks like a store is one.
            draft = target.with_name(f"{FILE}.{os.getpid()}")
            _unwritten(template, 0, seeds).to_zarr(draft, mode="w", encoding=encoding, **_FORMAT)
            draft.rename(target)
            return Store(target)
    except OSError as error:
        raise UserError(f"out: cannot write to {out} ({error.strerror or error}); choose another folder.") from None
    _continue(target, template, seeds)
    return Store(target)


def _continue(target: Path, template: xr.Dataset, seeds: int) -> None:
    """Check that the store at `target` holds the run of `template`, and make room in it for `seeds` seeds."""
    names = ("study", "config", "hyper", "root_seed", "precision", "data_sha256")
    try:
        with xr.open_zarr(target, chunks=None, consolidated=False) as found:
            held, attributes = found.sizes["seed"], found.attrs
        here = {name: attributes[name] for name in names}
    except (OSError, KeyError, ValueError):
        raise UserError(f"out: {target} is not a complete subsim store; remove it or choose another folder.") from None
    wanted = {name: template.attrs[name] for name in names}
    require(
        here == wanted,
        f"out: {target.parent} holds another run, with {_differences(here, wanted)}; choose another folder with --out.",
    )
    if held < seeds:
        labels = [name for name in template.coords if name != "seed"]
        # What made the store stays written in it: appending writes the attributes again.
        longer = _unwritten(template, held, seeds).drop_vars(labels).assign_attrs(attributes)
        longer.to_zarr(target, append_dim="seed", **_FORMAT)


def load_results(out: str | Path) -> xr.Dataset:
    """The data set that a run left in folder `out`; seeds that are not finished are left out.

    Raises `UserError` where there is none.
    """
    target = Path(out) / FILE
    try:
        with xr.open_zarr(target, chunks=None, consolidated=False) as dataset:
            return dataset.isel(seed=dataset.status.values != MISSING).load()
    except (OSError, ValueError):
        raise UserError(f"{out} holds no results; run the study first, or name its folder with --out.") from None
