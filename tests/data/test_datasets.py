import gzip
import http.server
import io
import threading

import numpy as np
import pytest
from conftest import idx, write_files
from rich.console import Console

from subsim import UserError
from subsim.data import datasets


def same_as(contents, data):
    train = np.frombuffer(contents["train-images-idx3-ubyte"], np.uint8, offset=16).reshape(12, 9)
    labels = np.frombuffer(contents["t10k-labels-idx1-ubyte"], np.uint8, offset=8)
    np.testing.assert_array_equal(data.train_images, train)
    np.testing.assert_array_equal(data.test_labels, labels)
    return True


def test_idx_headers_are_the_formats():
    assert datasets.IdxFile("", (60_000, 28, 28), "").header.hex() == "000008030000ea600000001c0000001c"
    assert datasets.IdxFile("", (10_000,), "").size == 10_008


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("place", ["mnist", "MNIST/raw"])
def test_files_are_found_in_the_users_folder(small_mnist, tmp_path, monkeypatch, place, compress):
    monkeypatch.setenv("SUBSIM_DATA", str(tmp_path / "mine"))
    write_files(tmp_path / "mine" / place, small_mnist, compress=compress)
    assert same_as(small_mnist, datasets.load("mnist"))


def test_copies_of_other_tools_are_found(small_mnist, tmp_path):
    write_files(tmp_path / "data" / "MNIST" / "raw", small_mnist, compress=False)  # torchvision, root "data"
    assert same_as(small_mnist, datasets.load("mnist"))


def test_keras_npz_is_found(small_mnist, tmp_path):
    folder = tmp_path / "home" / ".keras" / "datasets"
    folder.mkdir(parents=True)
    names = {"x_train": "train-images", "y_train": "train-labels", "x_test": "t10k-images", "y_test": "t10k-labels"}
    arrays = {}
    for key, start in names.items():
        file = next(file for file in datasets.SOURCES["mnist"].files if file.name.startswith(start))
        arrays[key] = np.frombuffer(small_mnist[file.name], np.uint8, offset=len(file.header)).reshape(file.shape)
    np.savez(folder / "mnist.npz", **arrays)
    assert same_as(small_mnist, datasets.load("mnist"))
    arrays["x_train"] = arrays["x_train"] ^ 1
    np.savez(folder / "mnist.npz", **arrays)
    with pytest.raises(UserError, match=r"mnist\.npz should have the sha256"):
        datasets.load("mnist")


@pytest.mark.parametrize("damage", ["truncated", "flipped", "npy", "empty"])
def test_a_damaged_npz_is_named_in_one_sentence(small_mnist, tmp_path, damage):
    path = tmp_path / "home" / ".keras" / "datasets" / "mnist.npz"
    path.parent.mkdir(parents=True)
    np.savez(path, x_train=np.zeros((12, 3, 3), np.uint8))
    content = path.read_bytes()
    middle = len(content) // 3
    if damage == "npy":
        np.save(path.with_suffix(".npy"), np.zeros(3))
        content = path.with_suffix(".npy").read_bytes()
    path.write_bytes(
        {
            "truncated": content[:-30],
            "flipped": content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :],
            "npy": content,
            "empty": b"",
        }[damage]
    )
    with pytest.raises(UserError, match=r"mnist\.npz has no readable array 'x_train'"):
        datasets.load("mnist")


def test_sets_that_share_file_names_do_not_block_each_other(small_mnist, tmp_path, monkeypatch):
    monkeypatch.setenv("SUBSIM_DATA", str(tmp_path))
    write_files(tmp_path / "fashion_mnist", dict.fromkeys(small_mnist, b"another set"), compress=True)
    write_files(tmp_path / "mnist", small_mnist, compress=True)
    assert same_as(small_mnist, datasets.load("mnist"))


@pytest.mark.parametrize("name", ["nowhere", "x" * 300])
def test_a_data_folder_that_is_none_is_refused(small_mnist, tmp_path, monkeypatch, name):
    monkeypatch.setenv("SUBSIM_DATA", str(tmp_path / name))
    with pytest.raises(UserError, match=rf"SUBSIM_DATA names .*{name}"):
        datasets.load("mnist")


def test_the_users_folder_comes_first(small_mnist, tmp_path, monkeypatch):
    monkeypatch.setenv("SUBSIM_DATA", str(tmp_path / "mine"))
    write_files(tmp_path / "mine" / "mnist", small_mnist, compress=True)
    write_files(datasets.cache_folder("mnist"), dict.fromkeys(small_mnist, b"junk"), compress=False)
    assert same_as(small_mnist, datasets.load("mnist"))


DAMAGES = {
    "truncated": (lambda content: gzip.compress(content)[:-20], "truncated or damaged gzip"),
    "short": (lambda content: gzip.compress(content[:-1]), "should hold 124 decompressed bytes, but holds 123"),
    "oversized": (lambda content: gzip.compress(content + b"\0" * 1000), "should hold 124 .* bytes, but holds more"),
    "altered": (lambda content: gzip.compress(content[:-1] + bytes([content[-1] ^ 1])), "should have the sha256"),
    "magic": (
        lambda content: gzip.compress(b"\0\0\x08\x01" + content[4:]),
        "number 0x00000801, not 0x00000803",
    ),
    "html": (lambda content: b"<html>no such file</html>", "truncated or damaged gzip"),
    "empty": (lambda content: b"", "magic number|truncated"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_in_one_sentence(small_mnist, tmp_path, monkeypatch, damage):
    monkeypatch.setenv("SUBSIM_DATA", str(tmp_path))
    write_files(tmp_path / "mnist", small_mnist, compress=True)
    bad = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    spoil, words = DAMAGES[damage]
    bad.write_bytes(spoil(small_mnist["train-images-idx3-ubyte"]))
    with pytest.raises(UserError, match=words) as error:
        datasets.load("mnist")
    sentence = str(error.value)
    assert sentence.startswith(str(bad))
    assert sentence.endswith("--data mnist5k.")
    assert "\n" not in sentence


@pytest.fixture
def mirror(small_mnist, monkeypatch):
    """A web server on this machine, `pages` its content by path; the second of two mirrors, the first being empty."""
    pages, requests = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            content = pages.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(pages.get(("length", self.path), len(content or b""))))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    root = f"http://127.0.0.1:{server.server_address[1]}"
    source = datasets.SOURCES["mnist"]._replace(mirrors=(f"{root}/first/", f"{root}/second/"))
    monkeypatch.setitem(datasets.SOURCES, "mnist", source)
    for name, content in small_mnist.items():
        pages[f"/second/{name}.gz"] = gzip.compress(content)
    yield pages, requests
    server.shutdown()
    server.server_close()
    thread.join()


def cached():
    folder = datasets.cache_folder("mnist")
    return sorted(path.name for path in folder.rglob("*")) if folder.exists() else []


def test_a_download_is_verified_and_kept(small_mnist, mirror, capsys):
    _, requests = mirror
    assert same_as(small_mnist, datasets.load("mnist"))
    assert "fetching mnist: train-images-idx3-ubyte.gz" in capsys.readouterr().err  # a line, where no bar can be seen
    assert cached() == sorted(f"{name}.gz" for name in small_mnist)
    assert len(requests) == 8  # each of four files: the first mirror lacks it, the second has it
    assert same_as(small_mnist, datasets.load("mnist"))
    assert len(requests) == 8


@pytest.mark.parametrize(
    ("width", "title", "bar"), [(30, False, False), (40, False, False), (80, True, False), (120, True, True)]
)
def test_a_download_shows_bytes_rate_and_time_left_at_any_width(monkeypatch, width, title, bar):
    monkeypatch.setenv("COLUMNS", str(width))
    progress = datasets._Bar("mnist: train-images-idx3-ubyte.gz")
    progress.total = 10_000_000
    progress.update(5_000_000)
    screen = io.StringIO()
    Console(width=width, file=screen).print(progress._progress.make_tasks_table(progress._progress.tasks))
    (line,) = screen.getvalue().splitlines()
    for words, shown in (("5.0/10.0 MB", True), ("?", True), ("-:--:--", True), ("mnist:", title), ("━", bar)):
        assert (words in line) == shown


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_bad_download_tries_the_next_mirror_and_keeps_nothing(small_mnist, mirror, damage):
    pages, _ = mirror
    name = "/first/train-images-idx3-ubyte.gz"
    spoil, words = DAMAGES[damage]
    pages[name] = spoil(small_mnist["train-images-idx3-ubyte"])
    assert same_as(small_mnist, datasets.load("mnist"))
    for file in datasets.cache_folder("mnist").iterdir():
        file.unlink()
    pages["/second/train-images-idx3-ubyte.gz"] = pages[name]
    with pytest.raises(UserError, match=words) as error:
        datasets.load("mnist")
    assert "SUBSIM_DATA" in str(error.value)
    assert "--data mnist5k" in str(error.value)
    assert cached() == []


def test_a_connection_cut_short_keeps_nothing(small_mnist, mirror):
    pages, _ = mirror
    name = "/second/train-images-idx3-ubyte.gz"
    pages["length", name] = len(pages[name]) + 1000  # promises more than it sends
    with pytest.raises(UserError, match="could not be fetched"):
        datasets.load("mnist")
    assert cached() == []


def test_a_missing_file_is_named(small_mnist, mirror):
    pages, _ = mirror
    del pages["/second/t10k-labels-idx1-ubyte.gz"]
    with pytest.raises(UserError, match=r"t10k-labels-idx1-ubyte\.gz of mnist .*answered 404.*answered 404"):
        datasets.load("mnist")
    assert cached() == sorted(f"{name}.gz" for name in small_mnist if not name.startswith("t10k-labels"))


def test_no_server_is_a_sentence(small_mnist, monkeypatch):
    source = datasets.SOURCES["mnist"]._replace(mirrors=("http://127.0.0.1:9/",))
    monkeypatch.setitem(datasets.SOURCES, "mnist", source)
    with pytest.raises(UserError, match="ConnectionError"):
        datasets.load("mnist")


@pytest.mark.parametrize(
    ("name", "n_train", "n_test", "pixels", "brightest"),
    [("mnist5k", 4000, 1000, 784, 255), ("digits", 1437, 360, 64, 16)],
)
def test_embedded_data(name, n_train, n_test, pixels, brightest):
    data = datasets.load(name)
    assert data.train_images.shape == (n_train, pixels)
    assert data.test_images.shape == (n_test, pixels)
    assert data.train_images.max() == data.brightest == brightest
    # Both come sorted: a split that forgot to shuffle would leave classes out of one part.
    for labels in (data.train_labels, data.test_labels):
        counts = np.bincount(labels, minlength=10)
        assert counts.min() > 0.5 * counts.max()
    again = datasets.load(name)
    np.testing.assert_array_equal(again.test_images, data.test_images)
    everything = {image.tobytes() for image in data.train_images}
    assert sum(image.tobytes() in everything for image in data.test_images) < 0.01 * n_test


def test_validation_is_held_out_of_training():
    data = datasets.load("digits")
    held = datasets.hold_out(data)
    np.testing.assert_array_equal(np.concatenate([held.train_images, held.test_images]), data.train_images)
    assert len(held.test_labels) == 240


def test_the_first_classes_alone_are_kept():
    data = datasets.load("digits")
    few = datasets.restricted(data, 3)
    assert few.n_class == 3
    assert set(few.train_labels.tolist()) == set(few.test_labels.tolist()) == {0, 1, 2}
    assert len(few.train_labels) == (data.train_labels < 3).sum()
    np.testing.assert_array_equal(few.test_images, data.test_images[data.test_labels < 3])
    with pytest.raises(UserError, match="n_class is 11, but the data has 10"):
        datasets.restricted(data, 11)


def test_an_unknown_name_is_refused():
    with pytest.raises(UserError, match=r"imagenet.*mnist5k"):
        datasets.load("imagenet")


def test_the_fixture_is_what_the_loader_expects(small_mnist):
    assert idx(np.zeros((4,), int)) == b"\0\0\x08\x01\0\0\0\x04" + b"\0" * 4
