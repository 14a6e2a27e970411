"""Find studies and figures by name, in a checkout or in the installed package, or by path."""

import ast
import importlib
import os
import sys
import traceback
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from subsim.options import UserError, nearest, require

if TYPE_CHECKING:
    from subsim.engine.study import Study

PACKAGE = Path(__file__).resolve().parent.parent
_FOLDERS: list[str] = []  # the folder of the file that was loaded last; it is on `sys.path`


def _folders(kind: str) -> list[Path]:
    """Return the folders of `kind` (experiments or figures): the user's, the wheel's, and an editable install's."""
    return [Path(kind), PACKAGE / kind, PACKAGE.parent / kind]


def _is_path(study: str) -> bool:
    return study.endswith(".py") or "/" in study or "\\" in study


def study_file(study: str) -> Path:
    """Return the file of the study with this name or path; raise `UserError` if there is none."""
    if _is_path(study):
        require(
            os.path.exists(study) or not study.endswith(".py"),
            f"{study} does not exist; name a study that `subsim list` shows, or give the path of a .py file.",
        )
        require(
            os.path.isfile(study) and study.endswith(".py"),  # isfile is False for an impossible path, too
            f"{study} is not a .py file; name a study that `subsim list` shows, or give the path of one.",
        )
        return Path(study)
    file = _named("experiments", study)
    if file is None:
        near = nearest(study, (path.stem for folder in _folders("experiments") for path in folder.glob("*.py")))
        raise UserError(
            f"there is no study {study!r}{near}; choose one that `subsim list` shows, or give the path of a .py file."
        )
    return file


def has_study(name: str) -> bool:
    """Return whether there is a study of this name; False for a path."""
    return not _is_path(name) and _named("experiments", name) is not None


def figure_file(study: str) -> Path:
    """Return the figure file of the study with this name or path; raise `UserError` if there is none."""
    if not _is_path(study):
        figure = _named("figures", study)
        if figure is None:
            raise UserError(
                f"the study {study!r} has no figure; draw any of its dimensions with --x, "
                "or give the path of a .py file."
            )
        return figure
    path = Path(study).resolve()
    below, beside = (folder / "figures" / path.name for folder in (path.parent, path.parent.parent))
    figure = below if os.path.isfile(below) else beside
    require(
        os.path.isfile(figure), f"{study} has no figure in {below} or {beside}; draw any of its dimensions with --x."
    )
    return figure


def has_figure(study: str) -> bool:
    """Return whether the study with this name or path has a figure."""
    try:
        return figure_file(study).is_file()
    except UserError:
        return False


def _named(kind: str, name: str) -> Path | None:
    """Return the file of this kind and name; None if there is none."""
    files = (folder / f"{name}.py" for folder in _folders(kind))
    return next((file for file in files if os.path.isfile(file)), None)


class Entry(NamedTuple):
    """One row of the list of studies: its question, its finding and its cost."""

    sentence: str
    finding: str = ""
    cost: str = ""


def available() -> dict[str, Entry]:
    """Return the entries of all studies by name, read without running them; other modules are left out."""
    studies: dict[str, Entry] = {}
    for folder in reversed(_folders("experiments")):
        for path in sorted(folder.glob("*.py")):
            try:
                code = ast.parse(path.read_bytes())  # bytes, because a file may declare its encoding
                if _names_a_study(code):
                    studies[path.stem] = Entry((ast.get_docstring(code) or "").split("\n")[0], **_texts(code))
            except (SyntaxError, ValueError):
                studies[path.stem] = Entry("(cannot be read: it is not valid Python)")
            except OSError as error:
                studies[path.stem] = Entry(f"(cannot be read: {error.strerror})")
    return dict(sorted(studies.items()))


def _names_a_study(code: ast.Module) -> bool:
    """Return whether the code assigns or imports anything as `study`."""
    for node in ast.walk(code):
        match node:
            case ast.Name(id="study", ctx=ast.Store()) | ast.alias(name="study") | ast.alias(asname="study"):
                return True
    return False


def _texts(code: ast.Module) -> dict[str, str]:
    """Return the finding and the cost in the call `study = ...(..., cost="...")`, if they are plain text."""
    found: dict[str, str] = {}
    for node in code.body:
        match node:
            case ast.Assign(targets=[ast.Name(id="study")], value=ast.Call(keywords=keywords)):
                for keyword in keywords:
                    match keyword:
                        case ast.keyword(arg="finding" | "cost" as name, value=ast.Constant(value=str(text))):
                            found[name] = text
    return found


def _module(path: Path, kind: str) -> ModuleType:
    """Load the file at `path` anew as a new module; it can import the modules in its folder, as under `python FILE`.

    If the file raises, this raises `UserError` with the file's line.
    """
    name, folder = f"subsim_{kind}_{path.stem}", str(path.resolve().parent)
    _put_first(folder)
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module  # dataclasses look their annotations up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name)
        if before:  # an earlier valid version of the file, which may still be in use
            sys.modules[name] = before
        if isinstance(error, UserError):
            raise
        _require_a_device(error)
        raise UserError(f"{_place(error, path)}: {_in_words(error)}; mend the {kind} file.") from None
    return module


def _put_first(folder: str) -> None:
    """Put `folder` first on the import path, in place of the folder of the last study.

    Modules of both folders are read anew: they may have changed, or have the same names.
    """
    sys.dont_write_bytecode = True  # a cached file that changed within a second counts as the old one
    for earlier in {*_FOLDERS, folder}:
        sys.path[:] = [path for path in sys.path if path != earlier]
        for name, module in list(sys.modules.items()):
            path = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), "")
            inside = os.path.normpath(path).startswith(os.path.join(earlier, ""))  # pathlib would take 0.1 seconds
            if inside and not name.startswith(("subsim.", "subsim_")):
                del sys.modules[name]
    _FOLDERS[:] = [folder]
    sys.path.insert(0, folder)
    importlib.invalidate_caches()


def _require_a_device(error: BaseException) -> None:
    """Raise a `UserError` if jax finds no device, which may be the cause of `error`."""
    if "jax" in sys.modules and isinstance(error, RuntimeError | AssertionError):
        from subsim.engine.devices import local_mesh

        local_mesh()


def _place(error: BaseException, path: Path) -> str:
    """Return the file and line where `error` was raised, in the file at `path` or a module in its folder."""
    folder, file, line = path.resolve().parent, path, None
    for frame, number in traceback.walk_tb(error.__traceback__):
        if os.path.isfile(frame.f_code.co_filename) and folder in Path(frame.f_code.co_filename).resolve().parents:
            file, line = Path(frame.f_code.co_filename), number
    if isinstance(error, SyntaxError) and os.path.isfile(error.filename or ""):
        file, line = Path(str(error.filename)), error.lineno
    beside = path.parent / os.path.relpath(file.resolve(), folder)
    return f"{beside}, line {line}" if line else str(beside)


def _in_words(error: BaseException) -> str:
    """Return the type of `error` and the first line of its message."""
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    first = said.strip().partition("\n")[0].rstrip(".;: ")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def load_study(study: str) -> "Study":
    """Load the study with this name or path.

    Raises `UserError` if there is no such file, or if the file raises an error or defines no `study`.
    """
    from subsim.engine.study import Study

    path = study_file(study)
    found = getattr(_module(path, "study"), "study", None)
    if not isinstance(found, Study):
        raise UserError(f"{path} defines no `study` that is a subsim.Study; end it with study = subsim.Study(...).")
    return found


def load_claims(path: Path) -> list[Any]:
    """Load the list `claims` from the file at `path`; raise `UserError` if there is none."""
    from subsim.claims.claims import Claim

    require(
        os.path.isfile(path), f"claims: {path} does not exist; give the path of a Python file that defines `claims`."
    )
    found: Any = getattr(_module(path, "claims"), "claims", None)
    require(
        isinstance(found, list) and len(found) > 0 and all(isinstance(claim, Claim) for claim in found),
        f"claims: {path} defines no claims; end it with claims = [subsim.claims.claims.lemma_of(...)].",
    )
    return list(found)


def load_figure(study: str) -> Callable[[Any], Any]:
    """Load the function `draw(results) -> matplotlib Figure` of the study with this name or path."""
    path = figure_file(study)
    draw = getattr(_module(path, "figure"), "draw", None)
    if not callable(draw):
        raise UserError(f"{path} defines no function draw(results).")
    return draw
