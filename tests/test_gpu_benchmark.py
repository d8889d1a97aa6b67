"""benchmarks/gpu.py from end to end, dry: on a CPU, with digits."""

import json
import math
from types import SimpleNamespace

import pytest

from benchmarks import gpu, gpu_parts
from flaxlab.errors import RunFailed, UsageError


def test_every_part_runs_dry_and_is_not_repeated(tmp_path, capsys):
    gpu.main([f"--to={tmp_path}", "--dry"])
    found = json.loads((tmp_path / "gpu.json").read_text())
    parts = found["parts"]
    assert list(parts) == list(gpu.PARTS)
    assert all(row["same class"] == 1.0 for row in parts["losses"])
    assert [row["by"] for row in parts["peers"]] == ["Keras on JAX"]
    assert all(row["ms"] > 0 for row in (*parts["steps"], *parts["peers"]))
    assert parts["epochs"][0]["accuracy"] > 0.5
    assert all(row["twice"] and row["stopped and resumed"] for row in parts["bits"])
    *slowest, everything = parts["profile"]
    times = [row["milliseconds"] for row in slowest]
    assert times == sorted(times, reverse=True)
    assert all(row["calls"] % 10 == 0 for row in slowest)  # ten calls are traced
    assert everything["milliseconds"] > sum(times) > 0
    assert parts["tasks"][0]["seconds"] > 0
    table = (tmp_path / "gpu.md").read_text()
    assert all(f"## {part}" in table for part in gpu.PARTS)

    capsys.readouterr()
    gpu.main([f"--to={tmp_path}", "--dry"])
    assert not any(line.startswith(f"{part}:") for part in parts for line in _lines(capsys))


def _lines(capsys):
    return capsys.readouterr().out.splitlines()


def test_a_failed_part_leaves_the_others_and_is_tried_again(tmp_path, monkeypatch):
    def fail(bench):
        raise RunFailed("no such thing")

    monkeypatch.setattr(gpu, "PARTS", {"steps": fail, "memory": gpu_parts.memory})
    with pytest.raises(RunFailed, match=r"steps \(no such thing\); the logs are in"):
        gpu.main([f"--to={tmp_path}", "--dry", "--parts=steps,memory"])
    monkeypatch.setattr(gpu, "PARTS", {"steps": lambda bench: [{"ms": 1.0}], "memory": fail})
    gpu.main([f"--to={tmp_path}", "--dry", "--parts=steps,memory"])
    assert set(json.loads((tmp_path / "gpu.json").read_text())["parts"]) == {"steps", "memory"}


class Stubborn(gpu_parts.Bench):
    """PyTorch never compiles on it."""

    def python(self, name, *command, seconds, **options):
        if "torch" in command[0]:
            raise RunFailed(f"{name} took more than {seconds} s")
        return SimpleNamespace(stdout='{"ms": 1.5}\n')


def test_a_peer_that_fails_has_a_row_that_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_parts, "find_spec", lambda name: True)
    rows = gpu_parts.peers(Stubborn(tmp_path, dry=False, until=math.inf))
    keras = [row["ms"] for row in rows if row["by"] == "Keras on JAX"]
    assert keras == [1.5] * 3
    torch = [row["failed"] for row in rows if row["by"] == "torch.compile"]
    assert torch == [f"{number} took more than 120 s" for number in (3, 4, 5)]
    # When there is no time left, the part is not done.
    with pytest.raises(RunFailed, match="took more than 120 s"):
        gpu_parts.peers(Stubborn(tmp_path, dry=False, until=0.0))


def test_an_unknown_part_is_one_line(tmp_path):
    with pytest.raises(UsageError, match="--parts=speed; expected some of losses, steps"):
        gpu.main([f"--to={tmp_path}", "--dry", "--parts=speed"])
