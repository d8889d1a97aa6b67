"""Splits, order, batches, digits, class folders, subsets."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flaxlab.batches.augment import scale_pixels
from flaxlab.batches.order import batches_per_epoch, epoch_order, eval_batches, train_batches
from flaxlab.batches.pmap import shard_batches
from flaxlab.data import load as loading
from flaxlab.data.dataset import Split
from flaxlab.data.images import fit_image, read_image, stored_shape
from flaxlab.data.load import load_dataset
from flaxlab.data.splits import stratified_choice, stratified_split
from flaxlab.errors import UsageError
from flaxlab.files import cache_folder
from flaxlab.run.advice import warnings
from flaxlab.training.experiment import assemble
from tests.helpers.runs import small_config

sizes = st.integers(1, 40)
labels_of_few_classes = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array)


def numbered(count: int) -> Split:
    """Images that show their own number, so that they can be told apart."""
    numbers = np.arange(count, dtype=np.uint8)
    return Split(numbers.reshape(count, 1, 1, 1), (numbers % 3).astype(np.int32))


@given(sizes, sizes, st.integers(0, 5), st.integers(1, 5))
def test_an_epoch_counts_every_example_once(examples, batch_size, seed, epoch):
    split = numbered(examples)
    batches = list(train_batches(split, batch_size, seed, epoch))
    assert len(batches) == batches_per_epoch(examples, batch_size)
    assert {batch["image"].shape for batch in batches} == {(batch_size, 1, 1, 1)}
    images = np.concatenate([batch["image"].ravel() for batch in batches])
    labels = np.concatenate([batch["label"] for batch in batches])
    mask = np.concatenate([batch["mask"] for batch in batches])
    order = epoch_order(examples, seed, epoch)
    assert np.array_equal(images[mask], order)
    assert np.array_equal(labels, images % 3)
    # What fills the last batch up is the start of the same order.
    assert np.array_equal(images[~mask], np.resize(order, (~mask).sum()))


@given(sizes, sizes)
def test_evaluation_sees_every_example_once_in_order(examples, batch_size):
    batches = list(eval_batches(numbered(examples), batch_size))
    images = np.concatenate([batch["image"].ravel()[batch["mask"]] for batch in batches])
    assert np.array_equal(images, np.arange(examples))
    assert {len(batch["label"]) for batch in batches} == {batch_size}


def test_the_order_is_a_function_of_seed_and_epoch():
    orders = {(s, e): tuple(epoch_order(50, s, e)) for s in range(3) for e in range(3)}
    assert len(set(orders.values())) == 9
    assert orders == {(s, e): tuple(epoch_order(50, s, e)) for s in range(3) for e in range(3)}


def test_sharding_adds_a_device_axis_and_loses_nothing():
    batches = list(train_batches(numbered(10), 6, 0, 1))
    for batch, sharded in zip(batches, shard_batches(batches, 2), strict=True):
        assert sharded["image"].shape == (2, 3, 1, 1, 1)
        assert all(np.array_equal(sharded[key].ravel(), batch[key].ravel()) for key in batch)
    with pytest.raises(ValueError, match="a batch of 6 does not divide among 4 devices"):
        next(shard_batches(batches, 4))


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [("unit", [0, 0.2, 1]), ("symmetric", [-1, -0.6, 1]), ("raw", [0, 51, 255])],
)
def test_scale_pixels(scaling, expected):
    scaled = scale_pixels(np.array([0, 51, 255], np.uint8), scaling)
    np.testing.assert_allclose(scaled, expected, atol=1e-6)


@given(labels_of_few_classes, st.data(), st.integers(0, 3))
def test_a_stratified_choice_gives_each_class_its_share(labels, data, seed):
    count = data.draw(st.integers(1, len(labels)))
    chosen = stratified_choice(labels, count, seed)
    assert len(np.unique(chosen)) == count
    for label in np.unique(labels):
        share = np.sum(labels == label) * count / len(labels)
        assert abs(np.sum(labels[chosen] == label) - share) < 1
    assert np.array_equal(chosen, stratified_choice(labels, count, seed))


def test_too_many_examples_are_refused():
    with pytest.raises(UsageError, match="4 examples were asked for, but there are only 3"):
        stratified_choice(np.zeros(3), 4, 0)


@given(labels_of_few_classes, st.floats(0.05, 0.95))
def test_a_stratified_split_shares_nothing(labels, fraction):
    count = int(np.ceil(len(labels) * fraction))
    if count == len(labels):
        with pytest.raises(UsageError, match="leaves one part empty"):
            stratified_split(labels, fraction, 0)
        return
    rest, part = stratified_split(labels, fraction, 0)
    assert len(part) == count
    assert sorted([*rest, *part]) == list(range(len(labels)))


def data_config(**overrides):
    return small_config(**{f"data.{key}": value for key, value in overrides.items()}).data


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 32, 3)])
def test_digits_come_in_the_shape_of_the_experiment(shape):
    digits = load_dataset(data_config(image_shape=shape))
    assert digits.image_shape == shape
    scaled = f"(8x8, scaled to {shape[0]}x{shape[1]})"
    assert ("(8x8)" if shape[:2] == (8, 8) else scaled) in digits.origin
    assert (len(digits.train), len(digits.test)) == (1437, 360)
    assert digits.train.images.dtype == np.uint8
    assert set(np.bincount(digits.test.labels)) <= {35, 36, 37}
    assert digits.class_names == tuple("0123456789")
    assert digits.train.images.max() == 255


def test_digits_are_scikit_learns():
    from sklearn import datasets

    digits = load_dataset(data_config())
    ours = np.concatenate([digits.train.images, digits.test.images])[..., 0]
    theirs = np.round(datasets.load_digits().images * 255 / 16).astype(np.uint8)
    assert {x.tobytes() for x in ours} == {x.tobytes() for x in theirs}


def test_subsets_are_stratified_and_always_the_same():
    config = data_config(train_examples=40, test_examples=20)
    first, second = load_dataset(config), load_dataset(config)
    assert np.array_equal(np.bincount(first.train.labels), [4] * 10)
    assert len(first.test) == 20
    assert np.array_equal(first.train.images, second.train.images)


def paint(path, size=(10, 6), color=(200, 30, 30), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color if mode != "L" else 90).save(path)


@pytest.fixture
def class_folders(tmp_path):
    for part, count in (("train", 4), ("test", 2)):
        for index, name in enumerate(("cat", "dog")):
            for number in range(count):
                suffix = ("png", "jpg", "JPEG")[number % 3]
                paint(tmp_path / part / name / f"{number}.{suffix}", color=(index * 200, 30, 30))
    return tmp_path


def test_class_folders_with_their_own_split(class_folders):
    dataset = load_dataset(data_config(name="folder", folder=str(class_folders)))
    assert dataset.class_names == ("cat", "dog")
    assert np.bincount(dataset.train.labels).tolist() == [4, 4]
    assert np.bincount(dataset.test.labels).tolist() == [2, 2]
    assert dataset.image_shape == (8, 8, 1)
    brightness = dataset.test.images.mean(axis=(1, 2, 3))
    assert np.array_equal(brightness > 60, dataset.test.labels == 1)


def test_class_folders_without_a_split(class_folders):
    dataset = load_dataset(data_config(name="folder", folder=str(class_folders / "train")))
    assert (len(dataset.train), len(dataset.test)) == (6, 2)


def shape_warnings(folder, shape, **data):
    config = small_config(
        **{
            "data.name": "folder",
            "data.folder": str(folder),
            "data.image_shape": shape,
            **data,
            "model.norm": "none",
            "train.batch_size": 2,
        }
    )
    return warnings(assemble(config, load_dataset(config.data)))


@pytest.mark.parametrize("placement", ["streamed", "grain"])
def test_pictures_that_lose_pixels_or_colours_are_warned_of(class_folders, placement):
    data = {"data.placement": placement}
    for _ in range(2):  # the second time from the cache
        (warning,) = shape_warnings(class_folders, (8, 8, 1), **data)
        assert "are 6x10 in colour, and become 8x8 in grey" in warning
        assert '--config.data.image_shape="(6, 10, 3)"' in warning
    assert shape_warnings(class_folders, (6, 10, 3), **data) == []
    assert shape_warnings(class_folders, (12, 12, 3), **data) == []
    (warning,) = shape_warnings(class_folders, (12, 12, 1), **data)
    assert '--config.data.image_shape="(12, 12, 3)"' in warning


def test_pictures_of_different_sizes_are_warned_of_for_their_colours_alone(class_folders):
    paint(class_folders / "train/cat/0.png", size=(30, 40))
    (class_folders / "train/dog/0.png").write_bytes(b"no picture, which nobody need say twice")
    found = load_dataset(data_config(name="folder", folder=str(class_folders), placement="grain"))
    assert found.stored_shape == (3,)
    warnings = shape_warnings(class_folders, (8, 8, 1), **{"data.placement": "grain"})
    assert "are of different sizes in colour, and become 8x8 in grey" in warnings[0]
    assert '--config.data.image_shape="(8, 8, 3)"' in warnings[0]
    assert shape_warnings(class_folders, (8, 8, 3), **{"data.placement": "grain"}) == []


def test_the_shape_of_a_picture_is_upright_and_has_the_colours_that_it_shows():
    grey = Image.new("RGB", (12, 4), (90, 90, 90))
    assert stored_shape(grey) == (4, 12, 1)
    grey.putpixel((3, 3), (90, 91, 90))
    assert stored_shape(grey) == (4, 12, 3)
    grey.getexif()[0x0112] = 6
    assert stored_shape(grey) == (12, 4, 3)
    content = io.BytesIO()
    Image.new("RGB", (300, 200), (0, 120, 0)).save(content, "JPEG")
    with Image.open(content) as jpeg:
        assert stored_shape(jpeg) == (200, 300, 3)


def test_changed_class_folders_are_read_again(class_folders):
    config = data_config(name="folder", folder=str(class_folders))
    first = load_dataset(config)
    paint(class_folders / "train/cat/new.png")
    second = load_dataset(config)
    assert len(second.train) == len(first.train) + 1
    assert second.fingerprint != first.fingerprint


def test_a_second_start_decodes_nothing(class_folders, monkeypatch):
    config = data_config(name="folder", folder=str(class_folders))
    first = load_dataset(config)

    def fail(*arguments):
        raise AssertionError("decoded again")

    monkeypatch.setattr("flaxlab.data.lazy.LazyImages.__getitem__", fail)
    second = load_dataset(config)
    assert isinstance(second.train.images, np.memmap)
    assert np.array_equal(first.train.images, second.train.images)
    assert np.array_equal(first.test.labels, second.test.labels)


def test_a_damaged_cache_is_made_again(class_folders, caplog):
    config = data_config(name="folder", folder=str(class_folders))
    first = load_dataset(config)
    images = first.train.images.copy()
    (cached,) = cache_folder().glob("data/folder-*/train_images.npy")
    cached.write_bytes(cached.read_bytes()[:200])
    second = load_dataset(config)
    assert "decoding again" in caplog.text
    assert np.array_equal(images, second.train.images)
    assert first.fingerprint == second.fingerprint


def test_an_unwritable_cache_costs_time_only(class_folders, monkeypatch, caplog):
    blocked = class_folders / "file"
    blocked.write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    dataset = load_dataset(data_config(name="folder", folder=str(class_folders)))
    assert len(dataset.train) == 8
    assert "not cached" in caplog.text


def test_an_empty_class_folder_is_named(class_folders):
    (class_folders / "train/bird").mkdir()
    with pytest.raises(UsageError, match=r"bird holds no PNG or JPEG files"):
        load_dataset(data_config(name="folder", folder=str(class_folders)))


def test_class_folders_that_differ_are_named(class_folders):
    paint(class_folders / "test/fish/0.png")
    with pytest.raises(UsageError, match="differ: fish"):
        load_dataset(data_config(name="folder", folder=str(class_folders)))


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"there is no folder .*nowhere"):
        load_dataset(data_config(name="folder", folder=str(tmp_path / "nowhere")))


def test_a_folder_without_classes_is_named(tmp_path):
    with pytest.raises(UsageError, match="holds no class folders"):
        load_dataset(data_config(name="folder", folder=str(tmp_path)))


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n\0\0"])
def test_a_file_that_is_no_picture_is_named(class_folders, content):
    (class_folders / "train/cat/0.png").write_bytes(content)
    with pytest.raises(UsageError, match=r"0\.png is not a readable PNG or JPEG"):
        load_dataset(data_config(name="folder", folder=str(class_folders)))


def test_a_picture_of_too_many_pixels_is_refused(tmp_path, monkeypatch):
    paint(tmp_path / "bomb.png", size=(64, 64))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UsageError, match="decompression bomb"):
        read_image(tmp_path / "bomb.png", (8, 8, 3))


def test_images_are_fitted_by_the_documented_rule():
    # The right third is cropped away with the left third; grey is 0.299 R + 0.587 G + 0.114 B.
    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 4:8] = (100, 200, 50)
    grey = fit_image(Image.fromarray(wide), (4, 4, 1))
    assert np.all(np.abs(grey.astype(int) - (29.9 + 117.4 + 5.7)) <= 1)
    transparent = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert np.all(fit_image(transparent, (4, 4, 3)) == 255)
    same = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    assert np.array_equal(fit_image(Image.fromarray(same), (4, 4, 3)), same)
    deep = Image.fromarray(np.linspace(0, 65535, 16).astype(np.uint16).reshape(4, 4))
    ramp = np.linspace(0, 255, 16).reshape(4, 4, 1)
    assert np.abs(fit_image(deep, (4, 4, 1)) - ramp).max() <= 1
    turned = Image.fromarray(wide)
    turned.getexif()[0x0112] = 6
    assert np.array_equal(fit_image(turned, (12, 4, 3)), np.rot90(wide, -1))


def test_a_shape_that_the_data_do_not_have_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(loading, "_load_tfds", lambda entry, folder: load_dataset(data_config()))
    with pytest.raises(UsageError, match=r"image_shape is \(28, 28, 1\), but .* \(8, 8, 1\)"):
        load_dataset(data_config(name="fashion_mnist", image_shape=(28, 28, 1)))
