"""Files that are written whole or not at all."""

import os

import pytest

from flaxlab import files


def test_a_file_is_replaced_whole_or_stays_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    files.write_text(path, "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_only_leftovers_of_killed_processes_are_removed(tmp_path):
    for name in (".summary.json.123.tmp", ".history.csv.9.tmp", "summary.json", ".hidden"):
        (tmp_path / name).write_text("x")
    files.remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "summary.json"]
