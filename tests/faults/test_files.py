"""Original files that were damaged at random or made to do harm: an error, or the right data."""

import functools
import gzip
import hashlib
import io
import os
import random
import tarfile
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flaxlab import files
from flaxlab.data import archives
from flaxlab.data.archives import read_source
from flaxlab.data.cache import through_cache
from flaxlab.data.catalog import CATALOG
from flaxlab.data.load import prepare
from flaxlab.data.tfds_sets import prepared_folder
from flaxlab.errors import UsageError
from tests.helpers.archives import cifar_arrays, cifar_binary, cifar_pickle, fashion_files, pack
from tests.helpers.processes import start

FASHION, CIFAR = CATALOG["fashion_mnist"], CATALOG["cifar10"]


def md5(contents):
    return {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}


@st.composite
def damages(draw):
    """Returns content -> damaged content."""
    kind = draw(st.sampled_from(["flip", "cut", "drop", "double", "zero", "append"]))
    place, size = draw(st.floats(0, 1, exclude_max=True)), draw(st.integers(1, 3000))
    mask, tail = draw(st.integers(1, 255)), draw(st.binary(min_size=1, max_size=20))

    def damage(content):
        start = int(place * len(content))
        before, inside, after = (
            content[:start],
            content[start : start + size],
            content[start + size :],
        )
        return {
            "flip": before + bytes([content[start] ^ mask]) + content[start + 1 :],
            "cut": before,
            "drop": before + after,
            "double": before + inside + inside + after,
            "zero": before + bytes(len(inside)) + after,
            "append": content + tail,
        }[kind]

    return damage


def forms(arrays):
    """Yields (name, entry, {file: content}): what can be given as a source."""
    fashion = fashion_files()
    yield (
        "idx.gz",
        replace(FASHION, md5=md5(fashion)),
        {f"{name}.gz": gzip.compress(content) for name, content in fashion.items()},
    )
    yield "idx", replace(FASHION, md5=md5(fashion)), fashion
    batches = {name: cifar_pickle(*pair) for name, pair in arrays.items()}
    yield "python batches", replace(CIFAR, md5=md5(batches)), batches
    for suffix, encode in (("", cifar_pickle), (".bin", cifar_binary)):
        contents = {name + suffix: encode(*pair) for name, pair in arrays.items()}
        with tempfile.TemporaryDirectory() as folder:
            packed = pack(contents, Path(folder) / "packed").read_bytes()
        entry = CIFAR if suffix else replace(CIFAR, md5=md5(contents))
        yield f"tar.gz{suffix}", entry, {"cifar-10-python.tar.gz": packed}


def for_all(names, damages, cases, check, counts):
    @settings(
        max_examples=cases,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(names, damages)
    def run(which, damage):
        counts[check(which, damage)] += 1

    run()


def test_randomly_damaged_files_are_an_error_or_the_right_data(tmp_path, request, capsys):
    counts = Counter()
    cases = 3 * request.config.getoption("cases")

    def equal(a, b):
        return all(
            np.array_equal(getattr(a, part).images, getattr(b, part).images)
            and np.array_equal(getattr(a, part).labels, getattr(b, part).labels)
            for part in ("train", "test")
        )

    def check(folder, entry, contents, expected, which, damage):
        (folder / which).write_bytes(damage(contents[which]))
        try:
            found = read_source(entry, folder)
        except UsageError:
            return "an error"
        finally:
            (folder / which).write_bytes(contents[which])
        # Published sums that do not match: `prepare` refuses.
        if found.verified is False:
            return "refused for its sums"
        assert equal(found, expected)
        return "the right data"

    for form, entry, contents in forms(cifar_arrays()):
        folder = tmp_path / form
        folder.mkdir()
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        fixed = functools.partial(check, folder, entry, contents, read_source(entry, folder))
        for_all(st.sampled_from(sorted(contents)), damages(), cases, fixed, counts)
    assert counts["an error"] > 0
    with capsys.disabled():
        print(f"\nrandomly damaged files: {dict(counts)}")


def tar_with(path, *members):
    with tarfile.open(path, "w:gz") as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content) if content is not None else None)
    return path


def member(name, size=0, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (
            member("../data_batch_1", 3),
            r"\.\./data_batch_1 is not a plain file",
        ),
        (member("/etc/data_batch_1", 3), "is not a plain file"),
        (member("x/data_batch_1", 0, tarfile.SYMTYPE, "/etc/passwd"), "is not a plain file"),
        (member("x/data_batch_1", 0, tarfile.LNKTYPE, "x/test_batch"), "is not a plain file"),
        (member("x/data_batch_1", 0, tarfile.CHRTYPE), "is not a plain file"),
    ],
)
def test_members_that_mean_harm_are_refused(tmp_path, made, message):
    content = b"abc" if made.size else None
    path = tar_with(tmp_path / "cifar.tar.gz", (made, content))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=message):
        read_source(CIFAR, path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_batch_that_is_there_twice_is_refused(tmp_path):
    twice = [(member("x/data_batch_1", 3), b"abc"), (member("y/data_batch_1", 3), b"abd")]
    with pytest.raises(UsageError, match="data_batch_1 is in it twice"):
        read_source(CIFAR, tar_with(tmp_path / "cifar.tar.gz", *twice))


def test_files_that_unpack_to_far_too_much_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_LARGEST", 200_000)
    huge = (member("x/data_batch_1", 300_000), bytes(300_000))
    with pytest.raises(UsageError, match="not a plain file of at most 200,000 bytes"):
        read_source(CIFAR, tar_with(tmp_path / "cifar.tar.gz", huge))
    for name in fashion_files():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(bytes(10_000_000)))
    with pytest.raises(UsageError, match=r"is larger than 200,000 bytes"):
        read_source(FASHION, tmp_path)


def test_a_preparation_that_is_killed_leaves_nothing_that_is_taken_for_data(tmp_path, request):
    dice = random.Random(request.config.getoption("faults_seed"))
    contents = {f"{name}.bin": cifar_binary(*pair) for name, pair in cifar_arrays().items()}
    archive = pack(contents, tmp_path / "cifar.tar.gz")
    data_dir = tmp_path / "tfds"
    for _ in range(3):
        process = start("prepare", "cifar10", f"--source={archive}", f"--data_dir={data_dir}")
        process.watch(lambda: list(data_dir.glob(".flaxlab-*")), seconds=240)
        time.sleep(dice.uniform(0, 0.1))
        process.kill()
        for left in data_dir.glob(".flaxlab-*"):
            old = time.time() - 2 * 24 * 3600
            os.utime(left, (old, old))
        if prepared_folder("cifar10", data_dir) is not None:
            break  # it was too late
    folder = prepared_folder("cifar10", data_dir)
    folder = folder or prepare(CIFAR, archive, data_dir, allow_unverified=False)
    assert (folder / "flaxlab_origin.json").is_file()
    assert len(tfds.data_source("cifar10", data_dir=data_dir, split="train")) == 50
    assert not list(data_dir.glob(".flaxlab-*"))


def test_what_a_killed_process_left_in_the_cache_is_removed_after_a_day(tmp_path):
    cache = files.cache_folder() / "data"
    for name, age in ((".tmp-old", 2 * 24 * 3600), (".tmp-new", 60)):
        (cache / name).mkdir(parents=True)
        os.utime(cache / name, (time.time() - age, time.time() - age))
    through_cache("key", ["array"], lambda: [np.zeros(4)])
    assert sorted(path.name for path in cache.iterdir()) == [".tmp-new", "key"]
