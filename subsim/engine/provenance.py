"""What the values of a run depend on, and where and by what it was made."""

import dataclasses
import hashlib
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np

from subsim import __version__
from subsim.engine import joint, program, sources
from subsim.engine.axes import Axis
from subsim.engine.study import Precision, Study

# All that the values of a run depend on: runs that agree in these may share a store.
IDENTITY = ("study", "code_sha256", "config", "hyper", "sweep", "root_seed", "precision", "data_sha256")
_CODE = "code_sha256."  # begins the flat names of modules
# Where and by what a run was made. It may differ between the runs that share a store: all of them are recorded.
ORIGIN = ("versions", "python", "device", "commit", "created")


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


def code(study: Study) -> dict[str, str]:
    """Module -> sha256 of the code of every module that makes a run of `study`, the engine's program included."""
    return sources.code_of(study.make_run, program.make_one, joint.together)


def identity(
    study: Study, config: Any, hyper: Any, axes: Sequence[Axis], root_seed: int, precision: Precision, data: Any
) -> dict[str, Any]:
    """The entries of `IDENTITY`, in plain JSON values."""
    values = (
        study.name,
        code(study),
        plain(config),
        plain(hyper),
        {axis.name: plain(axis.values) for axis in axes},
        root_seed,
        precision,
        fingerprint(data),
    )
    return dict(zip(IDENTITY, values, strict=True))


def digest(identity: Mapping[str, Any]) -> str:
    """sha256 of an identity in canonical JSON."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`nested` without its nesting: dotted name -> value."""
    found: dict[str, Any] = {}
    for name, value in nested.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def differences(here: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What tells two identities apart, as words: the study where that differs, else every option that does."""
    if here["study"] != wanted["study"]:
        return f"the study {here['study']} and not {wanted['study']}"
    ours, theirs = flat(here), flat(wanted)
    names = [name for name in ours | theirs if ours.get(name) != theirs.get(name)]
    modules = [name.removeprefix(_CODE).removeprefix("subsim_study_") for name in names if name.startswith(_CODE)]
    more = [f"and {len(modules) - 5} more modules"] if len(modules) > 5 else []
    told = [f"other code in {', '.join(modules[:5] + more)}"] if modules else []
    for name in names:
        option = name.removeprefix("config.").removeprefix("hyper.")
        if name == "data_sha256":
            told.append("other data")
        elif not name.startswith(_CODE):
            told.append(f"{option} {ours.get(name)} and not {theirs.get(name)}")
    return ", ".join(told)


def origin() -> dict[str, Any]:
    """The entries of `ORIGIN`, for a run that starts here and now."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "xarray", "zarr")
    device = jax.devices()[0]
    return {
        "versions": {"subsim": __version__, **{name: importlib.metadata.version(name) for name in packages}},
        "python": platform.python_version(),
        "device": f"{device.platform} {device.device_kind}",
        "commit": _commit(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def is_new(origin: Mapping[str, Any], attributes: Mapping[str, Any]) -> bool:
    """Whether none of the runs that a store's `attributes` record is of this origin, but for the time."""
    known = [{name: attributes[name] for name in ORIGIN}, *attributes["continued_by"]]
    return all(any(run[name] != origin[name] for name in ORIGIN if name != "created") for run in known)


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
