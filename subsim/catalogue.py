"""Where studies and figures are found: by name in a checkout or in the installed package, or by path."""

import ast
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from subsim.options import UserError, require

if TYPE_CHECKING:
    from subsim.engine.study import Study

PACKAGE = Path(__file__).resolve().parent


def _folders(kind: str) -> list[Path]:
    """Folders of `kind` (experiments or figures): the user's own, the wheel's, the checkout of an editable install."""
    return [Path(kind), PACKAGE / kind, PACKAGE.parent / kind]


def _is_path(study: str) -> bool:
    return study.endswith(".py") or "/" in study or "\\" in study


def study_file(study: str) -> Path:
    """The file of the study with this name or path; raises `UserError` where there is none."""
    if _is_path(study):
        require(
            Path(study).is_file() and study.endswith(".py"),
            f"{study} is not a .py file; name a study that `subsim list` shows, or give the path of one.",
        )
        return Path(study)
    return _named("experiments", study, f"there is no study {study!r}; `subsim list` shows those there are")


def figure_file(study: str) -> Path:
    """The file that draws the study with this name or path; raises `UserError` where there is none."""
    if not _is_path(study):
        return _named("figures", study, f"the study {study!r} has no figure")
    path = Path(study).resolve()
    figure = path.parent.parent / "figures" / path.name
    require(figure.is_file(), f"{study} has no figure: {figure} does not exist.")
    return figure


def has_figure(study: str) -> bool:
    """Whether a figure is at hand for the study with this name or path."""
    try:
        return figure_file(study).is_file()
    except UserError:
        return False


def _named(kind: str, name: str, otherwise: str) -> Path:
    for folder in _folders(kind):
        if (folder / f"{name}.py").is_file():
            return folder / f"{name}.py"
    raise UserError(f"{otherwise}, or give the path of a .py file.")


class Entry(NamedTuple):
    """What the list of studies says of one: its sentence and what it costs."""

    sentence: str
    cost: str = ""


def available() -> dict[str, Entry]:
    """Name -> entry of every study at hand, read without running it."""
    studies: dict[str, Entry] = {}
    for folder in reversed(_folders("experiments")):
        for path in sorted(folder.glob("*.py")):
            try:
                code = ast.parse(path.read_text())
                studies[path.stem] = Entry((ast.get_docstring(code) or "").split("\n")[0], _cost(code))
            except (SyntaxError, ValueError):
                studies[path.stem] = Entry("(cannot be read: it is no valid Python)")
    return dict(sorted(studies.items()))


def _cost(code: ast.Module) -> str:
    """The text that the call in `study = ...(..., cost="...")` gives, where it gives it as it is."""
    for node in code.body:
        match node:
            case ast.Assign(targets=[ast.Name(id="study")], value=ast.Call(keywords=keywords)):
                for keyword in keywords:
                    match keyword:
                        case ast.keyword(arg="cost", value=ast.Constant(value=str(cost))):
                            return cost
    return ""


def _module(path: Path, kind: str) -> ModuleType:
    """The module in the file at `path`, under a name of its own."""
    name = f"subsim_{kind}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their annotations up there
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise UserError(f"{path}, line {error.lineno}: {error.msg}; mend the {kind} file.") from None
    except (ImportError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be loaded: {error}; mend the file.") from None
    return module


def load_study(study: str) -> "Study":
    """The study with this name or path.

    Raises `UserError` where there is no such file, or where it has a syntax error or defines no `study`.
    """
    from subsim.engine.study import Study

    path = study_file(study)
    found = getattr(_module(path, "study"), "study", None)
    if not isinstance(found, Study):
        raise UserError(f"{path} defines no study; end it with study = subsim.Study(...).")
    return found


def load_claims(path: Path) -> list[Any]:
    """The list `claims` in the file at `path`; raises `UserError` where there is none."""
    from subsim.theory.claims import Claim

    require(path.is_file(), f"claims: {path} does not exist; give the path of a Python file that defines `claims`.")
    found: Any = getattr(_module(path, "claims"), "claims", None)
    require(
        isinstance(found, list) and len(found) > 0 and all(isinstance(claim, Claim) for claim in found),
        f"claims: {path} defines no claims; end it with claims = [subsim.theory.claims.lemma_of(...)].",
    )
    return list(found)


def load_figure(study: str) -> Callable[[Any], Any]:
    """The function `draw(results) -> matplotlib Figure` of the study with this name or path."""
    path = figure_file(study)
    draw = getattr(_module(path, "figure"), "draw", None)
    if not callable(draw):
        raise UserError(f"{path} defines no function draw(results).")
    return draw
