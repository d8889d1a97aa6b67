"""The sha256 manifest of a checkpoint: Orbax restores flipped bits without a word."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from flaxlab import files

NAME = "sha256.json"

# Orbax writes these into the folder of a step after the manifest. Nobody reads the first; the
# second has to be there, with times that are numbers: no other change of it that leaves it JSON
# keeps a state from being restored.
_LATER = ("commit_success.txt", "_CHECKPOINT_METADATA")


def write_manifest(folder: Path) -> None:
    """Writes the digest of each file in `folder`, as {path: hexadecimal sha256}."""
    digests = {_key(path, folder): _digest(path) for path in _covered(folder)}
    files.write_text(folder / NAME, _text(digests))


def find_damage(folder: Path) -> list[str] | None:
    """Compares the files in `folder` with its manifest.

    Returns:
        A phrase for each file that is changed, missing or new; None if there is no manifest.
    """
    try:
        text = (folder / NAME).read_text()
        digests = dict(json.loads(text))
        if text.removesuffix("\n") != _text(digests):  # older versions ended it with a new line
            raise ValueError
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        return [f"{NAME} is damaged itself"]
    present = {_key(path, folder): path for path in _covered(folder)}
    damage = [f"{name} is missing" for name in sorted(digests.keys() - present.keys())]
    damage += [f"{name} is not in the manifest" for name in sorted(present.keys() - digests.keys())]
    damage += [
        f"{name} is changed"
        for name in sorted(digests.keys() & present.keys())
        if _digest(present[name]) != digests[name]
    ]
    try:
        stored = json.loads((folder / _LATER[1]).read_text())
        times = [value for key, value in stored.items() if key.endswith("_nsecs")]
        if not all(isinstance(value, int) for value in times):
            raise ValueError
    except (OSError, ValueError, AttributeError) as error:
        damage.append(f"{_LATER[1]} is {'missing' if isinstance(error, OSError) else 'changed'}")
    return damage


def _text(digests: dict[str, str]) -> str:
    return json.dumps(digests, indent=1)


def _covered(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path not in [folder / name for name in (*_LATER, NAME)]
    )


def _key(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
