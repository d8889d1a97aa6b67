"""The sheet of a data set, and the command that draws it."""

import dataclasses
import json

import numpy as np
import pytest

from flaxlab.data.__main__ import main
from flaxlab.data.dataset import Split
from flaxlab.data.sheet import class_means, describe, pixel_counts
from tests.helpers.refusals import refused
from tests.helpers.runs import small_dataset

pytestmark = pytest.mark.usefixtures("pictures")

FILES = {
    "data_sheet.html",
    "statistics.json",
    "samples.png",
    "classes.png",
    "pixels.png",
    "means.png",
}


def test_statistics_are_numpys():
    dataset = small_dataset(train=50, test=20, shape=(5, 4, 3))
    found = describe(dataset)
    for name, split in (("train", dataset.train), ("test", dataset.test)):
        pixels = split.images / 255
        channels = found["channels"][name]
        assert [each["mean"] for each in channels] == pytest.approx(pixels.mean(axis=(0, 1, 2)))
        assert [each["std"] for each in channels] == pytest.approx(pixels.std(axis=(0, 1, 2)))
        assert found["examples"][name] == len(split)
        for label, counts in enumerate(found["classes"].values()):
            assert counts[name] == np.sum(split.labels == label)
    assert pixel_counts(dataset.train).sum() == dataset.train.images.size
    means = class_means(dataset.train, 3)
    for label in range(3):
        expected = dataset.train.images[dataset.train.labels == label].mean(axis=0)
        np.testing.assert_allclose(means[label], expected)


def test_more_images_than_fit_at_once(monkeypatch):
    dataset = small_dataset(train=50, test=20)
    expected = describe(dataset), class_means(dataset.train, 3)
    monkeypatch.setattr("flaxlab.data.sheet._CHUNK", 7)
    assert describe(dataset) == expected[0]
    np.testing.assert_array_equal(class_means(dataset.train, 3), expected[1])


def test_test_images_that_were_trained_on_are_counted():
    dataset = small_dataset(train=50, test=20)
    images = dataset.test.images.copy()
    images[3], images[7] = dataset.train.images[0], dataset.train.images[49]
    leaky = dataclasses.replace(dataset, test=Split(images, dataset.test.labels))
    assert describe(dataset)["duplicates"] == 0
    assert describe(leaky)["duplicates"] == 2


def test_a_class_without_examples_is_drawn(tmp_path):
    from flaxlab.data.sheet import write_data_sheet

    dataset = small_dataset(train=20, test=10, shape=(6, 6, 3))
    without = dataset.train.take(np.flatnonzero(dataset.train.labels != 1))
    write_data_sheet(dataclasses.replace(dataset, train=without), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == FILES


def test_the_command_writes_all_files(tmp_path, capsys):
    main(["digits", f"--to={tmp_path}"])
    assert {path.name for path in tmp_path.iterdir()} == FILES
    found = json.loads((tmp_path / "statistics.json").read_text())
    assert found["image_shape"] == [8, 8, 1]
    assert found["examples"] == {"train": 1437, "test": 360}
    page = (tmp_path / "data_sheet.html").read_text()
    assert page.count('<img src="data:image/png;base64,') == 2
    assert page.count("<svg role=") == 2
    assert "http" not in page
    assert str(tmp_path / "data_sheet.html") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mnist"], "invalid choice: 'mnist'"),
        (["folder"], "needs --folder=DIR"),
        (["folder", "--folder=/nowhere"], "no folder /nowhere"),
        (["folder", "--folder=x", "--size=0"], "not a side of an image"),
        (["digits", "--to=/dev/null/x"], "cannot be made"),
    ],
)
def test_wrong_input_is_one_line(arguments, message, capsys):
    assert message in refused(main, arguments, capsys)
