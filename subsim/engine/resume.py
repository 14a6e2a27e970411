"""Going on with the store that an earlier run left: is it this run's, is it whole, and has it room?"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from subsim.engine import integrity, provenance
from subsim.options import require

Draft = Callable[[int], AbstractContextManager[Path]]  # seeds of a block -> the template's files in a folder


def make_ready(target: Path, template: xr.Dataset, draft: Draft, repair: bool) -> None:
    """Check that the store at `target` holds the run of `template` and is whole, and make room for the seeds asked for.

    With `repair`, what is damaged is made anew or marked as missing. Raises `UserError` where the run cannot go on.
    """
    damaged = integrity.damaged_metadata(target)
    integrity.require_whole(target, damaged, repair)
    check_same_run(target, template)
    attributes = integrity.attributes(target)
    _mend(target, damaged, draft)
    for unfinished in target.rglob("*.partial"):  # what zarr leaves of a write in whose midst a run was killed
        unfinished.unlink()
    arrays = make_room(target, template)
    damaged = integrity.damaged_chunks(target)
    integrity.require_whole(target, damaged, repair)
    _mend(target, damaged, draft)
    origin = {name: template.attrs[name] for name in provenance.ORIGIN}
    n_seeds = template.sizes["seed"]
    if provenance.is_new(origin, attributes) and (arrays["status"][:n_seeds] == integrity.MISSING).any():
        integrity.seal(target, continued_by=[*attributes["continued_by"], origin])


def check_same_run(target: Path, template: xr.Dataset) -> None:
    """Raise `UserError` where the run of `template` may not go on with the store at `target`."""
    folder, here, wanted = target.parent, integrity.attributes(target), template.attrs
    ours, theirs = ({name: attributes.get(name) for name in provenance.IDENTITY} for attributes in (here, wanted))
    # Another jax or device agrees to rounding, and is recorded; other code of ours may mean other numbers.
    require(
        ours == theirs,
        f"out: {folder} holds another run, with {provenance.differences(ours, theirs)}; "
        "choose another folder with --out, or remove this one.",
    )


def _mend(target: Path, damaged: Sequence[integrity.Damage], draft: Draft) -> None:
    """Make damaged chunks missing; write metadata again, and the values of coordinates."""
    chunks = {damage.chunk for damage in damaged if damage.chunk is not None}
    if chunks:  # found only where the metadata, which say what a chunk is, are whole
        integrity.discard(target, chunks)
    arrays = {damage.file.split("/")[0] for damage in damaged if damage.chunk is None}
    if not arrays:
        return
    with draft(integrity.attributes(target)["plan"]["chunk"]) as fresh:
        for file in list(fresh.rglob("*")):
            if file.is_file() and file.relative_to(fresh).parts[0] in arrays:
                (target / file.relative_to(fresh)).parent.mkdir(exist_ok=True)
                file.replace(target / file.relative_to(fresh))
    integrity.seal(target)


def make_room(target: Any, template: xr.Dataset) -> dict[str, Any]:
    """The arrays of the store at `target` that have the dimension `seed`, with room for the seeds of `template`."""
    group: Any = zarr.open_group(target, mode="r+", zarr_format=2)
    arrays = {name: array for name, array in group.arrays() if array.attrs["_ARRAY_DIMENSIONS"][0] == "seed"}
    shapes = {name: variable.shape[1:] for name, variable in template.variables.items() if variable.dims[0] == "seed"}
    require(
        {name: array.shape[1:] for name, array in arrays.items()} == shapes,
        f"out: {target} holds a run that recorded other variables; choose another folder with --out.",
    )
    # Room is made array by array. A stop in between leaves them of different lengths, which the next opening evens out.
    longest = max(template.sizes["seed"], *(array.shape[0] for array in arrays.values()))
    for array in arrays.values():
        if array.shape[0] < longest:
            array.resize((longest, *array.shape[1:]))
    if not _counts(arrays["seed"]):
        arrays["seed"][:] = np.arange(longest)
    return arrays


def _counts(seed: Any) -> bool:
    """Whether the coordinate can be read, and is 0, 1, 2, ..."""
    try:
        return bool((seed[:] == np.arange(seed.shape[0])).all())
    except (RuntimeError, ValueError):
        return False
