"""The commands as a user starts them."""

import io
import json
import runpy
import sys
from pathlib import Path

import pytest
from rich.console import Console

from flaxlab.command_line import run_command
from flaxlab.config import to_json
from flaxlab.data.shape import resolve_config
from flaxlab.errors import RunFailed, UsageError
from flaxlab.main import main
from flaxlab.prepare import __main__ as prepare
from flaxlab.run.console import ConsoleProgress
from flaxlab.run.run import train
from flaxlab.run.tensorboard import TensorBoardLog
from flaxlab.training.experiment import assemble
from flaxlab.training.metrics import Row
from tests.helpers.processes import start
from tests.helpers.refusals import refused
from tests.helpers.report_facts import PARAMETERS
from tests.helpers.runs import (
    EXPERIMENTS,
    POOL_FILE,
    ROOT,
    RUN_FILES,
    SMALL_POOL,
    SMALL_RUN,
    small_config,
    small_dataset,
)

pytestmark = pytest.mark.usefixtures("pictures")

POOL = f"--config={POOL_FILE}"


# One of thirteen, as it is: what differs is the model, and tests/models/test_keras_parity.py has
# them all.
def test_an_experiment_runs_and_writes_a_complete_run_directory(tmp_path, capsys):
    main(
        [
            f"--config={EXPERIMENTS}/alexnet_l2.py",
            f"--workdir={tmp_path}",
            "--config.data.name=digits",
            "--config.train.epochs=1",
            "--config.data.train_examples=64",
            "--config.data.test_examples=32",
            "--config.train.batch_size=32",
            "--config.train.devices=1",
        ]
    )
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= RUN_FILES
    assert all(name.startswith("events.out.tfevents") for name in names - RUN_FILES)
    summary = json.loads((tmp_path / "summary.json").read_text())
    total, trainable, _ = PARAMETERS["alexnet_l2"]
    assert (summary["parameters_total"], summary["parameters_trainable"]) == (total, trainable)
    assert summary["steps"] == 2
    assert summary["name"] == "alexnet_l2"
    assert len(summary["penalised"]) == 7
    shown = capsys.readouterr().out
    assert f"{total:,}" in shown
    assert "epoch 1/1" in shown


def test_a_run_in_a_process_of_its_own_resumes_and_finishes(tmp_path, monkeypatch, capsys):
    arguments = [*SMALL_POOL, "--config.data.validation=holdout", "--config.log.progress=lines"]
    first = start("main", *arguments, "--config.train.epochs=1", cwd=tmp_path).end()
    assert first.code == 0, first.errors
    run = tmp_path / "runs/alexnet_pool"
    assert "runs/alexnet_pool/report.html" in first.shown
    assert "test accuracy" in first.shown
    assert {path.name for path in run.iterdir()} == RUN_FILES

    monkeypatch.chdir(tmp_path)
    main([*arguments, "--config.train.epochs=2"])
    again = capsys.readouterr().out
    assert "resuming after epoch 1" in again
    assert "epoch 2/2" in again
    assert json.loads((run / "summary.json").read_text())["epochs"] == 2
    assert json.loads((run / "config.json").read_text())["train"]["epochs"] == 2
    main([*arguments, "--config.train.epochs=2"])
    assert "epoch 2/2" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--config"),
        (["--config=experiments/nothing.py"], "there is no experiment file"),
        (
            [POOL, "--config.train.epoch=3"],
            "did you mean --config.train.epochs?",
        ),
        ([POOL, "--config.train.epochs=ten"], "wrong kind; expected int"),
        (
            [POOL, "--config.data.name=folder", "--config.data.folder=/nowhere"],
            "no folder /nowhere",
        ),
        ([*SMALL_POOL, "--config.data.train_examples=9999"], "there are only 1437"),
        (
            [*SMALL_POOL, "--config.train.batch_size=321"],
            "batch_size is 321, but the training split has 320 examples",
        ),
        (
            [*SMALL_POOL, "--config.data.image_shape=(2, 2, 1)", "--config.model.padding=VALID"],
            "does not fit",
        ),
        ([*SMALL_POOL, "--workdir=/dev/null/x"], "cannot be made"),
        ([*SMALL_POOL, "--config.baseline=nothing"], "there is no experiment file"),
        ([POOL, "--show=json"], "invalid choice: 'json' (choose from"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(arguments, message, capsys):
    assert message in refused(main, arguments, capsys)


def test_a_missing_data_set_without_a_network_is_one_line(tmp_path, monkeypatch, capsys):
    # No name can be looked up in an empty network namespace or on a machine without a network;
    # a proxy that refuses every connection does the same anywhere.
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert "python -m flaxlab.prepare cifar10 --source=DIR" in refused(
        main, [f"--config={EXPERIMENTS}/vgg_default.py", f"--workdir={tmp_path}/run"], capsys
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("error", "code", "start"),
    [
        (UsageError("wrong\ninput"), 2, "error: wrong input"),
        (PermissionError(13, "Permission denied", "/x"), 2, "error: /x: Permission denied"),
        (RunFailed("no number"), 1, "failed: no number"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_exit_codes(error, code, start, capsys):
    def failing(arguments):
        raise error

    with pytest.raises(SystemExit) as stop:
        run_command(failing, [])
    assert stop.value.code == code
    assert capsys.readouterr().err.startswith(start)


def test_your_own_experiment_in_any_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(POOL_FILE.read_text())
    workdir = "run [/b] $x"
    lines = ["--config.log.progress=lines", f"--workdir={workdir}"]
    main(["--config=mine.py", *SMALL_RUN, "--config.name=my [/b] $x", *lines])
    shown = capsys.readouterr().out
    assert "my [/b] $x" in shown
    assert f"{workdir}/report.html" in shown
    assert "alexnet_default" in Path(workdir, "report.html").read_text()
    with pytest.raises(UsageError, match=r"'../x' is not the name of an experiment"):
        main(["--config=mine.py", *SMALL_RUN, "--config.baseline=../x"])


def test_show_prints_and_trains_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main([*SMALL_POOL, "--config.model.batch_norm_momentum=0.99", "--config.loss.l2=0.5", "--show"])
    shown = capsys.readouterr().out
    assert "changes     to alexnet_default" in shown
    assert "loss.l2   0.0 -> 0.5" in shown
    assert "penalised (L1 0, L2 0.5): block1/conv1/kernel" in shown
    assert "cannot settle" in shown
    assert "{" not in shown
    assert not list(tmp_path.iterdir())


def test_show_config_prints_the_whole_config_as_json_and_nothing_else(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    overrides = [
        "--config.data.name=folder",
        "--config.data.folder=/nowhere",  # no data is loaded
        "--config.data.image_shape=(8, 8, 1)",
    ]
    main([POOL, *overrides, "--show=config"])
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads(to_json(resolve_config(POOL_FILE, overrides)))
    assert shown["data"]["folder"] == "/nowhere"
    assert not list(tmp_path.iterdir())


def test_the_bar_and_the_lines_of_a_run():
    shown = {}
    for style in ("bar", "lines", "none"):
        text = io.StringIO()
        console = Console(file=text, force_terminal=True, width=120)
        progress = ConsoleProgress(console, style)
        progress.run_started(assemble(small_config(), small_dataset()), 0, 0)
        progress.step_done(1, 2, {"loss": 0.5, "accuracy": 0.25})
        row = Row(1, 0.5, 0.25, 0.75, 0.125, 0.001, penalty=2.0, images_per_second=1234.0)
        progress.epoch_done(row)
        progress.run_done()
        shown[style] = text.getvalue()
    line = "epoch 1/3  train loss 0.5000 accuracy 0.2500 penalty 2.0000  validation loss 0.7500"
    assert line in shown["lines"]
    assert line in shown["bar"]
    assert "2/3" in shown["bar"]
    assert "1,234 images/s  ETA 0:00" in shown["lines"]
    assert shown["none"] == ""


def test_tensorboard_gets_every_epoch(tmp_path):
    experiment = assemble(small_config(**{"log.every_steps": 0}), small_dataset())
    train(experiment, tmp_path, [TensorBoardLog(tmp_path)])
    (events,) = tmp_path.glob("events.out.tfevents*")
    content = events.read_bytes()
    for tag in (b"accuracy/train", b"accuracy/validation", b"loss/train", b"learning_rate"):
        assert content.count(tag) == 3


PACKAGE = ROOT / "flaxlab"
COMMANDS = [PACKAGE / "main.py", *sorted(PACKAGE.glob("*/__main__.py"))]


def test_there_are_commands():
    assert len(COMMANDS) > 9


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_help_shows_examples(path, monkeypatch, capsys):
    """Runs what `python -m` runs, without starting a process for each command."""
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0")  # or it would start anew
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(path), run_name="__main__")
    assert stop.value.code == 0
    name = path.parent.name if path.name == "__main__.py" else "main"
    shown = capsys.readouterr().out
    assert "examples:" in shown
    assert f"python -m flaxlab.{name} " in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mnist"], "invalid choice"),
        (["cifar10", "--source=/nowhere"], "--source=/nowhere does not exist"),
        (["cifar10", "--source=."], "holds no CIFAR-10"),
        (["fashion_mnist", "--source=."], "neither train-images-idx3-ubyte nor"),
    ],
)
def test_prepare_explains_wrong_input(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        run_command(prepare.main, arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_prepare_does_not_overwrite(tmp_path, capsys):
    folder = tmp_path / "cifar10/3.0.2"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{}")
    with pytest.raises(SystemExit) as stop:
        run_command(prepare.main, ["cifar10", f"--data_dir={tmp_path}"])
    assert stop.value.code == 2
    assert "is already prepared" in capsys.readouterr().err
