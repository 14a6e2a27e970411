"""The identity of a run, which decides its numbers, and the origin of its seeds: versions, devices, cores."""

import functools
import importlib.metadata
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from subsim import __version__
from subsim.engine import settings
from subsim.engine.axes import Axis
from subsim.engine.declaration import MEANT, described, plain
from subsim.engine.devices import cores
from subsim.engine.digests import digest
from subsim.engine.program import Program
from subsim.engine.study import Precision, Study
from subsim.options import UserError

DECLARED = ("study", "config", "hyper", "sweep", "labels", "root_seed", "precision", "prng")
"""The entries that two runs of one store must share exactly."""
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "xarray", "zarr")
"""The packages whose versions an origin records."""


def declared(
    study: Study,
    config: Any,
    hyper: Any,
    axes: Sequence[Axis],
    labels: Mapping[str, Any],
    root_seed: int,
    precision: Precision,
) -> dict[str, Any]:
    """Return the entries of `DECLARED`, in plain JSON values."""
    sweep = {axis.name: plain(axis.values) for axis in axes}
    values = (study.name, plain(config), plain(hyper), sweep, plain(labels), root_seed, precision, settings.PRNG)
    # A store gives tuples back as lists.
    return json.loads(json.dumps(dict(zip(DECLARED, values, strict=True))))


def toolchain(mesh: Mesh) -> dict[str, str]:
    """Return the versions and the platform, on which the text of a lowered program depends beside the study."""
    versions = {name: importlib.metadata.version(name) for name in ("jax", "flax", "optax")}
    return versions | {"platform": mesh.devices.flat[0].platform}


def program_record(program: Program, place: str, meant: Mapping[str, Any], mesh: Mesh) -> dict[str, Any]:
    """Return the record that identifies the program at `place`.

    On one toolchain the hashes of the lowered program and of its data identify it. Its description stands in across
    toolchains, and where a part of the code runs on the host and is not lowered.
    """
    hashes = program.hashes()
    # The data of a study that runs on the host may be any object.
    hashes["data_sha256"] = hashes["data_sha256"] or digest(described(program.data))
    return {"place": place, "toolchain": toolchain(mesh), **hashes, **meant}


def record_key(record: Mapping[str, Any]) -> str:
    """Return the name under which a store keeps the record of a program."""
    return digest([record["place"], record["toolchain"]])[:16]


def recognise(record: Mapping[str, Any], known: Sequence[Mapping[str, Any]], folder: Any) -> str:
    """Compare a program with those of the same place that made the results in `folder`.

    Returns a sentence where another toolchain continues the run, and "" where the same one does. Raises `UserError`
    where the program is another.
    """
    known = [each for each in known if each["place"] == record["place"]]
    same_tools = [each for each in known if each["toolchain"] == record["toolchain"]]
    for each in same_tools or known:
        same_data = each["data_sha256"] == record["data_sha256"]
        lowered = same_tools and record["code_sha256"]
        same_code = not lowered or each["code_sha256"] == record["code_sha256"]
        if lowered and same_code and same_data:
            return ""
        words = differences(each, record, MEANT)
        if not words and not (same_code and same_data):
            words = "another program" if same_data else "other data"
        if words:
            raise UserError(
                f"out: {folder} holds another run, with {words}; choose another folder with --out, or remove this one."
            )
    if not known or same_tools:
        return ""
    return f"goes on with {_tools(record)} what {_tools(known[0])} began: the numbers agree to rounding"


def _tools(record: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in record["toolchain"].items())


def origin(mesh: Mesh) -> dict[str, Any]:
    """Return the versions, device, cores and commit that make seeds in this process."""
    device = mesh.devices.flat[0]
    return {
        "versions": {"subsim": __version__, **{name: importlib.metadata.version(name) for name in PACKAGES}},
        "python": platform.python_version(),
        "device": f"{device.platform} {device.device_kind}",
        "devices": mesh.size,
        "cores": cores(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "commit": _commit(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _commit() -> str | None:
    """Return the commit of this package's checkout, with a + where files differ from it; None outside a checkout."""
    git = functools.partial(subprocess.run, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    try:
        # An installed copy may lie inside somebody else's checkout: that commit says nothing about it.
        git(["git", "ls-files", "--error-unmatch", __file__])
        return git(["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def flat(nested: Any, prefix: str = "") -> dict[str, Any]:
    """Return `nested` without its nesting: dotted name -> value."""
    if isinstance(nested, list) and any(isinstance(item, Mapping | list) for item in nested):
        nested = dict(enumerate(nested))
    if not isinstance(nested, Mapping):
        return {prefix.removesuffix("."): nested}
    return {name: leaf for key, value in nested.items() for name, leaf in flat(value, f"{prefix}{key}.").items()}


def differences(held: Mapping[str, Any], wanted: Mapping[str, Any], entries: Sequence[str]) -> str:
    """Return the differences of two runs in these `entries`, in words; "" where there are none.

    Of the `sources`, only modules that both runs have loaded are compared.
    """
    words = []
    for entry in entries:
        if entry == "study" and held[entry] != wanted[entry]:
            return f"the study {held[entry]} and not {wanted[entry]}"
        if entry == "sources":
            both = sorted(held[entry].keys() & wanted[entry].keys())
            names = [name.removeprefix("subsim_study_") for name in both if held[entry][name] != wanted[entry][name]]
            more = f" and {len(names) - 5} more modules" if len(names) > 5 else ""
            words += [f"other code in {', '.join(names[:5])}{more}"] if names else []
            continue
        a, b = (flat({entry: part.get(entry)}) for part in (held, wanted))
        # To == no NaN is like another.
        differing = [name for name in a | b if json.dumps(a.get(name)) != json.dumps(b.get(name))]
        words += dict.fromkeys(_difference(name, a.get(name), b.get(name)) for name in differing)
    return ", ".join(words[:6]) + (f" and {len(words) - 6} more differences" if len(words) > 6 else "")


def _difference(name: str, held: Any, wanted: Any) -> str:
    short = _shortened(name)
    if name.endswith(".again"):
        return f"other {short}"
    if not any(re.fullmatch("[0-9a-f]{64}", str(value)) for value in (held, wanted)):
        return f"{short} {held} and not {wanted}"
    if None in (held, wanted):
        return f"{short} in one of them only"
    return f"other code in {short.removesuffix('.code')}" if short.endswith(".code") else f"other {short}"


def _shortened(name: str) -> str:
    """Return the dotted name of a difference without the parts that a user does not know."""
    left_out = (
        "config", "hyper", "declaration", "make_run", "make_joint_run", "enclosed", "reads", "arguments", "options",
        "function", "kind", "again", "0",
    )  # fmt: skip
    return ".".join(part for part in name.split(".") if part not in left_out) or name
