"""The sha256 manifest of a checkpoint, since Orbax restores flipped bits without an error."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from flaxlab import files

NAME = "sha256.json"

# Orbax writes these into a step's folder after the manifest. The first is never read. The second
# must exist and its times must be numbers; whatever else changes in it, as long as it is JSON, the
# state can still be restored.
_LATER = ("commit_success.txt", "_CHECKPOINT_METADATA")


def write_manifest(folder: Path) -> None:
    """Writes the digest of each file in `folder`, as {path: hexadecimal sha256}."""
    files.write_text(folder / NAME, _text(_digests(folder)))


def find_damage(folder: Path) -> list[str] | None:
    """Compares the files in `folder` with its manifest.

    Returns:
        A phrase for each file that is changed, missing or new; None if there is no manifest.
    """
    try:
        text = (folder / NAME).read_text()
        expected = dict(json.loads(text))
        if text != _text(expected):
            raise ValueError
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        return [f"{NAME} is damaged itself"]
    found = _digests(folder)
    damage = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    damage += [f"{name} is not in the manifest" for name in sorted(found.keys() - expected.keys())]
    damage += [
        f"{name} is changed"
        for name in sorted(expected.keys() & found.keys())
        if found[name] != expected[name]
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


def _digests(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in (NAME, *_LATER):
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
