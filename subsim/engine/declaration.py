"""Describe the functions of a study: the values that they enclose, and the hashes of the modules that are loaded.

Two runs are compared by their lowered programs. Where these differ, the description says in which option or module.
Where programs cannot be compared, as across versions of jax, the description is compared in their place.
"""

import dataclasses
import functools
import hashlib
import inspect
import json
import os
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import jax
import numpy as np

from subsim.engine.digests import fingerprint, plain_array
from subsim.engine.program import trace
from subsim.engine.study import Study

MEANT = ("declaration", "sources")
"""The entries of a study's meaning."""
_PACKAGE = Path(__file__).resolve().parent.parent
_OF_NO_NUMBERS = tuple(f"{_PACKAGE.name}.{room}" for room in ("engine", "analysis", "cli"))
_INSTALLED = tuple(
    os.path.join(os.path.realpath(sysconfig.get_path(name)), "")
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


def meaning(study: Study) -> dict[str, Any]:
    """Return the entries of `MEANT`, in plain JSON values. The study was traced, so that all its imports are loaded."""
    functions = {"make_run": study.make_run, "make_joint_run": study.make_joint_run, "run": study.run}
    modules: set[str] = set()
    declaration = described({name: function for name, function in functions.items() if function}, modules)
    return json.loads(json.dumps({"declaration": declaration, "sources": sources(modules)}))


def plain(value: Any) -> Any:
    """Return a config or a pytree of numbers as plain JSON values that a reader understands."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return plain_array(value).tolist()
    return described(value)


def described(value: Any, modules: set[str] | None = None) -> Any:
    """Return `value` in plain JSON values, with all that its functions enclose, and add the modules met to `modules`.

    The description is deterministic: it contains no address, and does not depend on the process or the Python version.
    A function without a file, as at a prompt, adds the hash of its code and the globals that it reads.
    """
    met = set[str]() if modules is None else modules
    kept: dict[int, tuple[int, Any]] = {}  # each is described once; kept alive, so that no id is used twice
    named: Counter[str] = Counter()

    def again(value: Any, name: str) -> dict[str, int]:
        """Return its number among the functions or objects of this name, if it was described before; else {}."""
        if id(value) in kept:
            return {"again": kept[id(value)][0]}
        named[name] += 1
        kept[id(value)] = named[name], value
        return {}

    def of_set(items: Iterable[Any], inside: Any) -> list[str]:
        """Describe items in any order: each as if it were the first, since a set has another order in every process."""
        nonlocal kept, named
        before, found = (kept, named), []
        for item in items:
            kept, named = before[0].copy(), before[1].copy()
            found.append(_words(inside(item)))
        kept, named = before
        return sorted(found)

    def walk(value: Any, within: tuple[int, ...]) -> Any:
        if isinstance(value, str | int | float | bool | None):
            return value
        if id(value) in within:
            return "(itself)"
        inside = functools.partial(walk, within=(*within, id(value)))
        if isinstance(value, np.ndarray | np.generic | jax.Array):
            return fingerprint([value]) if value.dtype != object else inside(value.tolist())
        if isinstance(value, ModuleType):
            met.add(value.__name__)
            return value.__name__
        met.add(getattr(value, "__module__", None) or "")
        if isinstance(value, type):
            methods = {name: method for name, method in vars(value).items() if _is_typed(method) and name[:2] != "__"}
            if "__call__" in vars(value) and _is_typed(value.__call__):
                methods["call"] = value.__call__
            return {"class": _name(value), **inside(methods)} if methods else _name(value)
        if isinstance(value, FunctionType):
            return of_function(value, inside)
        if isinstance(value, MethodType):
            return {"function": inside(value.__func__), "of": inside(value.__self__)}
        if isinstance(value, functools.partial):
            return {"function": inside(value.func), "arguments": inside(value.args), "options": inside(value.keywords)}
        if isinstance(value, Mapping):
            return {key if isinstance(key, str) else _words(inside(key)): inside(value[key]) for key in value}
        if isinstance(value, set | frozenset):
            return of_set(value, inside)
        if isinstance(value, tuple) and hasattr(value, "_asdict"):
            return {"kind": inside(type(value)), **inside(value._asdict())}
        if isinstance(value, list | tuple):
            return [inside(item) for item in value]
        if hasattr(value, "__wrapped__"):  # of jax.jit, say
            return inside(value.__wrapped__)
        if inspect.isroutine(value):
            return _name(value)
        if dataclasses.is_dataclass(value):
            parts = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        else:
            words, parts = repr(value), _attributes(value)
            if "0x" not in words and (not parts or type(value).__module__.partition(".")[0] in sys.stdlib_module_names):
                return words
        return {"kind": inside(type(value)), **(again(value, _name(type(value))) or inside(parts))}

    def of_function(function: FunctionType, inside: Any) -> Any:
        name = _name(function)
        if known := again(function, name):
            return {"function": name} | known
        free = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        more = {
            "enclosed": {name: inside(cell.cell_contents) for name, cell in free.items() if _is_filled(cell)},
            "defaults": inside([*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).items()]),
        }
        if _is_typed(function):
            space = function.__globals__
            more["code"] = _code(function)
            more["reads"] = {word: inside(space[word]) for word in sorted(_names(function.__code__)) if word in space}
        return {"function": name} | {kind: part for kind, part in more.items() if part}

    return walk(value, ())


def _is_typed(value: Any) -> bool:
    """Return whether `value` is a function without a file, as one typed at a prompt."""
    return isinstance(value, FunctionType) and not Path(value.__code__.co_filename).is_file()


def _attributes(value: Any) -> dict[str, Any]:
    """Return the attributes of an object. Its `repr` may leave some out, as that of a long table does."""
    slots = [vars(owner).get("__slots__", ()) for owner in type(value).__mro__]
    names = [name for each in slots for name in ((each,) if isinstance(each, str) else each)]
    return getattr(value, "__dict__", {}) | {name: getattr(value, name) for name in names if hasattr(value, name)}


def _name(value: Any) -> str:
    """Return the name of a function or class. A lambda adds its line, because all lambdas share one name."""
    name = f"{value.__module__}.{getattr(value, '__qualname__', getattr(value, '__name__', ''))}"
    return f"{name}:{value.__code__.co_firstlineno}" if name.endswith("<lambda>") else name


def _words(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _names(code: CodeType) -> set[str]:
    """Return all names that a function's code refers to, inner functions included."""
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _code(function: FunctionType) -> str:
    """Return the hash of a function's source, or of its bytecode where there is no source."""
    try:
        text = inspect.getsource(function)
    except (OSError, TypeError):
        text = _bytecode(function.__code__)
    return hashlib.sha256(text.encode()).hexdigest()


def _bytecode(code: CodeType) -> str:
    constants = [_bytecode(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts]
    return repr((code.co_code.hex(), code.co_names, constants))


def sources(met: Iterable[str]) -> dict[str, str]:
    """Return module -> sha256 of its text, for the loaded modules that can decide a number of this run.

    Left out are installed packages, whose versions are recorded; the engine but for its tracing, analysis and cli; and
    the scripts and study files that are not among the modules `met`.
    """
    found = {}
    for name, module in sorted(sys.modules.copy().items()):
        file = os.path.realpath(getattr(module, "__file__", None) or "")
        if file.startswith(os.path.join(_PACKAGE, "")):
            counts = name == trace.__module__ or (not name.startswith(_OF_NO_NUMBERS) and name != _PACKAGE.name)
        else:
            counts = not file.startswith(_INSTALLED)
        if name.startswith((f"{_PACKAGE.name}_", "__")):
            counts &= name in met
        if counts and file.endswith(".py") and os.path.isfile(file):
            found[name] = hashlib.sha256(Path(file).read_bytes().replace(b"\r\n", b"\n")).hexdigest()
    return found
