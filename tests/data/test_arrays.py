"""Arrays of one's own: in memory, and in .npz files."""

import json
import zipfile

import numpy as np
import pytest

from flaxlab.data import __main__ as data_sheet
from flaxlab.data.arrays import KEYS, from_arrays, load_npz, shape_in_npz, to_pixels
from flaxlab.data.images import fit_image, from_array
from flaxlab.data.labels import to_labels
from flaxlab.data.load import load_dataset
from flaxlab.errors import UsageError
from flaxlab.main import main
from tests.helpers.refusals import refused
from tests.helpers.runs import SMALL_POOL, small_config
from tests.helpers.samples import strangers_arrays


def save(path, arrays=None, **more):
    np.savez(path, **dict(zip(KEYS, arrays or strangers_arrays(), strict=True)), **more)
    return path


@pytest.mark.parametrize("channels", [None, 1, 3])
def test_uint8_images_stay_as_they_are(channels):
    images = np.random.default_rng(0).integers(0, 256, (3, 7, 5, *[channels] * bool(channels)))
    pixels, told = to_pixels(images.astype(np.uint8), "x")
    assert pixels.shape == (3, 7, 5, channels or 1)
    assert np.array_equal(pixels.ravel(), images.ravel())
    assert told == "uint8"


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_rounded_to_the_nearest_of_256_levels(dtype):
    levels = np.arange(256)
    near = np.clip((levels + np.tile([-0.3, 0.3], 128)) / 255, 0, 1).astype(dtype)
    pixels, told = to_pixels(near.reshape(1, 16, 16), "x")
    assert np.array_equal(pixels.ravel(), levels)
    assert told == f"{np.dtype(dtype)} in [0, 1] rounded to 256 levels"


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((3, 64)), r"shape \(3, 64\); expected images \(N, H, W\)"),
        (np.zeros((3, 4, 4, 2)), "1 or 3 channels"),
        (np.zeros((0, 4, 4)), "expected images"),
        (np.zeros((3, 4, 4), np.int64), r"give x\.astype\(np\.uint8\)"),
        (np.full((3, 4, 4), 16.0), "values from 16 to 16; expected uint8, or floats in"),
        (np.full((3, 4, 4), np.nan), "values from nan to nan"),
        ([np.zeros((4, 4)), np.zeros((5, 4))], "x is not an array .*inhomogeneous"),
    ],
)
def test_other_images_are_refused(images, message):
    with pytest.raises(UsageError, match=message):
        to_pixels(images, "x")


def test_labels_are_integers_in_one_column():
    for labels in ([0, 2, 1], [[0], [2], [1]], np.array([0, 2, 1], np.uint8)):
        found = to_labels(labels, 3, "y")
        assert found.dtype == np.int32
        assert found.tolist() == [0, 2, 1]
    for labels, message in (
        ([0, 1], "there are 3 images"),
        (np.eye(3), "one label each"),
        ([0.0, 1.0, 2.0], "expected integers from 0, got float64"),
        ([0, -1, 1], "labels from -1 to 1; expected integers from 0"),
        ([0, 2**40, 1], "labels from 0 to 1099511627776; .* at most 100,000 classes"),
        (np.array([0, 1, 2**64 - 1], np.uint64), "labels from 0 to 18446744073709551615"),
        ([0, 100_000, 1], "labels from 0 to 100000"),
        ([[0], [1, 2], [3]], "y is not an array"),
    ):
        with pytest.raises(UsageError, match=message):
            to_labels(labels, 3, "y")


def test_arrays_are_a_data_set_whose_fingerprint_is_theirs():
    arrays = strangers_arrays()
    found = from_arrays(arrays)
    assert found.class_names == tuple("01234")
    assert found.image_shape == (9, 11, 1)
    assert found.origin == "arrays given in Python, uint8."
    assert from_arrays(arrays, [*"abcde"]).class_names == tuple("abcde")
    assert from_arrays(tuple(map(np.copy, arrays))).fingerprint == found.fingerprint
    for part in range(4):
        changed = [array.copy() for array in arrays]
        changed[part].flat[3] ^= 1
        assert from_arrays(changed).fingerprint != found.fingerprint


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_a_data_set_keeps_its_numbers_when_the_callers_arrays_change(kind):
    x, y, x_test, y_test = strangers_arrays()
    given = [(x / kind(1 if kind is np.uint8 else 255)).astype(kind), y, x_test.copy(), y_test]
    found = from_arrays(given)
    for array in given:
        array[:] = 0
    for split, images in ((found.train, x), (found.test, x_test)):
        assert np.array_equal(split.images[..., 0], images)
        assert split.labels.any()


@pytest.mark.parametrize(
    ("change", "names", "message"),
    [
        (lambda a: a[:3], None, "not a tuple"),
        (lambda a: (*a[:2], a[2][:, 1:], a[3]), None, "bring them to one shape"),
        (lambda a: a, ["cat", "dog"], "2 names, but the labels go up to 4; give 5 names"),
        (lambda a: a, ["cat"] * 5, "'cat' 5 times"),
        (lambda a: (a[0], a[1] * 0, a[2], a[3] * 0), None, "at least two classes"),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_refused(change, names, message):
    with pytest.raises(UsageError, match=message):
        from_arrays(change(strangers_arrays()), names)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("abcde", "of the type str; expected a list of strings"),
        (3, "of the type int"),
        (dict.fromkeys("abcde"), "of the type dict"),
        (np.array("abcde"), "of the type ndarray"),
        (np.array([[*"abcde"]]), "of the type ndarray"),
        (np.array([*"abcde"], "S"), "has b'a' among the names"),
        ([*"abcd", None], "has None among the names"),
        ([*"abcd", ""], "has '' among the names"),
        (range(5), "has 0 among the names"),
        ([], "has 0 names; expected at least two classes"),
    ],
)
def test_what_does_not_name_the_classes_is_refused(names, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        from_arrays(strangers_arrays(), names)
    if isinstance(names, np.ndarray):
        path = save(tmp_path / "mine.npz", class_names=names)
        with pytest.raises(UsageError, match=message):
            load_npz(path, (9, 11, 1))


def test_an_array_may_name_the_classes():
    named = from_arrays(strangers_arrays(), np.array([*"abcde"]))
    assert named.class_names == tuple("abcde")
    assert {type(name) for name in named.class_names} == {str}


def test_a_file_of_arrays_is_the_arrays(tmp_path):
    x, y, x_test, y_test = strangers_arrays()
    path = save(tmp_path / "mine.npz", (x, y, x_test, y_test), class_names=list("abcde"))
    assert shape_in_npz(path) == (9, 11, 1)
    for _ in range(2):  # the second time out of the cache
        found = load_npz(path, (9, 11, 1))
        assert np.array_equal(found.train.images[..., 0], x)
        assert np.array_equal(found.test.images[..., 0], x_test)
        assert np.array_equal(found.train.labels, y)
        assert np.array_equal(found.test.labels, y_test)
        assert (found.title, found.class_names) == ("mine", tuple("abcde"))
        assert found.fingerprint == from_arrays((x, y, x_test, y_test)).fingerprint
    other = load_npz(path, (6, 6, 3))
    assert other.stored_shape == (9, 11, 1)
    expected = fit_image(from_array(x[0][..., None]), (6, 6, 3))
    assert np.array_equal(other.train.images[0], expected)
    path = save(tmp_path / "mine.npz", (255 - x, y, x_test, y_test))
    assert np.array_equal(load_npz(path, (9, 11, 1)).train.images[..., 0], 255 - x)


def test_a_file_may_have_the_longer_header_of_the_format(tmp_path):
    arrays = strangers_arrays()
    with zipfile.ZipFile(tmp_path / "mine.npz", "w") as archive:
        for key, array in zip(KEYS, arrays, strict=True):
            with archive.open(f"{key}.npy", "w") as member:
                np.lib.format.write_array(member, array, version=(2, 0))
    assert shape_in_npz(tmp_path / "mine.npz") == (9, 11, 1)
    found = load_npz(tmp_path / "mine.npz", (9, 11, 1))
    assert found.fingerprint == from_arrays(arrays).fingerprint


def test_a_run_on_a_file_of_arrays_and_its_data_sheet(tmp_path, capsys):
    path = save(tmp_path / "mine.npz")
    data = ["--config.data.name=npz", f"--config.data.file={path}"]
    subsets = ["--config.data.train_examples=40", "--config.data.test_examples=15"]
    shape = "--config.data.image_shape=None"
    run = tmp_path / "run"
    main([*SMALL_POOL, *data, *subsets, shape, "--config.train.epochs=1", f"--workdir={run}"])
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["dataset"], summary["dataset_origin"]) == ("mine", "arrays in mine.npz.")
    assert len(summary["classes"]) == 5
    config = json.loads((run / "config.json").read_text())
    assert config["data"]["image_shape"] == [9, 11, 1]
    data_sheet.main(["npz", f"--file={path}", f"--to={tmp_path / 'sheet'}"])
    statistics = json.loads((tmp_path / "sheet/statistics.json").read_text())
    assert statistics["image_shape"] == [9, 11, 1]
    assert "needs --file=FILE" in refused(data_sheet.main, ["npz"], capsys)


def test_what_is_no_file_of_arrays_is_one_line(tmp_path, capsys):
    files = {name: tmp_path / name for name in ("other.npz", "part.npz", "cut.npz", "one.npy")}
    files["other.npz"].write_text("no arrays")
    np.savez(files["part.npz"], x_train=np.zeros((2, 4, 4)))
    files["cut.npz"].write_bytes(save(tmp_path / "whole.npz").read_bytes()[:-30])
    np.save(files["one.npy"], np.zeros(3))
    messages = {
        "other.npz": "not an .npz file",
        "part.npz": "has no array y_train, x_test, y_test",
        "cut.npz": "not an .npz file",
        "one.npy": "not an .npz file",
        "absent.npz": "there is no file",
    }
    for name, message in messages.items():
        data = ["--config.data.name=npz", f"--config.data.file={tmp_path / name}"]
        assert message in refused(main, [*SMALL_POOL, *data], capsys)
    assert "data.name=npz needs --config.data.file=FILE" in refused(
        main, [*SMALL_POOL, "--config.data.name=npz"], capsys
    )


def test_objects_in_a_file_are_refused_and_not_unpickled(tmp_path):
    x, y, *test = strangers_arrays()
    path = save(tmp_path / "mine.npz", (x, y.astype(object), *test))
    with pytest.raises(UsageError, match=r"not a readable \.npz file of arrays"):
        load_npz(path, (9, 11, 1))


def test_arrays_in_memory_cannot_be_loaded_later():
    with pytest.raises(UsageError, match=r"only in the memory .* np\.savez.* data\.file=FILE"):
        load_dataset(small_config(**{"data.name": "arrays"}).data)
