"""Results on disk: one zarr group a run, made from a template, each chunk written into its own region, resumable."""

import contextlib
import functools
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import xarray as xr
import zarr

from subsim.engine import integrity, lock, provenance, resume
from subsim.engine.axes import Axis
from subsim.engine.glance import FILE
from subsim.engine.integrity import DIVERGED, FINISHED, MISSING
from subsim.engine.program import Plan
from subsim.engine.study import Study
from subsim.options import UserError, require

P = ParamSpec("P")
T = TypeVar("T")

_STATUS = {
    "description": "whether the seed's record is on disk, and whether all of it is finite",
    "flag_values": [MISSING, FINISHED, DIVERGED],
    "flag_meanings": "missing finished diverged",
}
# Version 2 of the format: version 3 has no stable form for the text labels of a coordinate.
_FORMAT: dict[str, Any] = {"zarr_format": 2, "consolidated": False}


def template(
    study: Study, config: Any, record: Mapping[str, Any], identity: Mapping[str, Any], axes: Sequence[Axis], seeds: int
) -> xr.Dataset:
    """The data set of `study` with every dimension, coordinate and attribute, and `seeds` seeds that are all missing.

    `record` gives, by name, anything with the `shape` and `dtype` of one seed's value, the joint and the traced axes
    first; `config` is one of the run's, which all label alike.
    The arrays repeat one number in memory, however many seeds there are.
    """
    outer = {"seed": seeds, **{axis.name: len(axis.values) for axis in axes if axis.alone}}
    inner = [axis.name for axis in axes if not axis.alone]
    variables: dict[str, Any] = {}
    sizes: dict[str, int] = {}
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
        sizes |= dict(zip(meaning.dims, value.shape[len(inner) :], strict=True))
    variables["status"] = (tuple(outer), np.broadcast_to(np.uint8(MISSING), tuple(outer.values())), _STATUS)
    used = {dim: labels for dim, labels in study.coords.items() if dim in sizes}
    coords: dict[str, Any] = {
        dim: list(labels(config, sizes[dim]) if callable(labels) else labels) for dim, labels in used.items()
    }
    coords |= {axis.name: axis.labels for axis in axes}
    coords["seed"] = ("seed", np.arange(seeds), {"description": "global index i; its key is fold_in(root, i)"})
    made_by = {"config_hash": provenance.digest(identity), **provenance.origin(), "continued_by": []}
    return xr.Dataset(variables, coords, {"title": study.title, **identity, **made_by})


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until the block is left, and are then what they were.

    Only the main thread hears of them; in others there is nothing to hold.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, lambda number, _frame: held.append(number))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for first in held[:1]:
            signal.raise_signal(first)


def uninterrupted(function: Callable[P, T]) -> Callable[P, T]:
    """`function`, run to its end, and only then interrupted (Ctrl-C, SIGTERM): what it writes is written."""

    @functools.wraps(function)
    def to_its_end(*args: P.args, **kwargs: P.kwargs) -> T:
        with _signals_held():
            return function(*args, **kwargs)

    return to_its_end


class Store:
    """The results of one run: `missing` seeds, `write` a chunk, read the `dataset`.

    A `place` picks one value, by its number, of each axis whose values have programs of their own.
    """

    def __init__(self, target: Path):
        self._target = target
        # A chunk of nothing but zeros is written too: a file that is not there is then one that was lost.
        with zarr.config.set({"array.write_empty_chunks": True}):
            arrays = dict(zarr.open_group(target, mode="r+", zarr_format=2).arrays())
        self._arrays: dict[str, Any] = arrays

    @property
    def block(self) -> int:
        """Seeds that share their files: the chunk of the run that made the store. Seed i lies in block i // `block`,
        and a block may be written by one process only."""
        return self._arrays["status"].chunks[0]

    @uninterrupted
    def missing(self, seeds: int, place: tuple[int, ...]) -> np.ndarray:
        """Those of the seeds 0 .. `seeds` - 1 that are not on disk at `place`, in order."""
        return np.flatnonzero(self._arrays["status"][(slice(seeds), *place)] == MISSING)

    @uninterrupted
    def write(self, first: int, place: tuple[int, ...], record: Mapping[str, np.ndarray]) -> None:
        """Write a chunk at `place`: seeds from `first` on, one row each. Raises `UserError` where the disk refuses."""
        rows = len(next(iter(record.values())))
        finite = np.ones(rows, bool)
        for values in record.values():
            if np.issubdtype(values.dtype, np.floating):
                finite &= np.isfinite(values).reshape(rows, -1).all(axis=1)
        region = (slice(first, first + rows), *place)
        with self._refusals():
            # The status comes before the data, so that data without it are known to have lost it; and after the data,
            # so that a seed counts as finished only when all of it is on disk.
            self._arrays["status"][region] = MISSING
            for name, values in record.items():
                self._arrays[name][region] = values
            self._arrays["status"][region] = np.where(finite, FINISHED, DIVERGED)

    @uninterrupted
    def keep_plan(self, plan: Plan) -> None:
        """Note the plan, so that a run that is continued computes the same bits."""
        with self._refusals():
            integrity.seal(self._target, calls=plan._asdict())

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        """Say in a sentence that the disk refuses."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"out: cannot write to {self._target} ({error.strerror or error}); finished seeds are kept: mend the "
                "folder and repeat the command."
            ) from None

    @uninterrupted
    def dataset(self, seeds: int, most: int | None = None) -> xr.Dataset:
        """The labelled data set of seeds 0 .. `seeds` - 1: in memory, or of more than `most` bytes read where it is
        used, each time anew."""
        options: dict[str, Any] = {"engine": "zarr", "consolidated": False, "cache": False}
        with xr.open_dataset(self._target, **options) as held:
            wanted = _in_order(held.isel(seed=slice(0, seeds)))
            return wanted if most is not None and wanted.nbytes > most else wanted.load()


class Memory(Store):
    """The results of a run that leaves nothing on disk: `template`'s arrays, filled as a store's are."""

    def __init__(self, template: xr.Dataset):
        self._filled = template.assign(
            {name: variable.copy(data=np.array(variable)) for name, variable in template.data_vars.items()}
        )
        self._arrays = {str(name): variable.values for name, variable in self._filled.data_vars.items()}

    def keep_plan(self, plan: Plan) -> None:
        """Nothing: a run that is not on disk cannot be continued."""

    def dataset(self, seeds: int, most: int | None = None) -> xr.Dataset:
        """The labelled data set of seeds 0 .. `seeds` - 1."""
        return _in_order(self._filled.isel(seed=slice(0, seeds)))


def _in_order(results: xr.Dataset) -> xr.Dataset:
    """`results` with its variables by name: a store lists them as the file system does."""
    return results[sorted(map(str, results.data_vars))]


def exists(out: str | Path | None) -> bool:
    """Whether folder `out` holds a store, whatever is in it."""
    return out is not None and (Path(out) / FILE).exists()


def kept_plan(out: str | Path | None, devices: int) -> Plan | None:
    """The plan that the run in folder `out` was made with, where it suits this number of devices."""
    if out is None or not exists(out):
        return None
    try:
        kept = integrity.attributes(Path(out) / FILE)["calls"]
        found = Plan(int(kept["chunk"]), int(kept["lanes"]))
    except (OSError, LookupError, ValueError, TypeError):
        return None
    return found if found.chunk % (devices * found.lanes) == 0 else None


@contextlib.contextmanager
def open_store(
    out: str | Path | None,
    template: xr.Dataset,
    alone: Sequence[str],
    plan: Plan,
    repair: bool = False,
    process: int = 0,
) -> Iterator[Store]:
    """The store in folder `out` with room for the seeds of `template`: made from it, or found there and continued.

    Inside the block no other command can open it; of one command's processes, number 0 makes it ready for the others.
    None keeps it in memory. `repair` makes damaged seeds missing.
    Raises `UserError` where `out` cannot be written, is in use, is damaged, or holds a run of another identity.
    """
    if out is None:
        yield Memory(template)
        return
    target = Path(out) / FILE
    with lock.held(target.parent, process):
        if process > 0:
            resume.check_same_run(target, template)
            yield Store(target)
        else:
            yield _opened(target, template, alone, plan, repair)


@uninterrupted
def _opened(target: Path, template: xr.Dataset, alone: Sequence[str], plan: Plan, repair: bool) -> Store:
    draft = functools.partial(_draft, target, template, alone)
    try:
        if target.exists():
            resume.make_ready(target, template, draft, repair)
        else:
            # Complete under another name first: a folder that looks like a store is one.
            with draft(plan.chunk) as made:
                integrity.seal(made, plan=plan._asdict())
                made.rename(target)
    except OSError as error:
        raise UserError(
            f"out: cannot write to {target.parent} ({error.strerror or error}); choose another folder."
        ) from None
    return Store(target)


def _make(target: Any, template: xr.Dataset, alone: Sequence[str], block: int) -> None:
    """Write the arrays of `template`: its coordinates filled, its variables without a chunk."""
    encoding: dict[Any, Any] = {name: {"compressors": [integrity.CODEC]} for name in template.variables}
    encoding["seed"]["chunks"] = (template.sizes["seed"],)
    for name, variable in template.data_vars.items():
        encoding[name]["chunks"] = tuple(
            block if dim == "seed" else 1 if dim in alone else max(1, size) for dim, size in variable.sizes.items()
        )
    # One seed, and then room for the others: xarray would look into every chunk whether it is empty.
    one = template.isel(seed=slice(1))
    coordinates, variables = one.coords.to_dataset(), one.drop_vars(list(one.coords))
    for part, options in ((coordinates, {"mode": "w", "write_empty_chunks": True}), (variables, {"mode": "a"})):
        part.to_zarr(target, encoding={name: encoding[name] for name in part.variables}, **options, **_FORMAT)
    resume.make_room(target, template)


@contextlib.contextmanager
def _draft(target: Path, template: xr.Dataset, alone: Sequence[str], block: int) -> Iterator[Path]:
    """The files of `template` in a folder beside `target`, whose remains are removed in the end."""
    draft = target.with_name(f"{FILE}.draft")
    contents: dict[str, Any] = {}
    _make(zarr.storage.MemoryStore(contents), template, alone, block)
    shutil.rmtree(draft, ignore_errors=True)  # that of a run that was killed
    try:
        # One after the other: where one write is refused, zarr's others are still under way and put files back.
        for name, content in contents.items():
            file = draft / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.to_bytes())
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def load_results(out: str | Path) -> xr.Dataset:
    """The data set that a run left in folder `out`; seeds that are not finished are left out.

    Raises `UserError` where there is none, or where a file of it is damaged.
    """
    target = Path(out) / FILE
    require(target.exists(), f"{out} holds no results; run the study first, or name its folder with --out.")
    integrity.require_whole(target, integrity.damaged_metadata(target))
    integrity.require_whole(target, integrity.damaged_chunks(target))
    try:
        with xr.open_zarr(target, chunks=None, consolidated=False) as held:
            everywhere = [dim for dim in held.status.dims if dim != "seed"]
            finished = held.isel(seed=(held.status != MISSING).all(everywhere).values).load()
    except (OSError, ValueError):
        raise UserError(f"{target} cannot be read as a whole; repeat the command that made it.") from None
    require(finished.sizes["seed"] > 0, f"{out} holds no finished seed; repeat the command that made it.")
    return _in_order(finished)
