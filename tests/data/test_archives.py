"""The original files of Fashion-MNIST and CIFAR-10: read, checked, prepared, read back."""

import functools
import gzip
import hashlib
import http.server
import io
import pickle
import shutil
import socket
import struct
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flaxlab.data.archives import parse_idx, read_source
from flaxlab.data.catalog import CATALOG, CIFAR10, FASHION_MNIST
from flaxlab.data.load import load_dataset, prepare, reachable
from flaxlab.data.tfds_sets import prepared_folder
from flaxlab.errors import UsageError
from tests.helpers.archives import (
    COUNTS,
    cifar_arrays,
    cifar_binary,
    cifar_pickle,
    fashion_files,
    idx,
    pack,
)
from tests.helpers.runs import small_config


@pytest.fixture
def fashion(tmp_path, monkeypatch):
    """A folder with a small Fashion-MNIST, whose sums stand for the published ones."""
    folder = tmp_path / "original"
    folder.mkdir()
    contents = fashion_files()
    for number, (name, content) in enumerate(contents.items()):
        packed = number % 2 == 0
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content) if packed else content)
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
    entry = replace(FASHION_MNIST, md5=md5, system_folder=None)
    monkeypatch.setitem(CATALOG, "fashion_mnist", entry)
    return folder


def fashion_config(**overrides):
    overrides = {"data.name": "fashion_mnist", "data.image_shape": (28, 28, 1), **overrides}
    return small_config(**overrides).data


def as_set(split):
    return {(image.tobytes(), int(label)) for image, label in zip(split.images, split.labels)}  # noqa: B905


def test_idx_files_become_a_tfds_data_set_with_the_same_examples(fashion, tmp_path):
    entry = CATALOG["fashion_mnist"]
    source = read_source(entry, fashion)
    assert source.verified is True
    folder = prepare(entry, fashion, tmp_path / "tfds", allow_unverified=False)
    assert folder == prepared_folder("fashion_mnist", tmp_path / "tfds")

    # Plain TFDS reads it as what it says it is.
    theirs = tfds.data_source("fashion_mnist", data_dir=tmp_path / "tfds")
    assert {name: len(part) for name, part in theirs.items()} == COUNTS
    assert {(x["image"].tobytes(), int(x["label"])) for x in theirs["train"]} == as_set(
        source.train
    )

    dataset = load_dataset(fashion_config(**{"data.data_dir": str(tmp_path / "tfds")}))
    assert as_set(dataset.train) == as_set(source.train)
    assert as_set(dataset.test) == as_set(source.test)
    assert dataset.class_names == entry.class_names
    assert dataset.title == "Fashion-MNIST"
    assert "verified by checksum" in dataset.origin


def test_a_data_set_prepared_by_tfds_as_tfrecords_is_read_too(fashion, tmp_path):
    """TFRecord is TFDS's default format: what most people have on their disks."""
    entry = CATALOG["fashion_mnist"]
    folder = prepare(entry, fashion, tmp_path / "tfds", allow_unverified=False)
    features = tfds.builder_from_directory(folder).info.features
    for part in ("train", "test"):
        split = getattr(read_source(entry, fashion), part)
        records = b""
        for image, label in zip(split.images, split.labels, strict=True):
            buffer = io.BytesIO()
            Image.fromarray(image[..., 0]).save(buffer, "PNG")
            record = features.serialize_example({"image": buffer.getvalue(), "label": label})
            records += struct.pack("<QI", len(record), 0) + record + struct.pack("<I", 0)
        (folder / f"fashion_mnist-{part}.tfrecord-00000-of-00001").write_bytes(records)
        (folder / f"fashion_mnist-{part}.array_record-00000-of-00001").unlink()
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
    config = fashion_config(**{"data.data_dir": str(tmp_path / "tfds")})
    assert as_set(load_dataset(config).train) == as_set(read_source(entry, fashion).train)

    test_file = folder / "fashion_mnist-test.tfrecord-00000-of-00001"
    test_file.write_bytes(test_file.read_bytes()[:-100])
    with pytest.raises(UsageError, match="is truncated"):
        load_dataset(config)


def test_a_truncated_gzip_file_is_named(fashion):
    path = fashion / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UsageError, match=r"train-images-idx3-ubyte\.gz is a damaged gzip file"):
        read_source(CATALOG["fashion_mnist"], fashion)


def test_a_wrong_checksum_is_refused_unless_accepted(fashion, tmp_path):
    content = fashion_files(seed=1)["t10k-images-idx3-ubyte"]
    (fashion / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(content))
    entry = CATALOG["fashion_mnist"]
    with pytest.raises(UsageError, match="md5 sums differ"):
        prepare(entry, fashion, tmp_path / "tfds", allow_unverified=False)
    assert prepared_folder("fashion_mnist", tmp_path / "tfds") is None
    prepare(entry, fashion, tmp_path / "tfds", allow_unverified=True)
    dataset = load_dataset(fashion_config(**{"data.data_dir": str(tmp_path / "tfds")}))
    assert "not verified" in dataset.origin
    assert dataset.title == "Fashion-MNIST (unverified)"


def test_a_missing_file_is_named(fashion):
    (fashion / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(UsageError, match=r"neither t10k-labels-idx1-ubyte nor"):
        read_source(CATALOG["fashion_mnist"], fashion)
    with pytest.raises(UsageError, match="does not exist"):
        read_source(CATALOG["fashion_mnist"], fashion / "nowhere")


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("train-labels-idx1-ubyte", np.full(30, 10), "label 10; Fashion-MNIST has 0 to 9"),
        ("train-labels-idx1-ubyte", np.zeros(29), "30 images, but 29 labels"),
        ("t10k-labels-idx1-ubyte", np.zeros((20, 1)), "is not an IDX file of 1 dimensions"),
    ],
)
def test_labels_that_cannot_be_are_refused(fashion, name, array, message):
    for path in fashion.glob(f"{name}*"):
        path.write_bytes(idx(array))
    with pytest.raises(UsageError, match=message):
        read_source(CATALOG["fashion_mnist"], fashion)


@given(st.binary(max_size=40) | st.integers(0, 35).map(lambda n: idx(np.zeros((3, 3, 3)))[:n]))
def test_parse_idx_takes_nothing_that_is_damaged(content):
    with pytest.raises(UsageError):
        parse_idx(content, 3, "file")


@pytest.mark.parametrize("form", ["py", "bin", "py.tar.gz", "bin.tar.gz"])
def test_cifar_10_in_each_form(tmp_path, monkeypatch, form):
    encode, suffix = (cifar_binary, ".bin") if form.startswith("bin") else (cifar_pickle, "")
    contents = {name + suffix: encode(*arrays) for name, arrays in cifar_arrays().items()}
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
    path = tmp_path / f"cifar-10-batches-{form}"
    if form.endswith("gz"):
        pack(contents, path)
    else:
        path.mkdir()
        for name, content in contents.items():
            (path / name).write_bytes(content)
    entry = CIFAR10 if suffix else replace(CIFAR10, md5=md5)
    # A folder's parent will do as well.
    source = read_source(entry, path if form.endswith("gz") else tmp_path)
    assert source.verified is (None if suffix else True)
    images = np.concatenate([cifar_arrays()[f"data_batch_{n}"][0] for n in range(1, 6)])
    assert np.array_equal(source.train.images, images)
    assert np.array_equal(source.test.labels, cifar_arrays()["test_batch"][1])
    assert (len(source.train), len(source.test)) == (50, 10)


def test_cifar_10_is_prepared_with_its_official_features(tmp_path):
    contents = {f"{name}.bin": cifar_binary(*arrays) for name, arrays in cifar_arrays().items()}
    archive = pack(contents, tmp_path / "cifar-10-binary.tar.gz")
    prepare(CIFAR10, archive, tmp_path / "tfds", allow_unverified=False)
    source = tfds.data_source("cifar10", data_dir=tmp_path / "tfds", split="test")
    assert sorted(example["id"].decode() for example in source)[0] == "test_00000"
    overrides = {"data.name": "cifar10", "data.image_shape": (32, 32, 3)}
    config = small_config(**overrides, **{"data.data_dir": str(tmp_path / "tfds")}).data
    dataset = load_dataset(config)
    assert dataset.class_names[:2] == ("airplane", "automobile")
    assert as_set(dataset.test) == as_set(read_source(CIFAR10, archive).test)


def test_a_truncated_archive_is_named(tmp_path):
    contents = {f"{name}.bin": cifar_binary(*arrays) for name, arrays in cifar_arrays().items()}
    archive = pack(contents, tmp_path / "cifar.tar.gz")
    archive.write_bytes(archive.read_bytes()[:-3000])
    with pytest.raises(UsageError, match=r"cifar\.tar\.gz is not an intact tar archive"):
        read_source(CIFAR10, archive)


def test_an_archive_writes_nothing_to_disk(tmp_path):
    contents = {f"{name}.bin": cifar_binary(*arrays) for name, arrays in cifar_arrays().items()}
    archive = pack({**contents, "../../evil": b"x"}, tmp_path / "cifar.tar.gz")
    before = sorted(tmp_path.rglob("*"))
    read_source(CIFAR10, archive)
    assert sorted(tmp_path.rglob("*")) == before
    del contents["data_batch_3.bin"]
    with pytest.raises(UsageError, match=r"lacks data_batch_3\.bin"):
        read_source(CIFAR10, pack(contents, archive))


class Malicious:
    def __reduce__(self):
        return (print, ("this code must not run",))


def test_a_pickle_that_would_run_code_is_refused(tmp_path, capsys):
    for name, arrays in cifar_arrays().items():
        (tmp_path / name).write_bytes(cifar_pickle(*arrays))
    batch = {b"data": Malicious(), b"labels": []}
    (tmp_path / "data_batch_2").write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(UsageError, match=r"data_batch_2 .*asks for .*print"):
        read_source(CIFAR10, tmp_path)
    assert "must not run" not in capsys.readouterr().out


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_damaged_batch_is_refused_or_right(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    contents = {name: cifar_pickle(*arrays) for name, arrays in cifar_arrays().items()}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
    entry = replace(CIFAR10, md5=md5)
    assert read_source(entry, folder).verified is True
    path = folder / "test_batch"
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, 200) | st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(content))
    try:
        source = read_source(entry, folder)
    except UsageError:
        return
    assert source.test.images.shape == (len(source.test.labels), 32, 32, 3)
    assert source.verified is False


@pytest.mark.parametrize(
    ("suffix", "title"), [("png", "CIFAR-10 (PNG)"), ("jpg", "CIFAR-10 (JPEG)")]
)
def test_class_folders_in_place_of_the_originals(tmp_path, caplog, suffix, title):
    for part in ("train", "test"):
        for label, name in enumerate(CIFAR10.class_names):
            folder = tmp_path / part / (name.upper() if label else "0")
            folder.mkdir(parents=True)
            Image.new("RGB", (32, 32), (label * 20, 0, 0)).save(folder / f"0.{suffix}")
    prepare(CIFAR10, tmp_path, tmp_path / "tfds", allow_unverified=False)
    assert "not verified" in caplog.text
    overrides = {"data.name": "cifar10", "data.image_shape": (32, 32, 3)}
    config = small_config(**overrides, **{"data.data_dir": str(tmp_path / "tfds")}).data
    dataset = load_dataset(config)
    assert dataset.title == title
    red = dataset.train.images[..., 0].mean(axis=(1, 2))
    assert np.abs(red - dataset.train.labels * 20).max() < 3
    (tmp_path / "train" / "TRUCK").rename(tmp_path / "train" / "lorry")
    with pytest.raises(UsageError, match="expected one for each of airplane"):
        read_source(CIFAR10, tmp_path)


def test_without_data_and_network_three_ways_out_are_named_in_time(tmp_path, monkeypatch):
    monkeypatch.setitem(
        CATALOG, "fashion_mnist", replace(FASHION_MNIST, system_folder=tmp_path / "nowhere")
    )
    # A server that takes the connection and never answers is the slowest failure.
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as silent:
        url = f"http://127.0.0.1:{silent.server_port}/file.gz"
        entry = replace(CATALOG["fashion_mnist"], downloads=(url,))
        monkeypatch.setitem(CATALOG, "fashion_mnist", entry)
        started = time.perf_counter()
        with pytest.raises(UsageError) as error:
            load_dataset(fashion_config(**{"data.data_dir": str(tmp_path / "tfds")}))
        assert time.perf_counter() - started < 10
    message = str(error.value)
    assert "python -m flaxlab.prepare fashion_mnist --source=DIR" in message
    assert "apt install dataset-fashion-mnist" in message
    assert "--config.data.name=digits" in message
    assert not (tmp_path / "tfds").exists()


def test_the_files_of_a_system_package_are_found(fashion, tmp_path, monkeypatch):
    entry = replace(CATALOG["fashion_mnist"], system_folder=fashion)
    monkeypatch.setitem(CATALOG, "fashion_mnist", entry)
    dataset = load_dataset(fashion_config(**{"data.data_dir": str(tmp_path / "tfds")}))
    assert len(dataset.train) == COUNTS["train"]


@pytest.fixture
def home_page(fashion):
    """Serves the folder of original files on this machine."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(fashion))
    handler_quiet = type("Quiet", (handler.func,), {"log_message": lambda *arguments: None})
    serve = functools.partial(handler_quiet, directory=str(fashion))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def downloads(folder, url):
    return tuple(url + path.name for path in sorted(folder.iterdir()))


def test_a_data_set_is_downloaded_and_checked(fashion, home_page, tmp_path, monkeypatch):
    entry = replace(CATALOG["fashion_mnist"], downloads=downloads(fashion, home_page))
    monkeypatch.setitem(CATALOG, "fashion_mnist", entry)
    config = fashion_config(**{"data.data_dir": str(tmp_path / "tfds")})
    assert as_set(load_dataset(config).train) == as_set(read_source(entry, fashion).train)
    left = [path.name for path in (tmp_path / "tfds").iterdir()]
    assert not any(name.startswith(".flaxlab-") for name in left)


def test_a_download_of_other_files_is_refused(fashion, home_page, tmp_path):
    entry = replace(CATALOG["fashion_mnist"], downloads=downloads(fashion, home_page))
    content = fashion_files(seed=1)["t10k-images-idx3-ubyte"]
    (fashion / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(content))
    with pytest.raises(UsageError, match="md5 sums differ"):
        prepare(entry, None, tmp_path / "tfds", allow_unverified=False)
    assert prepared_folder("fashion_mnist", tmp_path / "tfds") is None


def test_a_download_that_breaks_off_is_refused(fashion, tmp_path):
    class Broken(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()

        def do_GET(self):
            self.do_HEAD()
            self.wfile.write(b"something else")

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Broken) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/train-images-idx3-ubyte.gz"
        entry = replace(CATALOG["fashion_mnist"], downloads=(url,))
        with pytest.raises(UsageError, match=r"broke off \(14 of 1,000 bytes\)"):
            prepare(entry, None, tmp_path / "tfds", allow_unverified=False)
        server.shutdown()
    assert prepared_folder("fashion_mnist", tmp_path / "tfds") is None


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("features.json", lambda content: None),
        ("dataset_info.json", lambda content: b""),
        ("dataset_info.json", lambda content: b"{"),
        ("fashion_mnist-train.array_record-00000-of-00001", lambda content: content[:-70000]),
        ("fashion_mnist-test.array_record-00000-of-00001", lambda content: None),
    ],
)
def test_a_damaged_tfds_folder_is_named(fashion, tmp_path, file, damage):
    folder = prepare(CATALOG["fashion_mnist"], fashion, tmp_path / "tfds", allow_unverified=False)
    content = damage((folder / file).read_bytes())
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    with pytest.raises(UsageError, match="is not a readable TFDS image data set"):
        load_dataset(fashion_config(**{"data.data_dir": str(tmp_path / "tfds")}))


def test_leftovers_of_a_killed_preparation_are_no_version(fashion, tmp_path):
    leftover = tmp_path / "tfds/fashion_mnist/incomplete.ABC_3.0.1"
    leftover.mkdir(parents=True)
    (leftover / "dataset_info.json").write_text("{}")
    assert prepared_folder("fashion_mnist", tmp_path / "tfds") is None
    folder = prepare(CATALOG["fashion_mnist"], fashion, tmp_path / "tfds", allow_unverified=False)
    assert prepared_folder("fashion_mnist", tmp_path / "tfds") == folder


def test_a_moved_data_set_is_the_same_data(fashion, tmp_path):
    prepare(CATALOG["fashion_mnist"], fashion, tmp_path / "tfds", allow_unverified=False)
    first = load_dataset(fashion_config(**{"data.data_dir": str(tmp_path / "tfds")}))
    shutil.copytree(tmp_path / "tfds", tmp_path / "moved")
    second = load_dataset(fashion_config(**{"data.data_dir": str(tmp_path / "moved")}))
    assert first.fingerprint == second.fingerprint


def test_a_server_that_speaks_no_http_is_no_network(fashion):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"welcome to the hotel\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        assert not reachable(f"http://127.0.0.1:{server.getsockname()[1]}/")
