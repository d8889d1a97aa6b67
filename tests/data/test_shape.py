"""The shape of the images, where the experiment does not set it: that of the data."""

import json

import numpy as np
import pytest
from PIL import Image, ImageOps

import flaxlab
from flaxlab.config import differences, flatten
from flaxlab.config.read import load_experiment
from flaxlab.data import tfds_store
from flaxlab.data.images import declared_shape, decode, fit_image
from flaxlab.data.load import load_dataset
from flaxlab.data.shape import image_shape, resolve_config, with_image_shape
from flaxlab.errors import UsageError
from flaxlab.main import main
from flaxlab.run.origin import read_origin
from flaxlab.suite.__main__ import main as suite
from flaxlab.suite.plan import plan_sweep
from flaxlab.training.experiment import assemble
from tests.helpers.refusals import refused
from tests.helpers.runs import (
    EXPERIMENTS,
    POOL_FILE,
    SMALL_POOL,
    SMALL_SUITE,
    small_config,
    small_dataset,
)
from tests.helpers.samples import strangers_arrays

UNSET = "--config.data.image_shape=None"  # as in the experiment, and not as in SMALL_POOL


def paint(path, size=(11, 9), mode="L", brightness=90, **options):
    """Saves a picture of this size, (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, brightness).convert(mode).save(path, **options)


@pytest.fixture
def pictures(tmp_path):
    """Class folders of grey pictures, 9x11 pixels."""
    for part, count in (("train", 20), ("test", 6)):
        for label in range(2):
            for number in range(count):
                path = tmp_path / f"pictures/{part}/{'ab'[label]}/{number}.png"
                paint(path, brightness=40 + 100 * label + number)
    return tmp_path / "pictures"


def write_experiment(path, *fields):
    """Writes an experiment file with these fields, such as "data.name = 'folder'"."""
    lines = [f"config.{field}" for field in fields]
    body = "\n    ".join(["config = default_config('alexnet')", *lines, "return config"])
    path.write_text(
        f"from flaxlab.config import default_config\n\n\ndef get_config():\n    {body}\n"
    )
    return path


def of_folder(folder):
    return ["--config.data.name=folder", f"--config.data.folder={folder}"]


def shape_of(folder, name="folder", **data):
    fields = {"name": name, "folder": str(folder), "image_shape": None, **data}
    return image_shape(small_config(**{f"data.{key}": value for key, value in fields.items()}).data)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("fashion_mnist", (28, 28, 1)), ("cifar10", (32, 32, 3)), ("digits", (28, 28, 1))],
)
def test_known_sets_have_their_shape_wherever_they_are(name, shape):
    assert shape_of("/nowhere", name, data_dir="/nowhere") == shape
    assert resolve_config(POOL_FILE, [f"--config.data.name={name}"]).data.image_shape == shape


def test_a_shape_that_is_set_stays_and_no_data_is_looked_at():
    assert shape_of("/nowhere", image_shape=(14, 14, 3)) == (14, 14, 3)
    config = small_config()
    assert with_image_shape(config) is config
    digits = resolve_config(EXPERIMENTS / "digits_small.py", ["--config.data.name=fashion_mnist"])
    assert digits.data.image_shape == (8, 8, 1)


def test_the_lab_reports_experiments_are_on_the_images_of_their_data():
    for file in sorted(EXPERIMENTS.glob("[av]*_*.py")):
        expected = (32, 32, 3) if "cifar" in resolve_config(file, []).data.name else (28, 28, 1)
        assert resolve_config(file, []).data.image_shape == expected


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("orientation", [None, 3, 6, 9])
def test_the_header_tells_the_upright_size_and_whether_grey_is_stored(tmp_path, mode, orientation):
    picture = Image.new("L" if mode == "I;16" else "RGB", (12, 4), 90).convert(mode)
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    picture.save(tmp_path / "picture.png", exif=exif)
    if mode in ("L", "RGB"):
        picture.save(tmp_path / "picture.jpg", exif=exif)
    for path in tmp_path.iterdir():
        width, height = decode(path, "", ImageOps.exif_transpose).size
        grey = mode in ("1", "L", "LA", "I;16")
        assert decode(path, "", declared_shape) == (height, width, 1 if grey else 3)


def test_the_shape_of_a_picture_needs_no_pixels(tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (300, 200), dtype=np.uint8)).save(tmp_path / "whole.png")
    cut = (tmp_path / "whole.png").read_bytes()[:200]
    assert decode(cut, "", declared_shape) == (300, 200, 1)
    with pytest.raises(UsageError, match="is not a readable"):
        decode(cut, "the picture", lambda image: fit_image(image, (8, 8, 1)))


def test_pictures_are_grey_if_all_of_them_are(pictures):
    assert shape_of(pictures) == (9, 11, 1)
    assert shape_of(pictures / "train") == (9, 11, 1)  # without a split
    paint(pictures / "train/b/7.png", mode="RGB")
    assert shape_of(pictures) == (9, 11, 3)


def test_only_some_of_many_pictures_are_opened(tmp_path, monkeypatch):
    opened = []

    def counted(path, name, bring):
        opened.append(path)
        return decode(path, name, bring)

    monkeypatch.setattr("flaxlab.data.folders.decode", counted)
    for number in range(250):
        paint(tmp_path / f"a/{number:03d}.png")
    assert shape_of(tmp_path) == (9, 11, 1)
    assert len(set(opened)) == len(opened) == 100
    for number in range(0, 250, 5):  # kinds that take turns
        paint(tmp_path / f"a/{number:03d}.png", size=(30, 40))
    with pytest.raises(UsageError, match="different sizes, 9x11, 40x30"):
        shape_of(tmp_path)


def test_pictures_of_different_sizes_are_refused_in_one_line(pictures, capsys):
    paint(pictures / "test/a/0.png", size=(30, 40))
    arguments = [*SMALL_POOL, *of_folder(pictures), UNSET]
    error = refused(main, arguments, capsys)
    assert "have different sizes, 9x11, 40x30 (height x width)" in error
    assert '--config.data.image_shape="(9, 11, 1)"' in error
    paint(pictures / "test/a/1.png", size=(30, 41))
    paint(pictures / "test/a/2.png", size=(30, 42), mode="RGB")
    error = refused(main, [*arguments, "--show=config"], capsys)
    assert "9x11, 40x30, 41x30 and 1 more" in error
    (advice,) = [word for word in error.split("example ")[1:] if word.startswith("--config")]
    assert resolve_config(
        POOL_FILE, [*of_folder(pictures), advice.strip().replace('"', "")]
    ).data.image_shape == (9, 11, 3)


@pytest.mark.parametrize("name", ["folder", "parquet"])
def test_a_folder_that_is_not_there_is_the_same_line_with_and_without_a_shape(name, capsys):
    data = [f"--config.data.name={name}", "--config.data.folder=/nowhere"]
    with_shape = refused(main, [*SMALL_POOL, *data], capsys)
    assert "/nowhere" in with_shape
    for more in ([], ["--show"], ["--show=config"]):
        assert refused(main, [*SMALL_POOL, *data, UNSET, *more], capsys) == with_shape


def test_arrays_that_are_no_images_have_no_shape(tmp_path):
    x, y, x_test, y_test = strangers_arrays()
    for images in (x[0], np.stack([x] * 4, axis=-1), x[:0]):
        np.savez(tmp_path / "mine.npz", x_train=images, y_train=y, x_test=x_test, y_test=y_test)
        with pytest.raises(UsageError, match=r"x_train is an array of shape .*; expected images"):
            shape_of(None, "npz", file=str(tmp_path / "mine.npz"))


def test_a_set_of_tfds_has_the_shape_that_it_states(tmp_path, monkeypatch):
    stated = tfds_store.Prepared("made up", ("a", "b"), {"train": 2, "test": 2}, (9, 11, 3))
    monkeypatch.setattr("flaxlab.data.tfds_sets.find_prepared", lambda name, folder: tmp_path)
    monkeypatch.setattr(tfds_store, "describe", lambda folder: stated)
    assert shape_of(None, "tfds:mine") == (9, 11, 3)
    for unknown in ((3,), None):
        stated = stated._replace(stored_shape=unknown)
        with pytest.raises(UsageError, match=r"states no size .* --config\.data\.image_shape="):
            shape_of(None, "tfds:mine")


def test_a_run_on_a_folder_takes_the_shape_of_its_pictures_and_resumes(pictures, tmp_path, capsys):
    run = tmp_path / "run"
    arguments = [*SMALL_POOL, *of_folder(pictures), UNSET, "--config.train.batch_size=8"]
    arguments += ["--config.data.train_examples=None", "--config.data.test_examples=None"]
    main([*arguments, "--show=config"])
    assert json.loads(capsys.readouterr().out)["data"]["image_shape"] == [9, 11, 1]
    main([*arguments, "--show"])
    assert "data.image_shape (28, 28, 1) -> (9, 11, 1)" in capsys.readouterr().out
    main([*arguments, "--config.train.epochs=1", f"--workdir={run}"])
    main([*arguments, "--config.train.epochs=2", f"--workdir={run}"])
    assert len((run / "history.csv").read_text().splitlines()) == 3
    assert json.loads((run / "config.json").read_text())["data"]["image_shape"] == [9, 11, 1]
    assert flaxlab.load(run)[2].data.image_shape == (9, 11, 1)
    # The same config in Python is the same run.
    given = {"data.name": "folder", "data.folder": pictures, "data.image_shape": None}
    config = flaxlab.configure(flaxlab.open_run(run).config, **given)
    assert config.data.image_shape is None
    capsys.readouterr()
    again = flaxlab.fit(config, run)
    assert "is finished" in capsys.readouterr().out
    assert again.config.data.image_shape == (9, 11, 1)
    assert config.data.image_shape is None
    paint(pictures / "train/a/0.png", mode="RGB")
    assert "data.image_shape: (9, 11, 1) there, (9, 11, 3) now" in refused(
        main, [*arguments, "--config.train.epochs=2", f"--workdir={run}"], capsys
    )


def test_a_suite_over_a_folder_takes_the_shape_of_its_pictures(pictures, tmp_path):
    rest = ["--config.data.train_examples=None", "--config.data.test_examples=None"]
    options = [*SMALL_SUITE, *rest, *of_folder(pictures), UNSET, "--config.train.epochs=1"]
    sweep = ["--sweep.loss.l2=0.0,0.01"]
    runs = tmp_path / "runs"
    suite([f"--config={POOL_FILE}", *options, *sweep, "--seeds=1", f"--workdir={runs}"])
    shapes = [json.loads(p.read_text())["data"]["image_shape"] for p in runs.rglob("config.json")]
    assert shapes == [[9, 11, 1]] * 2
    departure = "data.image_shape: (9, 11, 1) instead of (28, 28, 1)"
    assert departure in (runs / "comparison.md").read_text()


def test_arms_differ_by_their_shapes_and_not_by_who_says_so(pictures):
    given = of_folder(pictures)
    plan = plan_sweep(POOL_FILE, 1, given, ["--sweep.data.image_shape=None,(14, 14, 1)"])
    assert [arm.name for arm in plan.arms] == ["image_shape=(9, 11, 1)", "image_shape=(14, 14, 1)"]
    (difference,) = plan.differences(plan.arms[1]).items()
    assert difference == ("data.image_shape", ((9, 11, 1), (14, 14, 1)))
    with pytest.raises(UsageError, match="would give the same runs"):
        plan_sweep(POOL_FILE, 1, given, ["--sweep.data.image_shape=None,(9, 11, 1)"])


def test_what_a_run_changes_of_its_file_is_told_by_shapes(pictures, tmp_path):
    named = "data.name = 'folder'", f"data.folder = {str(pictures)!r}"
    file = write_experiment(tmp_path / "mine.py", *named)
    assert load_experiment(file).data.image_shape is None
    assert read_origin(file, resolve_config(file, [])).departures == {}
    larger = resolve_config(file, ["--config.data.image_shape=(14, 14, 1)"])
    shapes = {"data.image_shape": ((9, 11, 1), (14, 14, 1))}
    assert read_origin(file, larger).departures == shapes
    # The data of the file need not be here if a run is on others.
    pictures.rename(tmp_path / "elsewhere")
    moved = resolve_config(file, [f"--config.data.folder={tmp_path / 'elsewhere'}"])
    assert moved.data.image_shape == (9, 11, 1)
    assert read_origin(file, moved).departures["data.image_shape"] == (None, (9, 11, 1))


def test_a_config_without_a_shape_runs_in_python_with_that_of_its_data(pictures):
    config = small_config(
        **{"data.image_shape": None, "data.name": "folder", "data.folder": str(pictures)}
    )
    experiment = assemble(config, load_dataset(config.data))
    assert experiment.config.data.image_shape == experiment.dataset.image_shape == (9, 11, 1)
    assert config.data.image_shape is None
    changed = differences(config, with_image_shape(config))
    assert changed == {"data.image_shape": (None, (9, 11, 1))}
    own = assemble(config, small_dataset(shape=(12, 10, 3)))
    assert dict(flatten(own.config))["data.image_shape"] == (12, 10, 3)


def test_a_baseline_whose_data_are_named_elsewhere_needs_none(pictures, tmp_path, capsys):
    write_experiment(tmp_path / "template.py", "data.name = 'folder'")
    named = "baseline = 'template'", "data.name = 'folder'", f"data.folder = {str(pictures)!r}"
    main([f"--config={write_experiment(tmp_path / 'mine.py', *named)}", "--show=config"])
    assert json.loads(capsys.readouterr().out)["data"]["image_shape"] == [9, 11, 1]


def test_data_that_are_gone_are_no_departure(pictures, tmp_path):
    named = "data.name = 'folder'", f"data.folder = {str(pictures)!r}"
    file = write_experiment(tmp_path / "mine.py", *named)
    config = resolve_config(file, [])
    pictures.rename(tmp_path / "elsewhere")
    assert read_origin(file, config).departures == {}
