"""kill -9 at any moment: the run goes on and ends with the same bits, and nothing is half-written.

`make faults` kills 60 times; a plain test run does so a few times. Each test prints what it did.
"""

import random
import time
from collections import Counter

import pytest

from tests.helpers.processes import EPOCHS, STEPS_PER_EPOCH, Training
from tests.helpers.run_directories import (
    assert_same_outcome,
    history_rows,
    outcome,
    require_clean,
    require_whole,
    unfinished_saves,
)

PROTOCOLS = ("test", "holdout")


@pytest.fixture(scope="module")
def holdout(tmp_path_factory):
    """What an undisturbed run with a holdout ends with, and the seconds that it takes."""
    workdir = tmp_path_factory.mktemp("holdout")
    started = time.monotonic()
    code, _, errors = Training(workdir, "--config.data.validation=holdout").end()
    assert code == 0, errors
    require_whole(workdir)
    require_clean(workdir)
    return outcome(workdir), time.monotonic() - started


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(
    tmp_path, undisturbed, holdout, request, capsys
):
    wanted = request.config.getoption("kills")
    dice = random.Random(request.config.getoption("faults_seed"))
    counts = Counter()
    outcomes, seconds = {"test": undisturbed, "holdout": holdout[0]}, holdout[1]
    while counts["kills"] < wanted:
        protocol = PROTOCOLS[counts["runs"] % 2]
        workdir = tmp_path / str(counts["runs"])
        # After each epoch, after some, or only after the last one.
        seldom = f"--config.checkpoint.epoch_seconds={dice.choice((0, 0.2, 1000))}"
        rows, finished = 0, False
        while not finished:
            training = Training(workdir, f"--config.data.validation={protocol}", seldom)
            if counts["kills"] < wanted:
                _wait_for_a_moment(training, dice, seconds)
                alive, shown = training.kill()
                finished = not alive
                counts["kills"] += alive
                counts["in a save"] += bool(unfinished_saves(workdir))
            else:
                code, shown, errors = training.end()
                assert code == 0, errors
                assert "Traceback" not in errors
                finished = True
            counts["starts inside of an epoch"] += "resuming after step" in shown
            if workdir.exists():
                require_whole(workdir)
                now = len(history_rows(workdir))
                # An epoch that was shown as saved is never lost again.
                assert now >= rows
                rows = now
            counts["starts"] += 1
        assert_same_outcome(outcome(workdir), outcomes[protocol])
        assert rows == EPOCHS
        require_clean(workdir)
        counts["runs"] += 1
    assert counts["kills"] >= wanted
    with capsys.disabled():
        print(f"\nkill -9: {dict(counts)}; {EPOCHS} epochs of {STEPS_PER_EPOCH} steps a run")


def _wait_for_a_moment(training, dice, seconds):
    """Waits for a random moment: anywhere in a run, or when a save is seen to be under way."""
    if dice.random() < 0.5:
        delay = dice.uniform(0, 1.1 * seconds)
        training.watch(lambda: False, delay)
        return
    seen = set()
    wanted = dice.randint(1, 8)

    def saving():
        seen.update(path.name for path in unfinished_saves(training.workdir))
        return len(seen) >= wanted

    training.watch(saving, 240.0)
    training.watch(lambda: False, dice.uniform(0, 0.03))
