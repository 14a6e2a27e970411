"""The files of code that a run is made by: those of its functions, and all that these import."""

import ast
import functools
import hashlib
import importlib.util
import linecache
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CellType, MethodType
from typing import Any

_PACKAGE = Path(__file__).resolve().parent.parent
_INSTALLED = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")]


def code_of(*functions: Any) -> dict[str, str]:
    """Module -> sha256 of its code, of every module that `functions` are defined in and that those import in turn.

    Comments, spacing and docstrings do not count. Installed packages, this one aside, are left out: their versions are
    recorded. So is what has no file, such as a function typed at the prompt of an interpreter.
    """
    waiting, found = list(_modules(functions, {})), dict[str, str]()
    while waiting:
        name = waiting.pop()
        source = None if name in found else _source(name)
        if source is not None:
            found[name], imported = _read(source, name)
            waiting.extend(imported)
    return dict(sorted(found.items()))


def _modules(value: Any, seen: dict[int, Any]) -> Iterator[str]:
    """The modules that define a function, and those of what it holds: wrapped, bound, in a closure or collection."""
    if id(value) in seen:
        return
    seen[id(value)] = value
    parts: list[Any] = []
    if isinstance(value, functools.partial):
        parts = [value.func, value.args, value.keywords]
    elif isinstance(value, MethodType):
        parts = [value.__func__, value.__self__]
    elif isinstance(value, Mapping):
        parts = list(value.values())
    elif isinstance(value, list | tuple | set | frozenset):
        parts = list(value)
    elif callable(value):
        yield getattr(value, "__module__", None) or ""
        parts = [cell.cell_contents for cell in getattr(value, "__closure__", None) or () if _is_filled(cell)]
        parts.append(getattr(value, "__wrapped__", None))
    for part in parts:
        yield from _modules(part, seen)


def _is_filled(cell: CellType) -> bool:
    """Whether a function's variable from outside has its value by now."""
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _file(module: str) -> str | None:
    """The file of a module that is loaded or could be; None where there is no such module, or no file."""
    if module in sys.modules:
        return getattr(sys.modules[module], "__file__", None)
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return found.origin if found else None


def _source(module: str) -> str | None:
    """The text of a module, where it is this package's or no installed one."""
    file = _file(module)
    if file is None or not file.endswith(".py"):
        return None
    path = Path(file).resolve()
    if not path.is_relative_to(_PACKAGE) and any(path.is_relative_to(folder) for folder in _INSTALLED):
        return None
    return "".join(linecache.getlines(file))


@functools.cache
def _read(source: str, module: str) -> tuple[str, tuple[str, ...]]:
    """sha256 of a module's code, and the names of the modules that it imports."""
    tree, imported, known_as = _Code().visit(ast.parse(source)), list[str](), dict[str, str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported += [name.name for name in node.names]
            known_as |= {name.asname or name.name.split(".")[0]: name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            base = importlib.util.resolve_name(relative, module.rpartition(".")[0])
            imported += [_home(base, name.name) for name in node.names]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known_as:
            imported.append(_home(known_as[node.value.id], node.attr))
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest(), tuple(imported)


def _home(module: str, name: str) -> str:
    """The module of which `name` in `module` is: itself one, or one that lends it there, or `module`."""
    inner = f"{module}.{name}"
    if _file(inner) is not None:
        return inner
    return getattr(getattr(sys.modules.get(module), name, None), "__module__", None) or module


class _Code(ast.NodeTransformer):
    """Leaves out what no run executes: docstrings, what is for type checkers, and what makes a file a script."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        left_out = ast.unparse(node.test) in ("TYPE_CHECKING", "__name__ == '__main__'") and not node.orelse
        return None if left_out else self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else node
