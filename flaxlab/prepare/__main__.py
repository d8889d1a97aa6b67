"""Makes a TFDS data set from original files, without TensorFlow."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from flaxlab.command_line import CommandParser, run_command
from flaxlab.data.catalog import CATALOG
from flaxlab.errors import UsageError

_EXAMPLES = """examples:
  python -m flaxlab.prepare fashion_mnist                     a system package, or a download
  python -m flaxlab.prepare fashion_mnist --source=DIR        the four IDX files, gz or not
  python -m flaxlab.prepare cifar10 --source=cifar-10-python.tar.gz
  python -m flaxlab.prepare cifar10 --source=DIR              batches, or train/ and test/ with a
                                                              folder of PNG or JPEG for each class
"""


def main(arguments: Sequence[str]) -> None:
    """Prepares one data set and says where it is.

    Raises:
        UsageError: it is already prepared, or its files are missing or damaged.
    """
    parser = CommandParser(
        prog="python -m flaxlab.prepare",
        description=__doc__,
        epilog=_EXAMPLES,
    )
    parser.add_argument("name", choices=sorted(CATALOG), help="the data set")
    parser.add_argument("--source", type=Path, help="folder or archive of original files")
    parser.add_argument("--data_dir", help="TFDS folder; default $TFDS_DATA_DIR or TFDS's own")
    parser.add_argument(
        "--allow_unverified",
        action="store_true",
        help="accept files whose published checksums do not match",
    )
    options = parser.parse_args(arguments)
    from flaxlab.data.load import prepare
    from flaxlab.data.tfds_sets import prepared_folder, tfds_folder

    data_dir = tfds_folder(options.data_dir)
    existing = prepared_folder(options.name, data_dir)
    if existing is not None:
        raise UsageError(f"{existing} is already prepared; remove that folder to prepare it again")
    source = options.source and options.source.expanduser()
    folder = prepare(CATALOG[options.name], source, data_dir, options.allow_unverified)
    print(f"prepared {folder}")


if __name__ == "__main__":
    run_command(main, sys.argv[1:])
