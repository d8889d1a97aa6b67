"""The shape of the images, which is that of the data where the experiment does not set it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from flaxlab import config as configs
from flaxlab.config.read import apply_overrides, load_experiment
from flaxlab.config.rules import validate
from flaxlab.data import folders
from flaxlab.data.arrays import NOT_KEPT, shape_in_npz
from flaxlab.data.catalog import CATALOG
from flaxlab.data.digits import SCALED_SHAPE
from flaxlab.data.tfds_sets import PREFIX, shape_in_tfds, tfds_folder
from flaxlab.errors import UsageError

_NAMED_SIZES = 3


def resolve_config(path: Path, overrides: Sequence[str]) -> ConfigDict:
    """Returns the experiment's config as it runs: overrides applied, validated and frozen.

    Its `data.image_shape` is a shape, see `image_shape`.

    Args:
        path: the experiment file.
        overrides: see `flaxlab.config.read.apply_overrides`.

    Raises:
        UsageError: a field does not exist, a value is of the wrong kind or not allowed; or the
            shape is that of data that are missing, or whose pictures have different sizes.
    """
    config = load_experiment(path)
    validate(config)
    return with_image_shape(apply_overrides(config, overrides))


def with_image_shape(config: ConfigDict) -> ConfigDict:
    """Returns the config with `data.image_shape` as `image_shape` has it; a copy is frozen.

    Raises:
        UsageError: see `image_shape`.
    """
    if config.data.image_shape is not None:
        return config
    return configs.replaced(config, data={"image_shape": image_shape(config.data)})


def image_shape(data: ConfigDict) -> tuple[int, int, int]:
    """Returns the shape (H, W, C) of the images that `config.data` asks for.

    It is `data.image_shape` or, where that is None, the shape of the data: that of the arrays in a
    file, that which TFDS states, that of the published Fashion-MNIST and CIFAR-10, 28x28 for the
    digits. Of pictures in class folders and in Parquet files, the headers of about a hundred are
    read; C is 1 if all of them are stored in grey.

    Raises:
        UsageError: the data are missing or damaged, or their pictures have different sizes.
    """
    if data.image_shape is not None:
        height, width, channels = data.image_shape
        return height, width, channels
    if data.name == "arrays":
        raise UsageError(NOT_KEPT)
    if data.name in CATALOG:
        return CATALOG[data.name].image_shape
    if data.name == "digits":
        return SCALED_SHAPE
    if data.name == "npz":
        return shape_in_npz(Path(data.file).expanduser())
    if data.name.startswith(PREFIX):
        return shape_in_tfds(data.name, tfds_folder(data.data_dir))
    folder = Path(data.folder).expanduser()
    if data.name == "folder":
        return _one_shape(folders.declared_shapes(folder), folder)
    # Imported here: pyarrow takes a fifth of a second, which other data should not cost.
    from flaxlab.data import parquet

    return _one_shape(parquet.declared_shapes(folder), folder)


def _one_shape(shapes: Sequence[tuple[int, int, int]], folder: Path) -> tuple[int, int, int]:
    """Returns the shape of pictures that have one size, C the largest of theirs."""
    if not shapes:
        raise UsageError(f"{folder} contains no pictures; check the path")
    sizes = Counter(shape[:2] for shape in shapes)
    channels = max(shape[2] for shape in shapes)
    (height, width), *others = [size for size, _ in sizes.most_common()]
    if others:
        named = ", ".join(f"{h}x{w}" for h, w in [(height, width), *others[: _NAMED_SIZES - 1]])
        rest = len(others) - (_NAMED_SIZES - 1)
        raise UsageError(
            f"the pictures in {folder} have different sizes, {named}"
            f"{f' and {rest} more' if rest > 0 else ''} (height x width); set the shape that they"
            " are brought to, for example"
            f' --config.data.image_shape="({height}, {width}, {channels})"'
        )
    return height, width, channels
