"""The command `subsim new`, which writes a template of a study and its figure."""

import re
import sys
import sysconfig
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Annotated

import tyro

from subsim.cli import catalogue
from subsim.cli.terminal import say
from subsim.cli.writing import write_refusals
from subsim.options import require

TEMPLATES = Path(__file__).resolve().parent / "templates"


def new(name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")], to: Path = Path()) -> None:
    """Write a template of a study, NAME.py, and of its figure, figures/NAME.py; both run without changes.

    Args:
        name: letters, digits and underscores; the name of the study, its file and its results.
        to: folder for both files.
    """
    files = {"study": to / f"{name}.py", "figure": to / "figures" / f"{name}.py"}
    require_name(name)
    for path in files.values():
        require(not path.exists(), f"{path} exists already; choose another name, or another folder with --to.")
    for kind, path in files.items():
        text = (TEMPLATES / f"{kind}.py").read_text(encoding="utf-8").replace("NAME", name)
        with write_refusals("to", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8", newline="") as file:
                file.write(text)
    study = files["study"].as_posix()
    where = study if to.is_absolute() else f"./{study}"
    say(f"Study: {study}\nFigure: {files['figure'].as_posix()}")
    say(f"Run and draw it: subsim run {where} && subsim figure {where}")


def require_name(name: str) -> None:
    """Raise `UserError` unless a study's file can have this name without hiding another study or module."""
    fits = re.fullmatch(r"[A-Za-z]\w{0,63}", name, re.ASCII)
    require(bool(fits), f"NAME is {name!r}; write a letter, and then letters, digits and underscores.")
    require(not catalogue.has_study(name), f"NAME: there is a study {name} already, see `subsim list`; choose another.")
    # A file in a study's folder hides an installed module of the same name.
    installed = PathFinder.find_spec(name, [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    taken = name in ("subsim", "all", *sys.stdlib_module_names) or installed is not None
    require(not taken, f"NAME: {name} is the name of a Python module, which the file would hide; choose another.")
