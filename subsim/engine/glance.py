"""What a folder of results holds, at a glance: read from names and JSON alone, without jax, xarray or zarr."""

import json
import math
import os
from pathlib import Path

FILE = "run.zarr"  # the store of a run, in the folder of its results


def stores(root: Path) -> list[Path]:
    """The folders at and below `root` that hold a store, sorted."""
    found = []
    for folder, inner, _ in os.walk(root):
        if FILE in inner:
            found.append(Path(folder))
        # A store holds a file a chunk: it is not looked into, and neither is what is hidden.
        inner[:] = [name for name in inner if not name.startswith((".", FILE))]
    return sorted(found)


def seeds(folder: Path) -> tuple[int, int]:
    """(seeds whose chunks have begun everywhere, seeds with room) of the store in `folder`; (0, 0) where there is none
    that can be read."""
    try:
        status = folder / FILE / "status"
        array = json.loads((status / ".zarray").read_bytes())
        (room, *inner), (block, *pieces) = array["shape"], array["chunks"]
        everywhere = math.prod(math.ceil(size / piece) for size, piece in zip(inner, pieces, strict=True))
        chunks = [file.name.split(".")[0] for file in status.iterdir() if file.name[0].isdecimal()]
        begun = {int(first) for first in chunks if chunks.count(first) == everywhere}
        return sum(max(0, min(block, room - first * block)) for first in begun), room
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return 0, 0
