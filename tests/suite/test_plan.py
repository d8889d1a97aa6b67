"""What suites and sweeps plan, and what they refuse."""

import re

import pytest

from experiments.claims import CLAIMS
from flaxlab.errors import UsageError
from flaxlab.suite.__main__ import main
from flaxlab.suite.plan import folder_name, plan_suite, plan_sweep
from tests.helpers.refusals import refused
from tests.helpers.runs import EXPERIMENTS, POOL_FILE, write_suite

ALEXNETS = EXPERIMENTS / "suites/alexnet_fashion.py"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([f"--config={POOL_FILE}"], "has no get_suite(): it is an experiment; run it by python -m"),
        (
            [f"--config={ALEXNETS}", "--seeds=0"],
            "0 is not a whole number from 1",
        ),
        ([f"--config={ALEXNETS}", "--sweep.train.epochs=1,2"], "is a suite; run it by"),
        ([f"--config={POOL_FILE}", "--sweep.optimizer.learning_rat=1,2"], "did you mean"),
        ([f"--config={POOL_FILE}", "--sweep.optimizer.learning_rate=1"], "two or more values"),
        ([f"--config={POOL_FILE}", "--sweep.optimizer.learning_rate"], "is not a sweep"),
        ([f"--config={POOL_FILE}", "--sweep.train.epochs=a,b"], "wrong kind; expected int"),
        ([f"--config={POOL_FILE}", "--sweep.train.epochs=2,2"], "would give the same runs"),
        ([f"--config={POOL_FILE}", "--sweep.checkpoint.keep=1,2"], "would give the same runs"),
        ([f"--config={POOL_FILE}", "--sweep.seed=1,2"], "give their number by --seeds=N"),
        ([f"--config={ALEXNETS}", "--config.seed=4294967295"], "go beyond 2**32 - 1"),
        (
            [f"--config={ALEXNETS}", "--config.model.norm=none"],
            "the arm alexnet_no_batchnorm does not differ from the baseline",
        ),
        (
            [f"--config={ALEXNETS}", "--config.model.blocks=(((2, 40),),)"],
            "config.model.pools has 3 entries",
        ),
    ],
)
def test_wrong_input_is_one_line(arguments, message, capsys):
    assert message in refused(main, [*arguments, "--show"], capsys)


def test_an_arm_may_not_touch_what_is_fixed(tmp_path):
    (tmp_path / "longer.py").write_text(
        "from experiments import alexnet_default\n"
        "def get_config():\n"
        "    config = alexnet_default.get_config()\n"
        "    config.name = 'longer'\n"
        "    config.train.epochs = 20\n"
        "    return config\n"
    )
    path = write_suite(tmp_path, "('longer',)")
    with pytest.raises(UsageError, match=r"declares fixed \(train.epochs: 10 -> 20\)"):
        plan_suite(path, None, [])
    path = write_suite(tmp_path, "('longer',)", ", fixed=('data',)")
    plan = plan_suite(path, None, [])
    assert plan.differences(plan.arms[1]) == {"train.epochs": (10, 20)}


@pytest.mark.parametrize(
    ("arms", "rest", "message"),
    [
        ("'alexnet_pool'", "", "expected a tuple of experiment names"),
        ("(3,)", "", "expected a tuple of experiment names"),
        ("()", "", "has no arms"),
        ("('alexnet_pool', 'alexnet_pool')", "", "more than once"),
        ("('alexnet_pool',)", ", claims=3", "expected {number: Claim(...)}"),
        ("('alexnet_pool',)", ", claims={'1': A_CLAIM}", "expected {number: Claim(...)}"),
        ("('alexnet_pool',)", ", claims={1: A_CLAIM}", "claim 1 is about alexnet_l2; expected"),
        (
            "('alexnet_pool',)",
            ", claims={1: Claim('', '', (Statement('accurate', 'alexnet_pool', 0.5),))}",
            "a statement is about 'accurate'; expected one of accuracy, best_accuracy",
        ),
        (
            "('alexnet_pool',)",
            ", claims={1: Claim('', '', (Statement('accuracy', 1.0, 0.5),))}",
            "compares 1.0 with 0.5; no arm",
        ),
        ("('alexnet_pool',)", ", seeds=0", "expected a number from 1"),
        ("('alexnet_pool',)", ", fixed='data'", "expected a tuple of fields"),
        ("('alexnet_pool',)", ", fixed=('optimiser',)", "there is no field optimiser"),
        ("('nothing',)", "", "there is no experiment file"),
    ],
)
def test_a_wrong_suite_file_is_explained(tmp_path, arms, rest, message):
    path = write_suite(tmp_path, arms, rest)
    with pytest.raises(UsageError, match=re.escape(message)):
        plan_suite(path, None, [])


def test_an_arm_is_called_after_its_file(tmp_path):
    """Arms that all have the name of the command line would be taken for one."""
    (tmp_path / "copied.py").write_text(POOL_FILE.read_text())
    suite = write_suite(tmp_path, "('copied',)")
    plan = plan_suite(suite, None, ["--config.name=other"])
    assert [arm.config.name for arm in plan.arms] == ["alexnet_default", "copied"]


def test_folder_names_do_not_collide():
    names = ["f=a/b", "f=a b", "f=a_b", "x" * 300, "x" * 299, "..", "a"]
    folders = [folder_name(name) for name in names]
    assert len(set(folders)) == len(names)
    assert all(len(folder) < 120 and "/" not in folder for folder in folders)
    assert folder_name("alexnet_pool") == "alexnet_pool"
    assert not folder_name("..").startswith(".")


def test_a_file_that_returns_no_suite_is_refused(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def get_suite(): return 3")
    with pytest.raises(UsageError, match="returned int, not Suite"):
        plan_suite(path, None, [])


@pytest.mark.parametrize("path", sorted(ALEXNETS.parent.glob("[a-z]*.py")), ids=lambda p: p.stem)
def test_each_suite_plans_and_its_claims_are_about_its_data(path):
    plan = plan_suite(path, None, [])
    assert plan.name == path.stem
    assert plan.seeds == (0, 1, 2, 3, 4)
    assert len({arm.name for arm in plan.arms}) == len(plan.arms) > 2
    assert f"python -m flaxlab.suite --config=experiments/suites/{path.name}" in path.read_text()
    for arm in plan.arms[1:]:
        assert plan.differences(arm)
    for number, claim in plan.claims.items():
        assert claim == CLAIMS[number]
        assert {arm.config.data.name for arm in plan.arms} == {claim.data}


def test_every_claim_of_the_report_belongs_to_some_suite():
    plans = [plan_suite(path, None, []) for path in ALEXNETS.parent.glob("[a-z]*.py")]
    assert {number for plan in plans for number in plan.claims} == {*range(1, 9)}


def test_show_prints_the_claims_of_the_suite(capsys):
    main([f"--config={ALEXNETS}", "--show", "--config.data.name=digits"])
    shown = capsys.readouterr().out
    assert [f"claim {number}: {CLAIMS[number].text}\n" in shown for number in range(1, 7)] == [
        *[True] * 5,
        False,
    ]


def test_a_sweep_makes_an_arm_of_each_combination():
    sweeps = [
        "--sweep.optimizer.learning_rate=1e-2,1e-3",
        "--sweep.model.head_dropout=(0.1, 0.2),(0.5, 0.5)",
    ]
    plan = plan_sweep(POOL_FILE, 3, ["--config.seed=7"], sweeps)
    assert plan.seeds == (7, 8, 9)
    assert plan.vary == ("optimizer.learning_rate", "model.head_dropout")
    values = [
        (arm.config.optimizer.learning_rate, arm.config.model.head_dropout) for arm in plan.arms
    ]
    # The experiment's own values come first: they are the baseline.
    assert values == [
        (1e-3, (0.5, 0.5)),
        (1e-2, (0.1, 0.2)),
        (1e-2, (0.5, 0.5)),
        (1e-3, (0.1, 0.2)),
    ]
    assert plan.baseline.name == "learning_rate=0.001 head_dropout=(0.5, 0.5)"
    assert plan.differences(plan.arms[2]) == {"optimizer.learning_rate": (1e-3, 1e-2)}
    assert plan.arms[1].config.name == plan.arms[1].name
    folders = [folder_name(arm.name) for arm in plan.arms]
    assert len(set(folders)) == 4
    assert folders[0].startswith("learning_rate=0.001_head_dropout=_0.5_0.5_")
    assert plan.name == "alexnet_pool_learning_rate_head_dropout"
