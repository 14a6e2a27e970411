"""Strict JAX for every test, and the small pieces that several tests are built from."""

import contextlib
import dataclasses
import errno
import functools
import gc
import gzip
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
import zarr

import subsim
from subsim.cli import commands
from subsim.data import datasets
from subsim.engine import program, runner, settings

ROOT = Path(__file__).resolve().parent.parent
# What one test compiles no other compiles again, in whichever process of this run: pytest's workers are its children.
PROGRAMS = Path(tempfile.gettempdir()) / (
    f"subsim-tests-{os.getppid() if 'PYTEST_XDIST_WORKER' in os.environ else os.getpid()}"
)
assert settings.keep_programs(PROGRAMS) is None

# A trace makes millions of small objects, most of which stay: Python's garbage collector would look through them again
# and again.
gc.set_threshold(50_000, 20, 100)

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
# The engine fixes both for itself, so that a user's shell cannot.
settings.rank_promotion, settings.dtype_promotion = "raise", "strict"


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


@contextlib.contextmanager
def silent_promotion():
    """Dtype promotion as optax's Adam and flax's LayerNorm need it: a float to an integer step, float64 and float32."""

    def set_to(value):
        settings.dtype_promotion = value
        jax.config.update("jax_numpy_dtype_promotion", value)  # in every thread: `verify` has some

    set_to("standard")
    try:
        yield
    finally:
        set_to("strict")


@pytest.fixture
def optax_promotion():
    """The `silent_promotion` of a whole test."""
    with silent_promotion():
        yield


def compares_bits(file: Path) -> bool:
    """Whether a file of tests is about programs as a user has them: what becomes of a seed, to the last bit."""
    return file.parent.name in ("engine", "gpu", "tpu") and file.stem not in (
        "test_declaration",
        "test_identity",
        "test_sources",
        "test_topology",
    )


@contextlib.contextmanager
def compiling(*, optimised):
    """XLA optimises the code that it generates, or does not."""

    def compiled(whole, plan, mesh):
        quickly = {**whole.compiler_options, "xla_backend_optimization_level": 0}
        return program.compile_program(whole._replace(compiler_options=quickly), plan, mesh)

    before = jax.config.read("jax_disable_most_optimizations")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "compile_program", program.compile_program if optimised else compiled)
        jax.config.update("jax_disable_most_optimizations", not optimised)
        yield
        jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module", autouse=True)
def _compiled_quickly(request):
    """Nothing is optimised but where bits are compared: what is tried elsewhere is a study's own code, a fraction of a
    second of work, and optimising it took most of the time."""
    with compiling(optimised=compares_bits(request.path)):
        yield


@pytest.fixture
def optimised():
    """Programs are optimised all the same in a test, as a user has them."""
    with compiling(optimised=True):
        yield


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    """A home, a cache and a working folder of the test's own: nothing that lies on the machine can decide a test."""
    for variable in ("SUBSIM_DATA", "KERAS_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def command(capsys):
    """Run a command; returns (exit status, what it printed, what it complained)."""

    def run(*words):
        status = 0
        try:
            commands.main([str(word) for word in words])
        except SystemExit as stop:
            status = stop.code or 0
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


@pytest.fixture
def tried(record_property):
    """Says what a drill tried, and how often, in the summary of the tests."""
    return functools.partial(record_property, "tried")


def pytest_unconfigure():
    if "PYTEST_XDIST_WORKER" not in os.environ:
        shutil.rmtree(PROGRAMS, ignore_errors=True)


def pytest_terminal_summary(terminalreporter):
    drills = [
        (report.nodeid.rpartition("::")[2], words)
        for report in terminalreporter.stats.get("passed", ())
        for name, words in report.user_properties
        if name == "tried"
    ]
    if drills:
        terminalreporter.section("drills")
    for test, words in sorted(drills):
        terminalreporter.line(f"{test}: {words}")


@pytest.fixture(scope="session")
def toy():
    """A study of no science that exercises the engine: records of every dimension, and a way to make a seed diverge."""

    def run(key, hyper):
        noise = jax.random.normal(key, (3,))
        first = jax.numpy.where(noise[0] > hyper["ceiling"], jax.numpy.nan, noise[0])
        return {"first": first, "all": noise * hyper["scale"], "bits": jax.random.bits(key, (), jax.numpy.uint32)}

    return subsim.Study(
        name="toy",
        title="A toy.",
        make_run=lambda config, data: run,
        config=ToyConfig(),
        hyper={"scale": 2.0, "ceiling": 1e9},
        coords={"place": ["a", "b", "c"]},
        variables={
            "first": subsim.Variable("the first number"),
            "all": subsim.Variable("all numbers", ("place",), "m"),
            "bits": subsim.Variable("what the key is"),
        },
        seeds=10,
        chunk=4,
    )


@dataclasses.dataclass(frozen=True)
class ToyConfig:
    size: int = 3
    """Nothing depends on it."""


class Disk:
    """What a store writes on disk: the files in order, and `before`, called with each before it is written.

    The last write of a new store is `run.zarr`, the name that its folder is given.
    """

    def __init__(self) -> None:
        self.files: list[str] = []
        self.before: Callable[[str], None] = lambda file: None

    def full_after(self, writes: int) -> None:
        """No space is left once that many files are written."""
        room = len(self.files) + writes

        def refuse(file: str) -> None:
            if len(self.files) >= room:
                raise OSError(errno.ENOSPC, "No space left on device")

        self.before = refuse


@pytest.fixture
def disk(monkeypatch):
    """A `Disk` that a test can fill, or halt a run with."""
    disk = Disk()

    @contextlib.contextmanager
    def writing(file):
        disk.before(file)
        yield
        disk.files.append(file)

    def watch(write):
        async def watched(store, key, value):
            with writing(key):
                await write(store, key, value)

        return watched

    def watch_sync(write):
        def watched(store, key, value):
            with writing(key):
                write(store, key, value)

        return watched

    rename = Path.rename

    def renamed(path, target):
        with writing(Path(target).name):
            return rename(path, target)

    for name, watched in (("set", watch), ("set_if_not_exists", watch), ("set_sync", watch_sync)):
        if hasattr(zarr.storage.LocalStore, name):  # which of them writes a chunk is each zarr's own choice
            monkeypatch.setattr(zarr.storage.LocalStore, name, watched(getattr(zarr.storage.LocalStore, name)))
    monkeypatch.setattr(Path, "rename", renamed)
    return disk


def files(out: Path) -> dict[str, object]:
    """Name -> content of every file of a store, but for the times in the origins, and their hash."""
    store = out / "run.zarr"
    found: dict[str, object] = {
        file.relative_to(store).as_posix(): file.read_bytes() for file in store.rglob("*") if file.is_file()
    }
    root = json.loads(found["zarr.json"])
    del root["attributes"]["origins"], root["attributes"]["sha256"]["origins"]
    return found | {"zarr.json": root}


def idx(array: np.ndarray) -> bytes:
    """The bytes of an IDX file with this array of 8-bit integers."""
    file = datasets.IdxFile("", array.shape, "")
    return file.header + array.astype(np.uint8).tobytes()


@pytest.fixture
def small_mnist(monkeypatch):
    """A data set named mnist of 12 + 4 images of 3x3 pixels, with hashes to match: name of file -> its IDX bytes."""
    import hashlib

    random = np.random.default_rng(0)
    arrays = {
        "train-images-idx3-ubyte": random.integers(0, 256, (12, 3, 3)),
        "train-labels-idx1-ubyte": random.integers(0, 10, 12),
        "t10k-images-idx3-ubyte": random.integers(0, 256, (4, 3, 3)),
        "t10k-labels-idx1-ubyte": random.integers(0, 10, 4),
    }
    contents = {name: idx(array) for name, array in arrays.items()}
    files = tuple(
        datasets.IdxFile(name, array.shape, hashlib.sha256(contents[name]).hexdigest())
        for name, array in arrays.items()
    )
    source = datasets.SOURCES["mnist"]._replace(files=files, mirrors=())
    monkeypatch.setitem(datasets.SOURCES, "mnist", source)
    return contents


def write_files(folder: Path, contents: dict[str, bytes], *, compress: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        path = folder / (f"{name}.gz" if compress else name)
        path.write_bytes(gzip.compress(content) if compress else content)
