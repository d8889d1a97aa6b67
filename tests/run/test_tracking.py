"""Trackers, by what their own packages have written: whole, once, and never in the way."""

import functools
import json
import struct
from importlib.machinery import PathFinder
from pathlib import Path

import pytest
import wandb
from mlflow import MlflowClient
from wandb.proto import wandb_internal_pb2

from flaxlab.config import default_config
from flaxlab.config.rules import validate
from flaxlab.errors import UsageError
from flaxlab.main import main
from flaxlab.run import tracking
from flaxlab.run.history import read_history
from flaxlab.run.origin import Origin
from flaxlab.run.run import train
from flaxlab.run.steps import read_steps
from flaxlab.suite.__main__ import main as suite
from flaxlab.training.experiment import assemble
from flaxlab.training.programs import compile_programs
from tests.helpers.processes import run_code, start
from tests.helpers.runs import SMALL_POOL, Listener, small_config, small_dataset

BOTH = "--config.log.trackers=('wandb', 'mlflow')"


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Ends the service of W&B after each test, and has no test find a server."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_PROJECT", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    yield
    wandb.teardown()


def read_records(path: Path):
    """Reads a file of W&B: the log format of LevelDB, blocks of 32 KiB, behind its own header."""
    content, at, whole = path.read_bytes(), 7, b""
    assert content[:4] == b":W&B"
    while at + 7 <= len(content):
        room = 2**15 - at % 2**15
        if room < 7:
            at += room
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def in_wandb(folder):
    """Returns the runs, rows and summary in all starts of a W&B run, and its number of starts."""
    runs, rows, summary = [], [], {}
    files = sorted(folder.glob("wandb/offline-run-*/*.wandb"))
    for path in files:
        for record in read_records(path):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                runs.append(record.run)
            if kind == "history":
                found = record.history.item
                rows.append({x.key or x.nested_key[0]: json.loads(x.value_json) for x in found})
            if kind == "summary":
                found = record.summary.update
                summary |= {x.key or x.nested_key[0]: json.loads(x.value_json) for x in found}
    return runs, rows, summary, len(files)


def in_mlflow(store):
    """Returns the client of a local store, and its runs by name."""
    client = MlflowClient((store / "mlruns").as_uri())
    experiments = [each.experiment_id for each in client.search_experiments()]
    return client, {run.info.run_name: run for run in client.search_runs(experiments)}


def config_of(run):
    return {item.key: json.loads(item.value_json) for item in run.config.update}


def test_a_run_is_whole_in_both_and_continues_there(tmp_path):
    arguments = [*SMALL_POOL, BOTH, f"--workdir={tmp_path}"]
    main([*arguments, "--config.train.epochs=2"])
    main([*arguments, "--config.train.epochs=3"])
    main([*arguments, "--config.train.epochs=3"])  # nothing is left to do
    history, steps = read_history(tmp_path / "history.csv"), read_steps(tmp_path / "steps.csv")
    summary = json.loads((tmp_path / "summary.json").read_text())
    stored = json.loads((tmp_path / "config.json").read_text())
    assert len(history) == 3
    assert len(steps) == 30

    runs, rows, shown, starts = in_wandb(tmp_path)
    assert starts == 2
    assert {(run.run_id, run.project, run.run_group) for run in runs} == {
        (json.loads((tmp_path / "wandb.json").read_text())["id"], "flaxlab", "")
    }
    assert {(run.display_name, run.job_type, *run.tags) for run in runs} == {
        ("alexnet_pool seed 0", "alexnet_pool", "alexnet_pool")
    }
    assert config_of(runs[-1])["model"] == stored["model"]
    assert config_of(runs[-1])["train"]["epochs"] == 3
    assert [row["_step"] for row in rows] == [row.step for row in steps]  # one of both at the end
    assert [row["steps/loss"] for row in rows] == [row.train_loss for row in steps]
    epochs = [row for row in rows if "epoch" in row]
    assert [(row["epoch"], row["loss/validation"], row["accuracy/train"]) for row in epochs] == [
        (row.epoch, row.val_loss, row.train_accuracy) for row in history
    ]
    assert shown["final_val_accuracy"] == summary["final_val_accuracy"]
    for name in ("report.html", "curves.png"):
        (saved, *_) = sorted(tmp_path.glob(f"wandb/offline-run-*/files/{name}"))
        assert saved.read_bytes() == (tmp_path / name).read_bytes()

    client, found = in_mlflow(tmp_path)
    (run,) = found.values()
    assert run.info.run_id == json.loads((tmp_path / "mlflow.json").read_text())["id"]
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "alexnet_pool seed 0"
    assert run.data.tags["experiment"] == "alexnet_pool"
    assert run.data.params["optimizer.learning_rate"] == "0.005"
    assert run.data.metrics["final_val_accuracy"] == summary["final_val_accuracy"]

    def series(name):
        points = client.get_metric_history(run.info.run_id, name)
        return [(point.step, point.value) for point in points]

    assert series("loss/validation") == [(row.epoch, row.val_loss) for row in history]
    assert series("steps/accuracy") == [(row.step, row.train_accuracy) for row in steps]
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {*tracking._FILES}


@functools.cache
def programs():
    """The programs of all runs of `run`."""
    experiment = assemble(small_config(), small_dataset())
    return compile_programs(experiment)


def run(workdir, before=(), after=(), **overrides):
    """Trains with a tracker of MLflow among some reporters."""
    config = small_config(**{"log.trackers": ("mlflow",), **overrides})
    experiment = assemble(config, small_dataset())
    (log,) = tracking.make_trackers(experiment, Origin(Path(), config, {}, None), workdir)
    with log:
        return train(experiment, workdir, [*before, log, *after], programs())


@pytest.mark.parametrize("before", [True, False])
def test_a_killed_run_has_each_row_once(tmp_path, before):
    """Killed after the second epoch: before the tracker hears of it, or after."""

    class Kill(Listener):
        def epoch_done(self, row):
            if row.epoch == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, *([[Kill()], []] if before else [[], [Kill()]]))
    _, found = in_mlflow(tmp_path)
    assert [run.info.status for run in found.values()] == ["FAILED"]
    run(tmp_path)
    client, found = in_mlflow(tmp_path)
    (only,) = found.values()
    for name, count in (("accuracy/validation", 3), ("steps/loss", 9)):
        points = client.get_metric_history(only.info.run_id, name)
        assert [point.step for point in points] == list(range(1, count + 1))


def test_a_store_that_is_gone_gets_the_whole_run(tmp_path, monkeypatch):
    run(tmp_path, **{"train.epochs": 1})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "other/mlruns").as_uri())
    run(tmp_path)
    client, found = in_mlflow(tmp_path / "other")
    (only,) = found.values()
    points = client.get_metric_history(only.info.run_id, "loss/train")
    assert [point.step for point in points] == [1, 2, 3]


def test_a_run_from_the_beginning_is_another_run(tmp_path):
    class Kill(Listener):
        def steps_written(self, rows):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [Kill()], **{"checkpoint.epoch_seconds": 1000.0})
    first = json.loads((tmp_path / "mlflow.json").read_text())["id"]
    run(tmp_path, **{"train.epochs": 1})
    assert json.loads((tmp_path / "mlflow.json").read_text())["id"] != first


def test_a_tracker_that_fails_is_told_once_and_stops_nothing(tmp_path, monkeypatch, caplog):
    calls = []

    def fail(self, *arguments, **options):
        calls.append(arguments)
        if len(calls) > 1:
            raise ConnectionError("no server\nat this address")

    log_batch = MlflowClient.log_batch
    monkeypatch.setattr(MlflowClient, "log_batch", fail)
    result = run(tmp_path)
    assert len(result.history) == 3
    assert caplog.text.count("no more of this run") == 1
    assert "mlflow gets no more of this run (ConnectionError: no server at this add" in caplog.text
    # What it has missed comes with the next start.
    monkeypatch.setattr(MlflowClient, "log_batch", log_batch)
    run(tmp_path, **{"train.epochs": 4})
    client, found = in_mlflow(tmp_path)
    (only,) = found.values()
    points = client.get_metric_history(only.info.run_id, "loss/train")
    assert [point.step for point in points] == [1, 2, 3, 4]


def test_a_damaged_memory_of_a_tracker_stops_nothing(tmp_path, caplog):
    (tmp_path / "mlflow.json").write_text("{")
    assert len(run(tmp_path).history) == 3
    assert caplog.text.count("no more of this run") == 1


def test_a_suite_is_a_group_with_its_comparison(tmp_path):
    suite(
        [
            *SMALL_POOL,
            "--config.train.epochs=1",
            "--config.optimizer.learning_rate=0.001",
            "--sweep.loss.l2=0.0,0.01",
            "--seeds=1",
            BOTH,
            f"--workdir={tmp_path}",
        ]
    )
    record = json.loads((tmp_path / "suite.json").read_text())
    client, found = in_mlflow(tmp_path)
    assert len(found) == 3
    comparison = found[f"{record['name']} comparison"]
    for each in found.values():
        assert client.get_experiment(each.info.experiment_id).name == record["name"]
        assert each.data.tags["suite"] == record["name"]
    assert "comparison.csv" in {x.path for x in client.list_artifacts(comparison.info.run_id)}
    folders = sorted(tmp_path.glob("*/seed_0"))
    assert len(folders) == 2
    for folder in folders:
        (begun, *_), _, _, _ = in_wandb(folder)
        config = json.loads((folder / "config.json").read_text())
        assert (begun.run_group, begun.job_type) == (record["name"], config["name"])
        assert config_of(begun)["seed"] == 0
        digest = json.loads((folder / "summary.json").read_text())["suite"]
        assert {*begun.tags} == {config["name"], record["name"], digest}
    (begun, *_), _, _, _ = in_wandb(tmp_path)
    assert (begun.run_group, begun.job_type) == (record["name"], "comparison")
    assert list(tmp_path.glob("wandb/offline-run-*/files/comparison.html"))


@pytest.mark.parametrize(
    "names", [("tensorboard",), ("wandb", "wandb"), "wandb", ("wandb,mlflow",)]
)
def test_a_wrong_name_is_one_line(names):
    config = default_config()
    with config.ignore_type():
        config.log.trackers = names
    with pytest.raises(UsageError, match=r'config.log.trackers is .*expected "wandb", "mlflow"'):
        validate(config)


def test_a_package_that_is_not_there_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "mlflow").mkdir()  # an empty folder looks like a package

    def find_spec(name):
        return PathFinder.find_spec(name, [str(tmp_path)])

    monkeypatch.setattr("importlib.util.find_spec", find_spec)
    for name in ("wandb", "mlflow"):
        with pytest.raises(UsageError, match=rf"'{name}', which is not installed.*lab\[{name}\]'"):
            tracking.require_trackers([name])


@pytest.mark.parametrize("command", ["main", "suite.__main__"])
def test_a_command_without_the_package_ends_with_code_2_before_it_trains(tmp_path, command):
    code = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "hide = lambda name, *at: None if name == 'wandb' else find(name, *at)\n"
        "importlib.util.find_spec = hide\n"
        "from flaxlab.command_line import run_command\n"
        f"from flaxlab.{command} import main\n"
        "run_command(main, sys.argv[1:])\n"
    )
    sweep = ["--sweep.loss.l2=0.0,0.01", "--seeds=1"] if command != "main" else []
    workdir = tmp_path / "run"
    arguments = [*SMALL_POOL, *sweep, "--config.log.trackers=wandb", f"--workdir={workdir}"]
    code, _, errors = run_code(code, *arguments)
    assert (code, errors.count("\n")) == (2, 1), errors
    assert "pip install 'flaxlab[wandb]'" in errors
    assert not workdir.exists()


def test_flaxlab_imports_no_tracker_unless_asked():
    found = run_code("import sys, flaxlab.run.run; print({'wandb', 'mlflow'} & {*sys.modules})")
    assert found.shown == "set()\n", found.errors


def test_no_process_outlives_a_run(tmp_path):
    arguments = [*SMALL_POOL, "--config.train.epochs=1", "--config.log.trackers=wandb"]
    variables = {"MARK_OF_THIS_TEST": str(tmp_path), "WANDB_MODE": None}
    with start("main", *arguments, f"--workdir={tmp_path}", environment=variables) as process:
        code, _, errors = process.end()
    assert (code, errors) == (0, "")
    assert list(tmp_path.glob("wandb/offline-run-*"))  # the default
    assert not [
        path for path in Path("/proc").glob("[0-9]*/environ") if str(tmp_path) in _read(path)
    ]


def _read(path):
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
