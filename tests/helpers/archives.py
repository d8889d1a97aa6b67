"""Small files in the forms of the originals of Fashion-MNIST and CIFAR-10."""

import io
import pickle
import struct
import tarfile

import numpy as np

COUNTS = {"train": 30, "test": 20}


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(struct.pack(">I", n) for n in array.shape)
    return header + array.astype(np.uint8).tobytes()


def fashion_files(seed: int = 0) -> dict[str, bytes]:
    rng = np.random.default_rng(seed)
    contents = {}
    for part, count in (("train", COUNTS["train"]), ("t10k", COUNTS["test"])):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        contents[f"{part}-images-idx3-ubyte"] = idx(images)
        contents[f"{part}-labels-idx1-ubyte"] = idx(np.arange(count) % 10)
    return contents


def cifar_arrays() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    return {
        name: (rng.integers(0, 256, (10, 32, 32, 3), dtype=np.uint8), rng.permutation(10))
        for name in names
    }


def cifar_pickle(images: np.ndarray, labels: np.ndarray) -> bytes:
    """A batch as Python 2 wrote them: bytes as keys, pixels by channel."""
    pixels = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return pickle.dumps({b"data": pixels, b"labels": labels.tolist()}, protocol=2)


def cifar_binary(images: np.ndarray, labels: np.ndarray) -> bytes:
    pixels = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.concatenate([labels[:, None].astype(np.uint8), pixels], axis=1).tobytes()


def pack(contents: dict[str, bytes], path, folder="cifar-10-batches"):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path
