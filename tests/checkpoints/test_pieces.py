"""Large arrays are read in pieces if they are stored in Orbax's default way, else whole."""

import sys

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tensorstore

from flaxlab.checkpoints.read import list_leaves, read_pieces
from flaxlab.errors import UsageError
from tests.helpers.processes import run_code

_IN_PIECES = {"the default": {}, "a folder for each array": {"use_ocdbt": False}}
_WHOLE = {
    "uncompressed": {"use_compression": False},
    "Zarr 3": {"use_zarr3": True},
    "Zarr 3, a folder for each array": {"use_zarr3": True, "use_ocdbt": False},
}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Every array counts as large."""
    monkeypatch.setattr("flaxlab.checkpoints.read._LARGE", 0)
    monkeypatch.setattr("flaxlab.checkpoints.pieces._PIECE", 1000)
    monkeypatch.setattr("flaxlab.checkpoints.pieces._READ", 300)


def save(folder, tree, chunk=None, **layout):
    args = ocp.args.PyTreeSave(
        tree, save_args={name: ocp.SaveArgs(chunk_byte_size=chunk) for name in tree}
    )
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(**layout)) as checkpointer:
        checkpointer.save(folder, args=args)
    return folder


def read(folder):
    return {leaf.path: values for leaf, values in read_pieces(folder, list_leaves(folder))}


@pytest.mark.parametrize("chunk", [None, 2000])
@pytest.mark.parametrize("layout", _IN_PIECES.values(), ids=_IN_PIECES.keys())
def test_pieces_hold_the_values_of_the_array(tmp_path, layout, chunk):
    rng = np.random.default_rng(0)
    tree = {
        "noise": rng.standard_normal((4, 30, 50), np.float32),  # cut along its last axes
        "half": jnp.asarray(rng.standard_normal((70, 50)), jnp.bfloat16),
        "counts": rng.integers(-5, 5, (2000,), np.int64),
        "wave": np.sin(np.arange(3000)) + 1j * np.arange(3000),
        "nothing": np.zeros((3, 1000), np.float32),  # compressed to a few bytes
        "mask": rng.integers(0, 2, (4000,)).astype(bool),
    }
    found = read(save(tmp_path / "saved", tree, chunk, **layout))
    assert found.keys() == tree.keys()
    for name, array in tree.items():
        for _ in range(2):  # they can be read again
            pieces = list(found[name]())
            assert len(pieces) > 1
            assert max(piece.nbytes for piece in pieces) <= 1000
            values = np.concatenate(pieces)
            assert values.dtype == array.dtype
            np.testing.assert_array_equal(np.sort(values), np.sort(np.asarray(array).ravel()))
            if chunk is None:  # then in their order, too
                np.testing.assert_array_equal(values, np.asarray(array).ravel())


@pytest.mark.parametrize("layout", _WHOLE.values(), ids=_WHOLE.keys())
def test_other_layouts_of_orbax_are_read_whole(tmp_path, layout):
    array = np.random.default_rng(0).standard_normal((40, 30)).astype(np.float32)
    folder = save(tmp_path / "saved", {"group/w": array}, 2000, **layout)
    (whole,) = read(folder)["group/w"]()
    np.testing.assert_array_equal(whole, array)


@pytest.mark.parametrize(
    "metadata",
    [
        {"compressor": {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1}},
        {"compressor": {"id": "zstd", "level": 1}, "chunks": [17, 30]},
        {"compressor": None, "order": "F"},
        {"compressor": None, "dtype": ">f4"},
    ],
    ids=["compressor", "chunks over the edge", "order", "byte order"],
)
def test_what_is_stored_otherwise_is_read_whole(tmp_path, metadata):
    array = np.random.default_rng(0).standard_normal((40, 30)).astype(np.float32)
    folder = save(tmp_path / "saved", {"w": array}, use_ocdbt=False)
    spec = {
        "driver": "zarr",
        "kvstore": {"driver": "file", "path": f"{folder / 'w'}/"},
        "metadata": {"shape": [40, 30], "chunks": [40, 30], "dtype": "<f4", **metadata},
    }
    stored = tensorstore.open(spec, create=True, delete_existing=True).result()
    stored.write(array).result()
    (whole,) = read(folder)["w"]()
    np.testing.assert_array_equal(whole, array)


def test_damaged_chunks_are_named(tmp_path):
    """No manifest tells of them: the project that saved them wrote none."""
    array = np.random.default_rng(0).standard_normal((400, 30)).astype(np.float32)
    folder = save(tmp_path / "saved", {"w": array}, 8000, use_ocdbt=False)
    path = folder / "w/3.0"
    intact = path.read_bytes()
    for damaged in (intact[: len(intact) // 2], b"\0" * len(intact), b""):
        path.write_bytes(damaged)
        with pytest.raises(UsageError, match=r"w in .*saved cannot be read"):
            list(read(folder)["w"]())
    path.write_bytes(intact)
    assert sum(piece.size for piece in read(folder)["w"]()) == array.size


PEAK = """
import sys
from pathlib import Path
from flaxlab.inspect.__main__ import main
main(sys.argv[1:])
print(Path("/proc/self/status").read_text())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
def test_statistics_of_an_array_take_less_memory_than_the_array(tmp_path):
    array = np.random.default_rng(0).standard_normal((16000, 2000), np.float32)  # 128 MB

    def peak(*arguments):
        shown = run_code(PEAK, tmp_path / "saved", *arguments).shown
        return int(shown.split("VmHWM:")[1].split()[0]) * 1024

    save(tmp_path / "saved", {"w": array})
    assert peak("--stats") < peak() + array.nbytes
