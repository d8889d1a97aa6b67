"""Experiments and suites are found by their names; where they are not, it says what was meant."""

import json

import pytest

import flaxlab
from flaxlab.config.find import experiment_file, find_experiment, find_suite
from flaxlab.errors import UsageError
from flaxlab.explain.__main__ import main as explain
from flaxlab.main import main
from flaxlab.rates.__main__ import main as rates
from flaxlab.suite.__main__ import main as suite
from tests.helpers.refusals import refused
from tests.helpers.runs import EXPERIMENTS

FINDS = {find_experiment: EXPERIMENTS, find_suite: EXPERIMENTS / "suites"}


@pytest.mark.parametrize("find", FINDS)
def test_the_nearest_file_of_a_name_is_found(find, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "alexnet_pool" if find is find_experiment else "alexnet_fashion"
    assert find(name).resolve() == FINDS[find] / f"{name}.py"
    for folder in (tmp_path / "experiments" / FINDS[find].relative_to(EXPERIMENTS), tmp_path):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.py").touch()
        assert find(name).resolve() == folder / f"{name}.py"


@pytest.mark.parametrize("path", ["nothing.py", "a/nothing", "a/nothing.py"])
@pytest.mark.parametrize("find", FINDS)
def test_a_path_stays_as_it_is(find, path):
    assert find(path).as_posix() == path


@pytest.mark.parametrize(
    ("find", "name", "message"),
    [
        (
            find_experiment,
            "digit_small",
            r"no experiment file digit_small\.py in .*experiments; did ",
        ),
        (find_experiment, "digit_small", r"did you mean digits_small\?"),
        (find_experiment, "xyzzy", r"no experiment file xyzzy\.py in .*experiments$"),
        (find_experiment, "vgg_cifar", r"no experiment vgg_cifar: it is a suite; run it by python"),
        (find_suite, "vgg_cifars", r"no suite file vgg_cifars\.py in .*; did you mean vgg_cifar\?"),
        (find_suite, "digits_small", r"no suite digits_small: it is an experiment; .* --sweep\."),
        (find_suite, "vgg cifar", "is not the name of an experiment or a suite"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(find, name, message):
    with pytest.raises(UsageError, match=message):
        find(name)


def test_a_baseline_that_is_not_there_is_said_with_one_that_is(tmp_path):
    with pytest.raises(UsageError, match=rf"{tmp_path}, .*; did you mean alexnet_default\?"):
        experiment_file("alexnet_defalt", [tmp_path])


def test_commands_take_the_names_that_python_takes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["--config=digits_small", "--show=config"])
    assert json.loads(capsys.readouterr().out)["name"] == "digits_small"
    suite(["--config=digits_small", "--sweep.loss.l2=0.0,0.1", "--show"])
    assert "10 runs in runs/digits_small_l2" in capsys.readouterr().out
    on_digits = ["--config.data.name=digits", "--config.data.image_shape=(28, 28, 1)"]
    suite(["--config=alexnet_fashion", *on_digits, "--show"])
    assert "30 runs in runs/alexnet_fashion" in capsys.readouterr().out
    for command in (main, explain, rates):
        assert "did you mean digits_small?" in refused(command, ["--config=digit_small"], capsys)
    assert "it is an experiment" in refused(suite, ["--config=digits_small"], capsys)


def test_a_suite_in_python_says_what_an_experiment_lacks():
    for given in ("digits_small", EXPERIMENTS / "digits_small.py"):
        with pytest.raises(UsageError, match=r"it is an experiment; .*sweep=\{FIELD: values\}"):
            flaxlab.run_suite(given)
    with pytest.raises(UsageError, match=r"a suite of it needs sweep=\{FIELD: values\}"):
        flaxlab.run_suite(flaxlab.configure("digits_small"))
