"""benchmarks/gpu.py from end to end, dry: on a CPU, with digits."""

import importlib
import json
import math
import re
from types import SimpleNamespace

import pytest

from benchmarks import gpu, gpu_parts
from benchmarks.trace import read_trace
from flaxlab.errors import RunFailed, UsageError
from tests.helpers.report_facts import PARAMETERS
from tests.helpers.runs import ROOT


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


def test_without_peers_the_part_is_left_for_later(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_parts, "find_spec", lambda name: None)
    with pytest.raises(RunFailed, match="neither Keras nor PyTorch is installed"):
        gpu_parts.peers(gpu_parts.Bench(tmp_path, dry=True, until=math.inf))


def event(name, start, duration, **stats):
    return SimpleNamespace(
        name=name, start_ns=start * 1e6, duration_ns=duration * 1e6, stats=list(stats.items())
    )


def test_of_a_gpu_the_streams_are_read_without_other_programs(tmp_path, monkeypatch):
    own, other = {"hlo_module": "jit_train"}, {"hlo_module": "jit_evaluate"}
    stream = [
        event("gemm", 0, 3, hlo_op="dot.1", **own),
        event("gemm", 4, 1, hlo_op="dot.1", **own),
        event("graph", 5, 2),  # names no program
        event("softmax", 7, 9, hlo_op="fusion.2", **other),
        event("body", 4, 3, hlo_op="while.3", **own),
    ]
    summary = [event("jit_train", 0, 7, **own)]
    host = [event("launch", 0, 50), event("thread", 0, 50, hlo_op="copy.1", **other)]
    planes = [
        ("/device:GPU:0", [("Stream #1(Compute)", stream), ("XLA Modules", summary)]),
        ("/host:CPU", [("python", host)]),
    ]
    trace = SimpleNamespace(
        planes=[
            SimpleNamespace(
                name=name, lines=[SimpleNamespace(name=line, events=each) for line, each in lines]
            )
            for name, lines in planes
        ]
    )
    monkeypatch.setattr("benchmarks.trace.ProfileData.from_file", lambda file: trace)
    folder = tmp_path / "profile/plugins/profile/now"
    folder.mkdir(parents=True)
    (folder / "host.xplane.pb").touch()
    kernels, span = read_trace(tmp_path)
    assert kernels == [("gemm", "dot.1", 2, 4.0), ("graph", "", 1, 2.0)]
    assert span == 7.0


def test_a_run_without_a_trace_is_one_line(tmp_path):
    with pytest.raises(RunFailed, match="has no trace of the training program"):
        read_trace(tmp_path)


def test_the_report_on_a_gpu_is_all_thirteen_networks_with_five_seeds():
    recipe = (ROOT / "Makefile").read_text().split("report-gpu:")[1].split("\n\n")[0]
    (names,) = re.findall(r"for suite in (.*); do", recipe)
    networks = []
    for name in names.split():
        suite = importlib.import_module(f"experiments.suites.{name}").get_suite()
        given = re.findall(rf"\$\$suite = {name} \]; then only=--arms=(\w+)", recipe)
        networks += given or [suite.baseline, *suite.arms]
    assert sorted(networks) == sorted(PARAMETERS)
    assert "--seeds=5" in recipe


def test_an_unknown_part_is_one_line(tmp_path):
    with pytest.raises(UsageError, match="--parts=speed; expected some of losses, steps"):
        gpu.main([f"--to={tmp_path}", "--dry", "--parts=speed"])
