"""The command that makes a run again, and the options in which a run differs from its study's defaults."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from subsim.cli.arguments import RunOptions, parse_options, results_folder
from subsim.cli.words import sweep_of
from subsim.engine import store
from subsim.engine.axes import make as make_axes
from subsim.engine.declaration import plain
from subsim.engine.identity import flat
from subsim.engine.study import Study
from subsim.options import SMALLEST, Size, UserError

if TYPE_CHECKING:
    import xarray as xr


class Made(NamedTuple):
    """What a run was asked for, as its store says it: `parts` are config and hyper."""

    folder: Path
    parts: Mapping[str, Any]
    sweep: Mapping[str, Any]
    run: Mapping[str, Any]

    @classmethod
    def of(cls, folder: Path, attributes: Mapping[str, Any]) -> "Made":
        """The run in `folder`, whose store has these attributes."""
        run = {"seeds": store.finished(folder)[1]} | {name: attributes[name] for name in ("root_seed", "precision")}
        return cls(folder, {name: attributes[name] for name in ("config", "hyper")}, attributes["sweep"], run)

    def options(self) -> dict[str, Any]:
        """Return every option by its dotted name: how it is run, its axes, config and hyper."""
        found = dict(self.run) | {f"axis {name}": values for name, values in self.sweep.items()}
        for part in self.parts.values():
            found |= flat(part or {})
        return found


def repeating(study: Study, made: Made, where: str | None = None) -> str | None:
    """The shortest command that makes the run again, from what tells it from the study's defaults; None where there is
    none.

    `where` is the study's name, as by default, or the path of its file.
    """
    where = where or study.name
    commands = [words for size in _sizes(study) if (words := _words(study, where, size, made)) is not None]
    return shlex.join(["subsim", "run", where, *min(commands, key=len)]) if commands else None


def nearest_default(study: Study, made: Made, where: str | None = None) -> tuple[Size, Made]:
    """Return the size of the study whose defaults differ from `made` in the fewest options, and these defaults."""
    defaults = {size: _default(study.at_size(size), where or study.name, size) for size in _sizes(study)}
    size = min(defaults, key=lambda size: len(_changed(made, defaults[size])))
    return size, defaults[size]


def claim(study: Study, results: "xr.Dataset") -> str:
    """Return the claim of the study's finding, if the results were made with the study's own options at one size.

    "" for results of other options or axes, or of fewer seeds than the study's.
    """
    made = Made.of(Path(), results.attrs)
    for size in _sizes(study):
        there = study.at_size(size)
        own = _default(there, study.name, size)
        same = set(_changed(made, own)) <= {"seeds"} and made.sweep.keys() == own.sweep.keys()
        if same and results.sizes["seed"] >= there.seeds:
            return there.finding.partition(": ")[0].removesuffix(".")
    return ""


def _changed(made: Made, default: Made) -> list[str]:
    """The options of `made`, and how it is run, that are not as in `default`."""
    usual = default.options()
    return [name for name, value in made.options().items() if name not in usual or usual[name] != value]


def _sizes(study: Study) -> list[Size]:
    return [size for size in get_args(Size) if size == SMALLEST or size in study.sizes]


def _default(study: Study, where: str, size: Size) -> Made:
    """The run of the study, which is at this size already, that no flag changes."""
    return Made(
        results_folder(where, size),
        {"config": plain(study.config), "hyper": plain(study.hyper)},
        _axes(study, study.config, study.hyper, {}),
        {"seeds": study.seeds, "root_seed": 0, "precision": study.precision},
    )


def _words(study: Study, where: str, size: Size, made: Made) -> list[str] | None:
    """The flags of `made` in a run at this size; None where they do not make it."""
    study = study.at_size(size)
    default = _default(study, where, size)
    words = [] if size == SMALLEST else ["--size", size]
    for ours, theirs in ((made.parts, default.parts), (made.run, default.run)):
        usual = flat(theirs)
        for name, value in flat(ours).items():
            if name not in usual or usual[name] != value:
                words += _flag(name.removeprefix("config.").removeprefix("hyper."), value)
    for name, values in made.sweep.items():
        if default.sweep.get(name) != values:
            words += ["--sweep", f"{name}={','.join(map(_label, values))}"]
    try:
        options, config, hyper = parse_options(study, words, "", RunOptions, size=size, out=default.folder)
        sweep = _axes(study, config, hyper, sweep_of(options.sweep))
    except UserError:
        return None
    parts = {"config": plain(config), "hyper": plain(hyper)}
    again = Made(made.folder, parts, sweep, {name: getattr(options, name) for name in made.run})
    if again != made:
        return None
    return words if made.folder == default.folder else [*words, "--out", made.folder.as_posix()]


def _axes(study: Study, config: Any, hyper: Any, told: Mapping[str, Any]) -> dict[str, Any]:
    return {axis.name: plain(axis.values) for axis in make_axes(study.sweep(told), config, hyper, study.joint)}


def _flag(name: str, value: Any) -> list[str]:
    """The words that set an option on the command line."""
    flag = "--" + name.replace("_", "-")
    if isinstance(value, bool):
        group, _, last = flag.removeprefix("--").rpartition(".")
        return [flag] if value else [f"--{group}.no-{last}" if group else f"--no-{last}"]
    values = [str(item) for item in value] if isinstance(value, list) else [str(value)]
    return [f"{flag}={values[0]}"] if len(values) == 1 and values[0].startswith("-") else [flag, *values]


def _label(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, list) else str(value)
