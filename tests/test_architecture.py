"""The shape of the house: which room may import which."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PURE = ["networks", "data", "training", "transfer", "theory"]
# What each room of the pure core may import beside itself, from the ground up.
BELOW = {
    "networks": ["options"],
    "data": ["options"],
    "training": ["options", "networks", "data"],
    "theory": ["options", "networks", "data", "training"],
    "transfer": ["options", "networks", "data", "training"],
    "claims": ["options", "networks", "data", "training", "theory", "transfer", "engine", "analysis"],
}
# These know the engine or the command line, because they make a study; or the machine, because they read files.
STUDIES = ["transfer/study.py", "transfer/options.py", "data/datasets.py"]
HOST_ONLY = ["os", "pathlib", "xarray", "zarr", "matplotlib", "rich", "tyro", "subsim.engine", "subsim.analysis"]
INTERNALS = ["jax.extend", "jax._src", "jax.core", "jax.interpreters", "jax.experimental"]
# File -> those of them that it may use, with the reason.
USES = {
    "subsim/engine/topology.py": {"jax.experimental.topologies": "TPUs that are not here have no other API"},
}


def imports(path: Path) -> set[str]:
    """Every module that a file names in an import, at any depth of the code; relative imports resolved."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            source = ".".join(base + ([node.module] if node.module else []))
            found |= {source} | {f"{source}.{alias.name}" for alias in node.names}
    return found


def within(module: str, parents: list[str]) -> bool:
    return any(module == parent or module.startswith(parent + ".") for parent in parents)


def files_of(room: str) -> list[Path]:
    files = sorted((ROOT / "subsim" / room).rglob("*.py"))
    assert files
    return files


@pytest.mark.parametrize("room", PURE)
def test_pure_core_reaches_for_no_host(room):
    for file in files_of(room):
        name = file.relative_to(ROOT / "subsim").as_posix()
        offenders = {name for name in imports(file) if within(name, HOST_ONLY)}
        assert not offenders or name in STUDIES, f"{name} imports {sorted(offenders)}"


@pytest.mark.parametrize("room", BELOW)
def test_a_room_imports_only_those_below(room):
    allowed = [f"subsim.{name}" for name in [room, *BELOW[room]]]
    for file in files_of(room):
        ours = {name for name in imports(file) if within(name, ["subsim"]) and name != "subsim"}
        offenders = {name for name in ours if not within(name, allowed)}
        name = file.relative_to(ROOT / "subsim").as_posix()
        assert not offenders or name in STUDIES, f"{name} imports {sorted(offenders)}"


@pytest.mark.parametrize(
    ("room", "allowed"),
    [
        ("engine", ["subsim.engine", "subsim.options", "subsim.__version__"]),
        ("analysis", ["subsim.analysis", "subsim.engine.study", "subsim.options"]),  # the study has the tables' type
    ],
)
def test_engine_and_analysis_know_no_theorem_and_no_mnist(room, allowed):
    for file in files_of(room):
        ours = {name for name in imports(file) if within(name, ["subsim"]) and name != "subsim"}
        offenders = {name for name in ours if not within(name, allowed)}
        assert not offenders, f"{file.relative_to(ROOT)} imports {sorted(offenders)}"


@pytest.mark.parametrize("folder", ["experiments", "figures"])
def test_studies_and_figures_stand_alone(folder):
    files = sorted((ROOT / folder).glob("*.py"))
    assert files
    for file in files:
        offenders = {name for name in imports(file) if within(name, ["experiments", "figures", "subsim.experiments"])}
        assert not offenders, f"{file.name} imports {sorted(offenders)}"


def test_every_study_has_its_figure():
    studies, figures = ({file.stem for file in (ROOT / folder).glob("*.py")} for folder in ("experiments", "figures"))
    assert studies == figures


def uses(code: str) -> set[str]:
    """The internal modules of jax that `code` imports, or reaches as attributes of one that it has imported."""
    tree, found, names = ast.parse(code), set(), {"jax": "jax"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            root, _, rest = ast.unparse(node).partition(".")
            found.add(f"{names.get(root, '')}.{rest}")
    found = {name for name in found if within(name, INTERNALS)}
    # Of `jax.core.Tracer.aval` and `jax.core.Tracer` the shorter says it all.
    return {name for name in found if not within(name, sorted(found - {name}))}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import jax.core", {"jax.core"}),
        ("import jax._src.core as inner", {"jax._src.core"}),
        ("from jax import core", {"jax.core"}),
        ("from jax.extend.core import jaxpr_as_fun", {"jax.extend.core.jaxpr_as_fun"}),
        ("def f():\n    from jax.experimental import pallas as pl\n    return pl.load", {"jax.experimental.pallas"}),
        ("import jax\nx = jax.core.Tracer.aval", {"jax.core"}),
        ("import jax as j\nx: j._src.core.Jaxpr", {"jax._src"}),
        ("from jax import interpreters as i\ni.mlir.lower()", {"jax.interpreters"}),
        ("import jax\njax.experimental.io_callback(f, None)", {"jax.experimental"}),
        ("import jax.numpy as jnp\nimport jax\njnp.core\njax.stages.Traced\ncore = 3\nself.core", set()),
    ],
)
def test_what_counts_as_an_internal_module_of_jax(code, found):
    assert uses(code) == found


def test_nothing_uses_what_jax_may_change_without_a_word():
    seen = {}
    for folder in ("subsim", "experiments", "figures", "tests"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            if found := uses(file.read_text(encoding="utf-8")):
                seen[file.relative_to(ROOT).as_posix()] = found
    assert seen == {file: set(modules) for file, modules in USES.items()}


@pytest.mark.parametrize(
    "statement",
    [
        "import subsim.cli",
        "from subsim.cli import main; main(['list'])",
        "from subsim.analysis import factorial, plotting, summary, tidy",  # a figure draws intervals
    ],
)
def test_the_shell_starts_without_jax(statement):
    check = f"{statement}; import sys; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def test_figures_draw_without_jax():
    """In one process, in which no figure may be the first that imports jax."""
    figures = [str(path) for path in sorted((ROOT / "figures").glob("*.py"))]
    assert figures
    check = (
        "import runpy, sys\n"
        f"for figure in {figures!r}:\n"
        "    runpy.run_path(figure)\n"
        "    assert 'jax' not in sys.modules, figure\n"
    )
    subprocess.run([sys.executable, "-c", check], check=True, cwd=ROOT)


def test_top_level_is_fixed():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.fail("the tests of the house need the git checkout")
    entries = {name.split("/")[0] for name in listed.stdout.splitlines()}
    plain = {"pyproject.toml", "subsim", "experiments", "figures", "tests"}
    plain |= {"README.md", "LICENSE", "CITATION.cff", "CHANGELOG.md"}
    assert {name for name in entries if not name.startswith(".")} <= plain


def opens_text(call: ast.Call) -> bool:
    """Whether a call opens, reads or writes a file as text in the machine's own encoding."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    words = [*call.args, *(each.value for each in call.keywords if each.arg == "mode")]
    modes = [word.value for word in words if isinstance(word, ast.Constant) and name == "open"]
    binary = any(isinstance(mode, str) and re.fullmatch("[rwxa+]*b[rwxa+]*", mode) for mode in modes)
    of_the_system = isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") == "os"
    told = any(each.arg == "encoding" for each in call.keywords)
    return name in ("open", "read_text", "write_text", "fdopen") and not (binary or of_the_system or told)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("open(path)", True), ("path.open('w')", True), ("path.read_text()", True), ("path.write_text(text)", True),
        ("gzip.open(path, 'rt')", True), ("open(path, newline='')", True), ("path.write_text('b')", True),
        ("open(path, 'rb')", False), ("path.open(mode='ab')", False), ("path.read_text(encoding='utf-8')", False),
        ("os.open(path, os.O_WRONLY)", False), ("path.read_bytes()", False),
    ],
)  # fmt: skip
def test_what_counts_as_text_without_an_encoding(code, found):
    assert opens_text(ast.parse(code, mode="eval").body) == found


@pytest.mark.parametrize("folder", ["subsim", "experiments", "figures"])
def test_text_is_read_and_written_in_a_named_encoding(folder):
    for file in sorted((ROOT / folder).rglob("*.py")):
        calls = [node for node in ast.walk(ast.parse(file.read_bytes())) if isinstance(node, ast.Call)]
        lines = [call.lineno for call in calls if opens_text(call)]
        assert not lines, f"{file.relative_to(ROOT)} opens text without encoding=... in lines {lines}"


def linalg_calls(file: Path) -> set[str]:
    """The functions of JAX's linear algebra that a file names, but norms, which are no factorisations."""
    modules = ("jnp.linalg", "jax.numpy.linalg", "jax.scipy.linalg", "jax.lax.linalg")
    nodes = ast.walk(ast.parse(file.read_bytes()))
    found = {node.attr for node in nodes if isinstance(node, ast.Attribute) and ast.unparse(node.value) in modules}
    return found - {"norm"}


def test_one_file_factorises_matrices():
    """A batch of matrices can stop a program on a CPU for ever; `factorisations` gives LAPACK one after the other."""
    one = ROOT / "subsim" / "data" / "factorisations.py"
    files = [file for folder in ("subsim", "experiments") for file in (ROOT / folder).rglob("*.py") if file != one]
    assert {"eigh", "qr", "cho_factor"} <= linalg_calls(one)
    assert {file.name: linalg_calls(file) for file in files if linalg_calls(file)} == {}
