"""The two data sets of the lab report: their contents, home pages and checksums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Download:
    """One file of a data set on its home page.

    Attributes:
        url: where it is.
        size: in bytes.
        digest: "md5:..." or "sha256:..." of the file as downloaded, as published.
    """

    url: str
    size: int
    digest: str

    @property
    def file_name(self) -> str:
        """The last part of the URL."""
        return self.url.rsplit("/", 1)[1]


@dataclass(frozen=True)
class Entry:
    """What is known about a data set.

    Attributes:
        name: its TFDS name.
        title: what reports call it.
        image_shape: (H, W, C).
        class_names: in the order of the labels; the names of TFDS.
        downloads: the files of its home page.
        md5: published md5 sums of the decompressed files, by file name.
        archive_sha256: published sums of whole archives, if their members have none, by file name.
        system_folder: where a Linux distribution's package puts the original files.
    """

    name: str
    title: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    downloads: tuple[Download, ...]
    md5: Mapping[str, str]
    system_folder: Path | None = None
    archive_sha256: Mapping[str, str] = field(default_factory=dict)


_ZALANDO = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_TORONTO = "https://www.cs.toronto.edu/~kriz/"

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
    # Sizes and sha256 as tensorflow-datasets lists them.
    downloads=(
        Download(
            _ZALANDO + "train-images-idx3-ubyte.gz",
            26421880,
            "sha256:3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        ),
        Download(
            _ZALANDO + "train-labels-idx1-ubyte.gz",
            29515,
            "sha256:a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        ),
        Download(
            _ZALANDO + "t10k-images-idx3-ubyte.gz",
            4422102,
            "sha256:346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        ),
        Download(
            _ZALANDO + "t10k-labels-idx1-ubyte.gz",
            5148,
            "sha256:67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    ),
    md5={
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
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
    downloads=(
        Download(
            _TORONTO + "cifar-10-python.tar.gz",
            170498071,
            "md5:c58f30108f718f92721af3b95e74349a",  # on the home page
        ),
    ),
    md5={  # as torchvision lists them
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    },
    # No sums of the single binary batches are published: the archive's is the only one.
    archive_sha256={
        "cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
    },
)

CATALOG: dict[str, Entry] = {entry.name: entry for entry in (FASHION_MNIST, CIFAR10)}


def is_original(name: str, title: str) -> bool:
    """Says whether a data set is the published one: JPEG copies, say, have other titles."""
    return name in CATALOG and title == CATALOG[name].title
