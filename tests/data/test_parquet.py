"""Image sets as the Hugging Face Hub has them, written here by pyarrow alone."""

import io
import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from flaxlab.data import __main__ as data_sheet
from flaxlab.data.images import fit_image, from_array
from flaxlab.data.parquet import load_parquet
from flaxlab.errors import UsageError
from flaxlab.main import main
from tests.helpers.refusals import refused
from tests.helpers.runs import SMALL_POOL
from tests.helpers.samples import strangers_arrays

NAMES = ["a", "b", "c", "d", "e"]
FEATURES = {
    "image": {"_type": "Image"},
    "note": {"dtype": "string", "_type": "Value"},
    "label": {"names": NAMES, "_type": "ClassLabel"},
}


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def write(path, images, labels, features=FEATURES, **columns):
    table = pyarrow.table(
        {
            "image": [{"bytes": png(image), "path": "x.png"} for image in images],
            "note": ["" for _ in labels],
            "label": [int(label) for label in labels],
            **columns,
        }
    )
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table.replace_schema_metadata(about), path, row_group_size=7)


def write_set(root, test="test"):
    x, y, x_test, y_test = strangers_arrays()
    write(root / "data/train-00000-of-00002.parquet", x[:25], y[:25])
    write(root / "data/train-00001-of-00002.parquet", x[25:], y[25:])
    write(root / f"data/{test}-00000-of-00001.parquet", x_test, y_test)
    return x, y, x_test, y_test


@pytest.mark.parametrize("test", ["test", "validation"])
def test_the_pictures_and_labels_are_those_of_all_files_in_order(tmp_path, test):
    x, y, x_test, y_test = write_set(tmp_path, test)
    found = load_parquet(tmp_path, (9, 11, 1))
    assert found.class_names == tuple(NAMES)
    assert np.array_equal(found.train.images[..., 0], x)
    assert np.array_equal(found.test.images[..., 0], x_test)
    assert np.array_equal(found.train.labels, y)
    assert np.array_equal(found.test.labels, y_test)
    other = load_parquet(tmp_path, (6, 6, 3))
    expected = fit_image(from_array(x[30][..., None]), (6, 6, 3))
    assert np.array_equal(other.train.images[30], expected)
    assert other.stored_shape == (9, 11, 1)


def test_a_set_without_a_test_split_is_cut(tmp_path):
    x, y, *_ = strangers_arrays()
    write(tmp_path / "train.parquet", x, y)
    found = load_parquet(tmp_path, (9, 11, 1))
    assert (len(found.train), len(found.test)) == (48, 12)
    whole = [*found.train.images, *found.test.images]
    assert {image.tobytes() for image in whole} == {image.tobytes() for image in x}


def test_a_run_on_parquet_files_and_their_data_sheet(tmp_path, capsys):
    write_set(tmp_path / "waves")
    data = ["--config.data.name=parquet", f"--config.data.folder={tmp_path / 'waves'}"]
    rest = ["--config.data.train_examples=40", "--config.data.test_examples=15"]
    shape = "--config.data.image_shape=None"
    main([*SMALL_POOL, *data, *rest, shape, "--config.train.epochs=1", f"--workdir={tmp_path}/run"])
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["dataset"] == "waves"
    assert list(summary["classes"]) == NAMES
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["data"]["image_shape"] == [9, 11, 1]
    sheet = ["parquet", f"--folder={tmp_path / 'waves'}", "--size=8", f"--to={tmp_path / 'sheet'}"]
    data_sheet.main(sheet)
    statistics = json.loads((tmp_path / "sheet/statistics.json").read_text())
    assert statistics["examples"] == {"train": 60, "test": 25}


def test_a_cut_file_is_named(tmp_path):
    write_set(tmp_path)
    path = tmp_path / "data/train-00001-of-00002.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(
        UsageError, match=r"train-00001-of-00002\.parquet is not a readable Parquet"
    ):
        load_parquet(tmp_path, (9, 11, 1))


def test_what_is_no_image_set_is_one_line(tmp_path, capsys):
    x, y, *_ = strangers_arrays()
    cases = {
        "holds no train*.parquet": lambda folder: folder.mkdir(),
        "0 columns of images": lambda folder: write(folder / "train.parquet", x, y, {}),
        "1 columns of images and 0 of class labels": lambda folder: write(
            folder / "train.parquet", x, y, {"image": FEATURES["image"]}
        ),
        "lacks its bytes or its label": lambda folder: write(
            folder / "train.parquet", x, y * 0 - 1
        ),
        "has the label 1099511627776; expected 0 to 4": lambda folder: write(
            folder / "train.parquet", x, y * 0 + 2**40
        ),
        "has the label 3; expected 0 to 2, since label has 3 names": lambda folder: write(
            folder / "train.parquet",
            x,
            y,
            FEATURES | {"label": {"names": NAMES[:3], "_type": "ClassLabel"}},
        ),
        "picture 2 of train.parquet is not a readable": lambda folder: write(
            folder / "train.parquet",
            x[:3],
            y[:3],
            image=[*({"bytes": png(each)} for each in x[:2]), {"bytes": b"no picture"}],
        ),
    }
    for number, (message, make) in enumerate(cases.items()):
        folder = tmp_path / str(number)
        make(folder)
        with pytest.raises(UsageError) as refusal:
            load_parquet(folder, (9, 11, 1))
        assert message in str(refusal.value)
    (tmp_path / "text").mkdir()
    (tmp_path / "text/train.parquet").write_text("no Parquet")
    data = ["--config.data.name=parquet", f"--config.data.folder={tmp_path}/text"]
    assert "not a readable Parquet file" in refused(main, [*SMALL_POOL, *data], capsys)
    assert "data.name=parquet needs --config.data.folder=DIR" in refused(
        main, [*SMALL_POOL, "--config.data.name=parquet"], capsys
    )


def with_names(names):
    return FEATURES | {"label": {"names": names, "_type": "ClassLabel"}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"features": with_names(NAMES[::-1])},
            "test.parquet has other names of classes than .*train",
        ),
        ({"features": FEATURES | {"label": {"_type": "Value"}}}, "0 of class labels"),
        ({"features": with_names(None)}, "the column label of .* is of the type NoneType"),
        ({"features": FEATURES | {"label": {"_type": "ClassLabel"}}}, "of the type NoneType"),
        ({"features": with_names(["a"])}, "1 names; expected at least two classes"),
        ({"image": [b"PNG"] * 25}, "column image of .* is binary; expected pictures"),
        ({"label": ["a"] * 25}, "column label of .* is string; expected integers"),
        ({"metadata": "no JSON"}, "has 0 columns of images"),
        ({"metadata": "[1]"}, "has 0 columns of images"),
    ],
)
@pytest.mark.parametrize("split", ["test", "train"])
def test_each_file_has_the_columns_and_classes_of_the_first(tmp_path, split, change, message):
    x, y, x_test, y_test = strangers_arrays(train=25)
    write(tmp_path / "test.parquet", x_test, y_test)
    write(tmp_path / "train.parquet", x, y)
    change = dict(change)
    metadata = change.pop("metadata", None)
    write(tmp_path / f"{split}.parquet", x, y, **change)
    if metadata:
        table = pyarrow.parquet.read_table(tmp_path / f"{split}.parquet")
        table = table.replace_schema_metadata({"huggingface": metadata})
        pyarrow.parquet.write_table(table, tmp_path / f"{split}.parquet")
    with pytest.raises(UsageError, match=message) as refusal:
        load_parquet(tmp_path, (9, 11, 1))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("split", ["test", "train"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop_columns("label"), "has 1 columns of images and 0 of class"),
        (lambda table: table.slice(0, 0), "contain no pictures; check the path"),
    ],
)
def test_a_file_without_labels_or_pictures_is_named(tmp_path, split, change, message):
    x, y, x_test, y_test = strangers_arrays()
    write(tmp_path / "train.parquet", x, y)
    write(tmp_path / "test.parquet", x_test, y_test)
    path = tmp_path / f"{split}.parquet"
    pyarrow.parquet.write_table(change(pyarrow.parquet.read_table(path)), path)
    with pytest.raises(UsageError, match=message) as refusal:
        load_parquet(tmp_path, (9, 11, 1))
    assert str(path) in str(refusal.value)


def test_one_of_several_files_may_be_empty(tmp_path):
    x, *_ = write_set(tmp_path)
    path = tmp_path / "data/train-00000-of-00002.parquet"
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(path).slice(0, 0), path)
    assert np.array_equal(load_parquet(tmp_path, (9, 11, 1)).train.images[..., 0], x[25:])
