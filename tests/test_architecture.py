"""The shape of the house: which room may import which."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PURE_CORE = [
    "network",
    "losses",
    "inputs",
    "training",
    "distillation",
    "measures",
    "traits",
    "factorisations",
    "theory",
]
HOST_ONLY = ["os", "pathlib", "xarray", "zarr", "matplotlib", "rich", "tyro", "subsim.engine"]


def imports(path: Path) -> set[str]:
    """Every module that a file names in an import, at any depth of the code; relative imports resolved."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
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
    path = ROOT / "subsim" / room
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


@pytest.mark.parametrize("room", PURE_CORE)
def test_pure_core_reaches_for_no_host(room):
    for file in files_of(room):
        offenders = {name for name in imports(file) if within(name, HOST_ONLY)}
        assert not offenders, f"{file.relative_to(ROOT)} imports {sorted(offenders)}"


@pytest.mark.parametrize("room", PURE_CORE)
def test_pure_core_knows_no_other_room(room):
    allowed = [f"subsim.{name}" for name in [*PURE_CORE, "options"]]
    for file in files_of(room):
        ours = {name for name in imports(file) if within(name, ["subsim"]) and name != "subsim"}
        offenders = {name for name in ours if not within(name, allowed)}
        assert not offenders, f"{file.relative_to(ROOT)} imports {sorted(offenders)}"


def test_engine_knows_no_theorem_and_no_mnist():
    allowed = ["subsim.engine", "subsim.options", "subsim.__version__"]
    for file in files_of("engine"):
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


@pytest.mark.parametrize("statement", ["import subsim.cli", "from subsim.cli import main; main(['list'])"])
def test_the_shell_starts_without_jax(statement):
    check = f"{statement}; import sys; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("figure", sorted((ROOT / "figures").glob("*.py")), ids=lambda path: path.stem)
def test_figures_draw_without_jax(figure):
    check = f"import runpy, sys; runpy.run_path({str(figure)!r}); assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True, cwd=ROOT)


def test_top_level_is_fixed():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.fail("the tests of the house need the git checkout")
    entries = {name.split("/")[0] for name in listed.stdout.splitlines()}
    plain = {"pyproject.toml", "subsim", "experiments", "figures", "tests"}
    plain |= {"README.md", "LICENSE", "CITATION.cff", "CHANGELOG.md"}
    assert {name for name in entries if not name.startswith(".")} <= plain
