"""SIGTERM and SIGINT: the step ends, the state is saved, and the run goes on with the same bits."""

import signal
import time

import pytest

from flaxlab.main import main
from tests.helpers.processes import EPOCHS, TRAINING, Training, run_code, start
from tests.helpers.run_directories import assert_same_outcome, outcome, require_clean
from tests.helpers.runs import SMALL_POOL

# Long enough not to be over before the signal comes.
LONG = ("--config.train.epochs=2000",)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_inside_of_an_epoch_and_says_how_to_go_on(tmp_path, number, code):
    training = Training(tmp_path, *LONG, "--config.checkpoint.every_steps=0")
    training.wait_for_line("epoch    2/2000")
    training.send(number)
    found, _, errors = training.end()
    assert found == code, errors
    lines = errors.strip().splitlines()
    again = {signal.SIGTERM: "Ctrl-C (SIGINT)", signal.SIGINT: "once more"}[number]
    assert lines[-2] == f"{number.name}: saving after this step; {again} stops at once"
    assert lines[-1].startswith("interrupted: after ")
    assert lines[-1].endswith("everything is saved; start the same command again to resume")
    again = Training(tmp_path, *LONG)
    assert "resuming after" in again.wait_for_line("resuming after")
    again.send(number)
    assert again.end()[0] == code


def test_a_run_that_was_interrupted_ends_with_the_same_bits(tmp_path, undisturbed):
    for epoch in (1, 4):
        training = Training(tmp_path)
        training.wait_for_line(f"epoch {epoch}/{EPOCHS}")
        training.send(signal.SIGTERM)
        assert training.end()[0] in (143, 0)
    main([*TRAINING, f"--workdir={tmp_path}"])
    assert_same_outcome(outcome(tmp_path), undisturbed)
    require_clean(tmp_path)


def send_before_any_step_can_end(training, *numbers):
    training.send(signal.SIGSTOP)
    for number in numbers:
        training.send(number)
    training.send(signal.SIGCONT)


def test_a_second_signal_ends_the_process_at_once(tmp_path):
    training = Training(tmp_path, *LONG)
    training.wait_for_line("epoch    1/2000")
    send_before_any_step_can_end(training, signal.SIGINT, signal.SIGTERM)
    code, _, errors = training.end(seconds=20)
    assert code in (130, 143)
    assert "stopped at once" in errors
    assert "interrupted: " not in errors  # what a run says that ends by itself
    assert "Traceback" not in errors


def test_what_slurm_sends_twice_or_in_a_row_means_no_haste(tmp_path):
    training = Training(tmp_path, *LONG)
    training.wait_for_line("epoch    1/2000")
    send_before_any_step_can_end(training, signal.SIGUSR2, signal.SIGTERM)
    code, _, errors = training.end()
    assert code in (128 + signal.SIGUSR2, 143)
    assert "everything is saved" in errors
    assert "stopped at once" not in errors


def test_a_signal_before_the_training_is_one_line(tmp_path):
    training = Training(tmp_path, *LONG)
    time.sleep(1.5)  # importing, or compiling
    training.send(signal.SIGTERM)
    code, _, errors = training.end()
    assert code in (143, -signal.SIGTERM), errors
    assert "Traceback" not in errors


IN_A_DESTRUCTOR = """
import os, signal, sys, time
from flaxlab.command_line import run_command

class Last:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        [number for number in range(100)]

def command(arguments):
    last = Last()
    del last
    time.sleep(60)

run_command(command, [])
"""


def test_a_signal_inside_of_a_destructor_is_not_lost():
    code, _, errors = run_code(IN_A_DESTRUCTOR)
    assert code == 143
    assert errors == "interrupted: start the same command again to resume\n"


def test_a_suite_is_interrupted_as_a_whole(tmp_path):
    sweep = ["--sweep.optimizer.learning_rate=1e-3,1e-2", "--seeds=2", f"--workdir={tmp_path}"]
    process = start("suite", *SMALL_POOL, *LONG, *sweep)
    process.wait_for(lambda: list(tmp_path.glob("*/seed_0/checkpoints/latest/*0")))
    process.send(signal.SIGTERM)
    code, _, errors = process.end()
    assert code == 143, errors
    assert "start the same command again to resume" in errors
    assert len(list(tmp_path.glob("*/seed_*"))) == 1
