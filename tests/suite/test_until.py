"""Seeds that are added until every arm is decided, and not one more."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from flaxlab.compare.suite_file import read_suite_file
from flaxlab.errors import Interrupted, UsageError
from flaxlab.suite import command, runner
from flaxlab.suite import runs as suite_runs
from flaxlab.suite.__main__ import main
from flaxlab.suite.plan import plan_suite
from flaxlab.suite.runs import SuiteRun
from flaxlab.suite.until import next_runs, run_until_decided
from tests.helpers.finished_runs import fail, write_run
from tests.helpers.finished_runs import write_suite as write_record
from tests.helpers.refusals import refused
from tests.helpers.runs import EXPERIMENTS, small_dataset

BASELINE, BETTER, CLOSE = "alexnet_default", "alexnet_pool", "alexnet_no_dropout"
MOST = 9
_NOISE = np.random.default_rng(0).normal(0, 0.004, (3, MOST))
ACCURACIES = {
    BASELINE: 0.80 + _NOISE[0],
    BETTER: 0.86 + _NOISE[1],
    CLOSE: 0.80 + _NOISE[2],
}


@pytest.fixture
def possible(tmp_path):
    """The runs that a suite may do; the record of the suite is there, no run is."""
    write_record(tmp_path, seeds=3, arms=dict.fromkeys(ACCURACIES), test="anytime")
    return [
        SuiteRun(
            SimpleNamespace(name=name), None, seed, tmp_path / name / f"seed_{seed}", finished=False
        )
        for name in ACCURACIES
        for seed in range(MOST)
    ]


def write(runs):
    """Does some runs: they end with the accuracies of the table."""
    for run in runs:
        if not run.folder.exists():
            accuracy = ACCURACIES[run.arm.name][run.seed]
            write_run(run.folder, run.arm.name, run.seed, [0.5, accuracy])
    return {}


def first(possible):
    return [run for run in possible if run.seed < 3]


def seeds_done(tmp_path):
    return {name: len(list((tmp_path / name).iterdir())) for name in ACCURACIES}


def test_decided_arms_get_no_more_seeds(possible, tmp_path):
    said = []
    write(first(possible))
    assert run_until_decided(possible, first(possible), tmp_path, write, said.append) == {}
    done = seeds_done(tmp_path)
    assert 3 < done[BETTER] < MOST
    assert (done[BASELINE], done[CLOSE]) == (MOST, MOST)
    # Each arm is announced once, when it is decided.
    assert [line for line in said if line.startswith(BETTER)] == [
        f"{BETTER}: better by {points(done[BETTER]):.1f} points at n = {done[BETTER]}"
    ]
    assert said[0] == f"one more seed: {BASELINE}, seed 3; {BETTER}, seed 3; {CLOSE}, seed 3"
    assert said[-1] == f"one more seed: {BASELINE}, seed {MOST - 1}; {CLOSE}, seed {MOST - 1}"


def points(count):
    return 100 * np.mean((ACCURACIES[BETTER] - ACCURACIES[BASELINE])[:count])


def test_a_command_that_is_stopped_and_started_again_does_the_same_runs(possible, tmp_path):
    """It is stopped after every two runs, in the middle of what was asked for."""
    write(first(possible))
    for _ in range(MOST * len(ACCURACIES)):
        left = [2]

        def do(runs, left=left):
            for run in runs:
                if not left[0]:
                    raise Interrupted(15, "")
                left[0] -= not run.folder.exists()
                write([run])
            return {}

        try:
            run_until_decided(possible, first(possible), tmp_path, do, lambda line: None)
            break
        except Interrupted:
            continue
    else:
        pytest.fail("it never ends")
    stopped = seeds_done(tmp_path)
    assert stopped[BETTER] < MOST
    assert (stopped[BASELINE], stopped[CLOSE]) == (MOST, MOST)


def test_a_failure_ends_it(possible, tmp_path):
    """A full disk would fail all other runs too, and says nothing of the network."""

    def do(runs):
        write(runs[:-1])
        fail(tmp_path, runs[-1].arm.name, runs[-1].seed)
        return {runs[-1].folder: "no room"}

    write(first(possible))
    reasons = run_until_decided(possible, first(possible), tmp_path, do, lambda line: None)
    assert reasons == {tmp_path / CLOSE / "seed_3": "no room"}
    assert seeds_done(tmp_path)[BASELINE] == 4


def test_a_run_that_diverges_is_a_result(possible, tmp_path):
    def do(runs):
        for run in runs:
            if (run.arm.name, run.seed) == (CLOSE, 4):
                fail(tmp_path, CLOSE, 4, "flaxlab.errors.Diverged: the loss is not finite")
            else:
                write([run])
        return {}

    write(first(possible))
    run_until_decided(possible, first(possible), tmp_path, do, lambda line: None)
    assert seeds_done(tmp_path)[CLOSE] == MOST


def test_an_arm_that_never_learns_gets_no_more_seeds(possible, tmp_path):
    for run in first(possible):
        accuracy = ACCURACIES[run.arm.name][run.seed] if run.arm.name != CLOSE else 1 / 3
        write_run(run.folder, run.arm.name, run.seed, [0.3, accuracy])
    said = []
    run_until_decided(possible, first(possible), tmp_path, write, said.append)
    assert seeds_done(tmp_path)[CLOSE] == 3
    assert not any(CLOSE in line for line in said)


def test_the_next_run_of_an_arm_is_the_first_that_has_not_ended(possible):
    ended = {BASELINE: {0, 1, 2}, BETTER: {0, 2}, CLOSE: {0, 1, 2, 3}}
    got = [str(run) for run in next_runs(possible, [BETTER, CLOSE], ended)]
    assert got == [f"{BASELINE}, seed 4", f"{BETTER}, seed 1", f"{CLOSE}, seed 4"]
    assert next_runs(possible, [], ended) == []
    everything = {name: set(range(MOST)) for name in ACCURACIES}
    assert next_runs(possible, [BETTER], everything) == []


SUITE = f"--config={EXPERIMENTS / 'suites/alexnet_fashion.py'}"


def test_the_command_looks_after_every_seed(tmp_path, monkeypatch, capsys):
    path = tmp_path / "mine.py"
    path.write_text(
        "from flaxlab.suite.definition import Suite\n"
        f"def get_suite():\n    return Suite('mine', {BASELINE!r}, ({BETTER!r}, {CLOSE!r}))\n"
    )
    dataset = small_dataset(64, 30, (28, 28, 1), classes=10)
    monkeypatch.setattr(suite_runs, "load_dataset", lambda config: dataset)
    monkeypatch.setattr(command, "do_runs", lambda runs, progress: write(runs))
    workdir = tmp_path / "runs"
    main([f"--config={path}", f"--workdir={workdir}", "--until=decided", f"--at_most={MOST}"])
    record = read_suite_file(workdir)
    assert (record.test, record.seeds) == ("anytime", (0, 1, 2))
    done = seeds_done(workdir)
    assert done[BETTER] < done[CLOSE] == MOST
    markdown = (workdir / "comparison.md").read_text()
    assert "a paired t test that stays valid however often seeds are added" in markdown
    assert f"{done[BETTER]} of {done[BETTER]}" in markdown
    assert "did not plan seed" not in markdown  # as it would for a fixed number of seeds
    assert f"{BETTER}: better by" in capsys.readouterr().out


def test_a_suite_that_was_started_for_a_fixed_number_of_seeds_stays_so(tmp_path):
    plan = plan_suite(EXPERIMENTS / "suites/alexnet_fashion.py", 2, [])
    anytime = dataclasses.replace(plan, test="anytime")
    for name in ("fixed", "open"):
        (tmp_path / name).mkdir()
    runner.write_record(plan, tmp_path / "fixed", "")
    with pytest.raises(UsageError, match="does not allow adding seeds"):
        runner.write_record(anytime, tmp_path / "fixed", "")
    # The other way round nothing is lost: its test allows any number of seeds.
    runner.write_record(anytime, tmp_path / "open", "")
    runner.write_record(plan, tmp_path / "open", "")
    assert read_suite_file(tmp_path / "open").test == "anytime"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--at_most=5"], "--at_most is for --until=decided"),
        (["--until=decided", "--seeds=5", "--at_most=4"], "is less than the 5 seeds to start with"),
        (["--until=dawn"], "invalid choice: 'dawn'"),
    ],
)
def test_wrong_options_are_refused_in_one_line(options, said, capsys):
    assert said in refused(main, [SUITE, *options], capsys)


def test_welchs_test_has_no_such_rule(tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text(
        "from flaxlab.suite.definition import Suite\n"
        f"def get_suite():\n    return Suite('mine', {BASELINE!r}, ({CLOSE!r},), test='welch')\n"
    )
    message = refused(main, [f"--config={path}", "--until=decided"], capsys)
    assert "compares seed by seed" in message
