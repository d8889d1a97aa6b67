"""Draws the sheet of a data set: samples, class counts and pixel statistics."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from flaxlab.command_line import CommandParser, run_command
from flaxlab.data.catalog import CATALOG
from flaxlab.errors import UsageError
from flaxlab.files import make_folder

_EXAMPLES = """examples:
  python -m flaxlab.data fashion_mnist
  python -m flaxlab.data cifar10 --to=sheets/cifar10
  python -m flaxlab.data folder --folder=pictures --size=32
  python -m flaxlab.data parquet --folder=beans --size=64
  python -m flaxlab.data npz --file=pictures.npz
"""


def main(arguments: Sequence[str]) -> None:
    """Loads one data set and writes its sheet.

    Raises:
        UsageError: an option is wrong, or the data set is not available.
    """
    parser = CommandParser(
        prog="python -m flaxlab.data",
        description=__doc__,
        epilog=_EXAMPLES,
    )
    names = [*sorted(CATALOG), "digits", "folder", "parquet", "npz"]
    parser.add_argument("name", choices=names, help="the data set")
    parser.add_argument("--to", type=Path, help="folder to write to; default data_sheets/NAME")
    parser.add_argument("--data_dir", help="TFDS folder; default $TFDS_DATA_DIR or TFDS's own")
    parser.add_argument("--folder", help="the pictures of the data sets folder and parquet")
    parser.add_argument("--file", help="what np.savez wrote, for the data set npz")
    parser.add_argument(
        "--size", type=int, default=32, help="side of the images of --folder; default 32"
    )
    options = parser.parse_args(arguments)
    if options.name in ("folder", "parquet") and not options.folder:
        raise UsageError(
            f"the data set {options.name} needs --folder=DIR, which holds its pictures"
        )
    if options.name == "npz" and not options.file:
        raise UsageError("the data set npz needs --file=FILE, which np.savez wrote")
    if not 1 <= options.size <= 1024:
        raise UsageError(f"--size={options.size} is not a side of an image; expected 1 to 1024")
    # Importing JAX takes a second: not before the options are known to be right.
    from flaxlab.config import default_config
    from flaxlab.data.load import load_dataset
    from flaxlab.data.sheet import write_data_sheet

    data = default_config().data
    data.name = options.name
    data.data_dir, data.folder, data.file = options.data_dir, options.folder, options.file
    if options.name == "digits":
        data.image_shape = (8, 8, 1)  # their own
    elif options.name in ("folder", "parquet"):
        data.image_shape = (options.size, options.size, 3)
    dataset = load_dataset(data)
    folder = (options.to or Path("data_sheets") / options.name).expanduser()
    make_folder(folder, "--to")
    print(f"data sheet: {write_data_sheet(dataset, folder)}")


if __name__ == "__main__":
    run_command(main, sys.argv[1:])
