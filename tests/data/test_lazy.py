"""Images that stay in their files: read lazily, cropped at random, fed by grain."""

import multiprocessing
import shutil
import signal

import numpy as np
import pytest
from PIL import Image

from benchmarks import generate_pictures
from experiments.imagenet import alexnet, vgg16
from flaxlab import models
from flaxlab.batches.grain import read_batches
from flaxlab.batches.order import train_order
from flaxlab.data.catalog import FASHION_MNIST
from flaxlab.data.dataset import Split
from flaxlab.data.images import random_resized_crop
from flaxlab.data.lazy import LazyImages, beyond_memory
from flaxlab.data.load import load_dataset
from flaxlab.errors import Interrupted, RunFailed, UsageError
from flaxlab.main import main
from flaxlab.run.run import train
from flaxlab.training.experiment import assemble
from tests.helpers.comparing import assert_close
from tests.helpers.runs import RUN_FILES, small_config

SHAPE = (16, 12, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures") / "stripes"
    generate_pictures.main([str(root), "--classes=3", "--images=7", "--size=24"])
    return root


def config_of(folder, placement, **overrides):
    return small_config(
        **{
            "data.name": "folder",
            "data.folder": str(folder),
            "data.image_shape": SHAPE,
            "data.placement": placement,
            **overrides,
        }
    )


def load(folder, placement, **overrides):
    return load_dataset(config_of(folder, placement, **overrides).data)


def test_lazy_images_read_like_the_array_of_them(folder):
    lazy, decoded = load(folder, "grain"), load(folder, "streamed")
    assert isinstance(lazy.train.images, LazyImages)
    for ours, expected in ((lazy.train, decoded.train), (lazy.test, decoded.test)):
        np.testing.assert_array_equal(ours.labels, expected.labels)
        assert ours.images.shape == expected.images.shape
        assert ours.images.nbytes == expected.images.nbytes
        numbers = np.array([[2, 0], [1, 2]])
        mask = np.arange(len(expected)) % 2 == 0
        for index in (0, -1, slice(1, 3), slice(None), numbers, mask):
            np.testing.assert_array_equal(ours.images[index], expected.images[index])
    np.testing.assert_array_equal(np.stack(list(lazy.test.images)), decoded.test.images)
    chosen = np.array([5, 3])
    np.testing.assert_array_equal(
        np.asarray(lazy.train.take(chosen).images[:]), decoded.train.take(chosen).images
    )


def test_what_does_not_fit_into_memory_is_lazy(folder, monkeypatch):
    assert not isinstance(load(folder, "auto").train.images, LazyImages)
    monkeypatch.setattr("flaxlab.data.lazy._SHARE_OF_MEMORY", 1e-12)
    assert beyond_memory(1000)
    assert isinstance(load(folder, "auto").train.images, LazyImages)


def test_the_fingerprint_of_files_tells_other_data(folder, tmp_path):
    first = load(folder, "grain").fingerprint
    copy = tmp_path / "elsewhere"
    shutil.copytree(folder, copy)  # with the times of change
    assert load(copy, "grain").fingerprint == first
    Image.new("RGB", (30, 30)).save(copy / "test/class_0/new.png")
    assert load(copy, "grain").fingerprint != first


def batches(split, batch_size, start=0, columns=None, crop=0.0, workers=0):
    plan = train_order(len(split), batch_size, 3, 2)
    columns = columns or slice(0, batch_size)
    return list(read_batches(split, plan, start, columns, 3, 2, crop, workers))


def same(ours, expected):
    assert len(ours) == len(expected)
    for a, b in zip(ours, expected, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_goes_on_in_its_middle_with_the_same_bits(folder, workers):
    split = load(folder, "grain").train
    whole = batches(split, 4, crop=0.1)
    assert len(whole) == 6
    same(batches(split, 4, start=2, crop=0.1, workers=workers), whole[2:])
    assert batches(split, 4, start=6, crop=0.1) == []


def test_a_worker_that_is_killed_ends_the_reading(folder):
    split = load(folder, "grain").train
    reading = read_batches(split, train_order(len(split), 1, 3, 2), 0, slice(0, 1), 3, 2, 0.0, 1)
    next(reading)
    (worker,) = multiprocessing.active_children()
    worker.kill()
    with pytest.raises(RunFailed, match=r"died.*smaller --config\.data\.workers"):
        list(reading)
    assert multiprocessing.active_children() == []


def test_processes_read_their_columns_of_the_same_batches(folder):
    split = load(folder, "grain").train
    whole = batches(split, 4, crop=0.1)
    halves = [batches(split, 4, columns=half, crop=0.1) for half in (slice(0, 2), slice(2, 4))]
    joined = [
        {key: np.concatenate([left[key], right[key]]) for key in ("image", "label")}
        | {"mask": left["mask"]}  # whole in every process
        for left, right in zip(*halves, strict=True)
    ]
    same(joined, whole)


def test_crops_differ_from_epoch_to_epoch_and_from_example_to_example(folder):
    split = load(folder, "grain").train
    one = Split(split.images.take(np.zeros(8, int)), split.labels[np.zeros(8, int)])
    images = np.concatenate([batch["image"] for batch in batches(one, 8, crop=0.1)])
    assert len({image.tobytes() for image in images}) == 8


def test_a_crop_is_a_part_of_the_picture():
    across, down = np.meshgrid(np.arange(200), np.arange(100))
    picture = Image.fromarray(np.stack([across, down, 0 * down], -1).astype(np.uint8))
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(200):
        crop = random_resized_crop(picture, (20, 20, 3), 0.25, rng).astype(float)
        assert (np.diff(crop[..., 0], axis=1) >= 0).all()
        assert (np.diff(crop[..., 1], axis=0) >= 0).all()
        # Pixels show their place: the outermost differ by the side but for one cell of twenty.
        width = (crop[0, -1, 0] - crop[0, 0, 0]) * 20 / 19
        height = (crop[-1, 0, 1] - crop[0, 0, 1]) * 20 / 19
        assert 0.7 < width / height < 1.4
        shares.append(width * height / 20000)
    assert 0.2 < min(shares) < 0.3
    assert max(shares) > 0.6


@pytest.mark.parametrize("crop", [0.0, 0.2])
def test_a_run_fed_by_grain_is_stopped_and_goes_on_with_the_same_bits(folder, tmp_path, crop):
    config = config_of(folder, "grain", **{"data.augment.random_resized_crop": crop})
    experiment = assemble(config, load_dataset(config.data))
    whole = train(experiment, tmp_path / "whole")
    asked = iter(range(100))

    def stop_in_the_second_epoch():  # asked after 3 steps, one batch of scoring and the epoch
        return signal.SIGTERM if next(asked) == 5 else None

    with pytest.raises(Interrupted, match="after step 1 of epoch 2"):
        train(experiment, tmp_path / "stopped", stop=stop_in_the_second_epoch)
    resumed = train(experiment, tmp_path / "stopped")
    assert_close(resumed.state, whole.state, atol=0)
    if not crop:
        streamed = config_of(folder, "streamed")
        decoded = train(assemble(streamed, load_dataset(streamed.data)), tmp_path / "streamed")
        assert_close(decoded.state, whole.state, atol=0)


def test_a_set_that_tfds_prepared_is_read_lazily_and_at_once(tmp_path):
    from flaxlab.data import tfds_store

    rng = np.random.default_rng(0)

    def split(count):
        images = rng.integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)
        return Split(images, (np.arange(count) % 10).astype(np.int32))

    tfds_store.write(FASHION_MNIST, split(30), split(20), tmp_path)
    found = {}
    for placement in ("streamed", "grain"):
        config = small_config(
            **{
                "data.name": "tfds:fashion_mnist",
                "data.data_dir": str(tmp_path),
                "data.image_shape": (14, 14, 3),
                "data.placement": placement,
            }
        )
        found[placement] = load_dataset(config.data)
    lazy, decoded = found["grain"], found["streamed"]
    assert isinstance(lazy.train.images, LazyImages)
    assert lazy.class_names == decoded.class_names == FASHION_MNIST.class_names
    assert lazy.stored_shape == decoded.stored_shape == (28, 28, 1)
    for ours, expected in ((lazy.train, decoded.train), (lazy.test, decoded.test)):
        np.testing.assert_array_equal(ours.images[:], expected.images)
        np.testing.assert_array_equal(ours.labels, expected.labels)
    same(batches(lazy.train, 8, workers=1), batches(decoded.train, 8))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tfds:imagenett", "knows no data set imagenett.*did you mean tfds:imagenette"),
        ("tfds:imagenette", "is not prepared in .*download_and_prepare"),
        ("tfds:imagenette/huge", "no config huge; expected one of"),
        ("tfds:", "expected one of .* or tfds:NAME"),
    ],
)
def test_sets_that_are_not_there_are_said_so(name, message):
    with pytest.raises(UsageError, match=message):
        main(
            [
                "--config=experiments/imagenet/alexnet.py",
                f"--config.data.name={name}",
                "--config.train.devices=1",
            ]
        )


def test_lazy_class_folders_that_differ_are_named(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "test/class_2").rename(copy / "test/other")
    with pytest.raises(UsageError, match=r"differ: class_2, other; give both the same"):
        load(copy, "grain")


def test_a_damaged_picture_ends_a_run_in_one_line(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "train/class_1/000003.jpg").write_bytes(b"no picture")
    config = config_of(copy, "grain")
    with pytest.raises(UsageError, match=r"000003.jpg is not a readable PNG or JPEG picture"):
        train(assemble(config, load_dataset(config.data)), tmp_path / "run")


def test_random_crops_need_the_pictures_themselves(folder):
    with pytest.raises(UsageError, match="placement=grain, not resident"):
        main(
            [
                "--config=experiments/imagenet/alexnet.py",
                "--config.data.placement=resident",
            ]
        )


# Of the papers' layer sizes, kernels and biases; the one for VGG is published in its Table 2 as
# 138 millions.
ALEXNET = [
    (11 * 11 * 3 + 1) * 96,
    (5 * 5 * 96 + 1) * 256,
    (3 * 3 * 256 + 1) * 384,
    (3 * 3 * 384 + 1) * 384,
    (3 * 3 * 384 + 1) * 256,
    (6 * 6 * 256 + 1) * 4096,
    (4096 + 1) * 4096,
    (4096 + 1) * 1000,
]


@pytest.mark.parametrize(("module", "count"), [(alexnet, sum(ALEXNET)), (vgg16, 138_357_544)])
def test_the_networks_of_the_papers_have_their_parameters(module, count):
    config = module.get_config()
    model = models.build(config.model, 1000)
    layers = models.layer_table(model, tuple(config.data.image_shape))
    assert sum(row.trainable for row in layers) == count


def test_a_network_of_imagenet_starts_on_generated_pictures(folder, tmp_path):
    main(
        [
            "--config=experiments/imagenet/alexnet.py",
            f"--workdir={tmp_path}",
            "--config.data.name=folder",
            f"--config.data.folder={folder}",
            "--config.data.image_shape=(64, 64, 3)",
            "--config.model.blocks=(((8, 11),), ((8, 5),), ((8, 3), (8, 3), (8, 3)))",
            "--config.model.head_units=(16, 16)",
            "--config.train.epochs=1",
            "--config.train.batch_size=8",
            "--config.train.devices=1",
            "--config.log.tensorboard=false",
            "--config.log.progress=none",
        ]
    )
    assert {path.name for path in tmp_path.iterdir()} == RUN_FILES


def test_generated_pictures_are_learnable_and_the_same_each_time(tmp_path):
    first, again = (generate_pictures.draw_picture(1, 4, 2, 32) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert min(first.shape[:2]) == 32
    assert max(first.shape[:2]) <= 48
    colours = [generate_pictures.draw_picture(label, 4, 0, 32).mean((0, 1)) for label in range(4)]
    apart = [np.abs(a - b).max() for i, a in enumerate(colours) for b in colours[:i]]
    assert min(apart) > 20
    with pytest.raises(UsageError, match="is not empty"):
        generate_pictures.main([str(tmp_path.parent), "--images=1"])
