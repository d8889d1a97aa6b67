"""Several processes that need the same decoded data: one decodes, the others wait."""

import contextlib
import errno
import os
from pathlib import Path

import numpy as np
import pytest

from flaxlab.data.cache import through_cache
from flaxlab.errors import Interrupted
from flaxlab.files import cache_folder
from tests.helpers.processes import Process
from tests.helpers.runs import ROOT

# Decoding writes a line to a file, and lasts until there is a file "go".
DECODING = """
import sys, time
from pathlib import Path
import numpy as np
from flaxlab import lock
from flaxlab.data.cache import through_cache
from flaxlab.command_line import prepare_process

prepare_process([])
lock._PATIENCE = 0.1
folder = Path(sys.argv[1])

def decode():
    with (folder / "decoded").open("a") as file:
        file.write("once\\n")
    while not (folder / "go").exists():
        time.sleep(0.01)
    return [np.arange(4)]

(array,), _ = through_cache("key", ["array"], decode)
print(array.tolist())
"""


class Decoding(Process):
    """A process that decodes; what it says can be read while it runs."""

    def __init__(self, folder):
        self._errors = (folder / f"errors_{len(list(folder.glob('errors_*')))}").open("w+")
        super().__init__("-c", DECODING, folder, cwd=ROOT, stderr=self._errors)

    @property
    def said(self):
        return Path(self._errors.name).read_text()

    def end(self):
        ended = super().end()
        self._errors.close()
        return ended


def count(folder):
    file = folder / "decoded"
    return len(file.read_text().splitlines()) if file.exists() else 0


@contextlib.contextmanager
def decoder_and_waiter(folder):
    with Decoding(folder) as first:
        first.wait_for(lambda: count(folder) == 1)
        with Decoding(folder) as second:
            second.wait_for(lambda: "waiting for another" in second.said or count(folder) > 1)
            assert count(folder) == 1
            yield first, second


def test_of_two_processes_one_decodes_and_the_other_waits(tmp_path):
    with decoder_and_waiter(tmp_path) as (first, second):
        (tmp_path / "go").touch()
        for each in (first, second):
            code, shown, _ = each.end()
            assert (code, shown) == (0, "[0, 1, 2, 3]\n"), each.said
    assert count(tmp_path) == 1
    assert not list(cache_folder().rglob("*.lock"))


def test_one_that_waits_for_a_killed_one_decodes_itself(tmp_path):
    with decoder_and_waiter(tmp_path) as (first, second):
        first.kill()
        (tmp_path / "go").touch()
        code, shown, _ = second.end()
        assert (code, shown) == (0, "[0, 1, 2, 3]\n"), second.said
    assert count(tmp_path) == 2


def decoded(calls):
    def decode():
        calls.append(1)
        return [np.zeros(2)]

    return decode


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_no_obstacle(monkeypatch, number):
    def flock(file, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("flaxlab.lock.fcntl.flock", flock)
    calls = []
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else None
    for _ in range(2):
        arrays, _ = through_cache("key", ["array"], decoded(calls))
        np.testing.assert_array_equal(arrays, [[0, 0]])
        del arrays  # which keep their file open
    assert calls == [1]
    if before is not None:
        # Fewer, where the garbage of an earlier test was collected in between.
        assert len(os.listdir("/proc/self/fd")) <= before


def test_what_decoding_raises_frees_the_lock(monkeypatch):
    def stopped():
        raise Interrupted(15, "told to stop")

    with pytest.raises(Interrupted):
        through_cache("key", ["array"], stopped)
    assert not list(cache_folder().rglob("*.lock"))
    through_cache("key", ["array"], decoded([]))
