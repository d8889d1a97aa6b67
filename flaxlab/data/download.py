"""Downloads the original files of a data set from its home page, and checks their sums."""

from __future__ import annotations

import hashlib
import http.client
import threading
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from rich.progress import Progress

from flaxlab.data.catalog import Download
from flaxlab.errors import UsageError

_CHUNK = 1 << 18


def reachable(url: str, seconds: float = 4.0) -> bool:
    """Says within `seconds` whether a server answers at `url`.

    It asks in a thread, since looking up a name has no time limit of its own.
    """
    answers: list[bool] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            urllib.request.urlopen(request, timeout=seconds).close()
            answers.append(True)
        except (OSError, ValueError, http.client.HTTPException):
            answers.append(False)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return answers == [True]


def download(files: Sequence[Download], folder: Path) -> None:
    """Downloads `files` into `folder`.

    Raises:
        UsageError: the connection broke off, or a checksum is wrong.
    """
    with Progress(transient=True) as progress:
        for file in files:
            task = progress.add_task(file.file_name, total=file.size)
            algorithm, published = file.digest.split(":")
            digest = hashlib.new(algorithm)
            try:
                with (
                    urllib.request.urlopen(file.url, timeout=30) as response,
                    (folder / file.file_name).open("wb") as out,
                ):
                    while chunk := response.read(_CHUNK):
                        out.write(chunk)
                        digest.update(chunk)
                        progress.advance(task, len(chunk))
                received = (folder / file.file_name).stat().st_size
                if received < file.size:
                    raise ConnectionError(f"{received:,} of {file.size:,} bytes")
            except (OSError, http.client.HTTPException) as error:
                raise UsageError(
                    f"the download of {file.url} broke off ({error}); start again"
                ) from error
            if digest.hexdigest() != published:
                raise UsageError(
                    f"{file.url} has {algorithm} {digest.hexdigest()}, expected {published};"
                    " start again, or prepare from files of your own with --source"
                )
