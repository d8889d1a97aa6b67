"""The two data sets of the lab report: their classes, home pages and checksums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """What is known about a data set.

    Attributes:
        name: its TFDS name.
        title: what reports call it.
        image_shape: (H, W, C).
        class_names: TFDS's name of each label.
        downloads: URLs of the original files.
        md5: published md5 sums of the decompressed files, by file name.
        system_folder: where a Linux distribution's package puts the original files.
    """

    name: str
    title: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    downloads: tuple[str, ...]
    md5: Mapping[str, str]
    system_folder: Path | None = None


_ZALANDO = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"

_FASHION_MD5 = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}

FASHION_MNIST = Entry(
    name="fashion_mnist",
    title="Fashion-MNIST",
    image_shape=(28, 28, 1),
    class_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    downloads=tuple(f"{_ZALANDO}{name}.gz" for name in _FASHION_MD5),
    md5=_FASHION_MD5,
    system_folder=Path("/usr/share/datasets/fashion-mnist"),  # Debian: dataset-fashion-mnist
)

CIFAR10 = Entry(
    name="cifar10",
    title="CIFAR-10",
    image_shape=(32, 32, 3),
    class_names=(
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ),
    downloads=("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
    md5={  # as torchvision lists them
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    },
)

CATALOG: dict[str, Entry] = {entry.name: entry for entry in (FASHION_MNIST, CIFAR10)}


def is_original(name: str, title: str) -> bool:
    """Checks whether a data set is the published one: JPEG copies, for example, are not."""
    return name in CATALOG and title == CATALOG[name].title
