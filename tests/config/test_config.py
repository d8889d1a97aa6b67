"""The config, the experiment files, and the command line that joins them."""

import ast
import importlib
import json
import re
from pathlib import Path

import ml_collections
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flaxlab import config as configs
from flaxlab.config import LabReport, default_config
from flaxlab.config.read import load_baseline, load_experiment, load_lab_report
from flaxlab.config.rules import validate
from flaxlab.data.shape import resolve_config, with_image_shape
from flaxlab.errors import UsageError
from flaxlab.run.origin import read_origin
from tests.helpers.report_facts import ACCURACIES
from tests.helpers.runs import EXPERIMENTS, small_config

POOL = EXPERIMENTS / "alexnet_pool.py"
NOT_IN_THE_REPORT = (
    "digits_small",
    "quickstart",
    "resnet20",
    "resnet20_wide",
    "strong_cifar",
    "strong_fashion",
    "vgg_no_dropout",
    "vgg_no_batchnorm_no_dropout",
)


def test_there_is_a_file_for_each_network_of_the_report():
    files = {path.stem for path in EXPERIMENTS.glob("*.py")} - {"__init__", "claims"}
    assert files == {*ACCURACIES, *NOT_IN_THE_REPORT}


@pytest.mark.parametrize("name", [*ACCURACIES, *NOT_IN_THE_REPORT])
def test_an_experiment_is_a_short_valid_difference(name):
    path = EXPERIMENTS / f"{name}.py"
    config = load_experiment(path)
    validate(config)
    assert config.name == name
    assert len(path.read_text().splitlines()) < 40
    assert f"python -m flaxlab.main --config=experiments/{name}.py" in path.read_text()
    baseline = load_baseline(path, config)
    difference = configs.meaningful_differences(baseline, config)
    assert len(difference) <= (8 if name == "strong_cifar" else 5)  # a recipe changes more at once
    assert bool(difference) == bool(config.baseline)
    assert (baseline.name == name) == (not config.baseline)
    if name in ACCURACIES:
        report = load_lab_report(path)
        if report is None:
            assert ACCURACIES[name] == (None, None)
        else:
            assert (report.final_accuracy, report.best_accuracy) == ACCURACIES[name]
            assert report.data == config.data.name
        # The protocol is the same in all thirteen.
        untouched = ("train.", "optimizer.", "seed", "data.scaling", "data.validation")
        assert not any(path.startswith(untouched) for path in difference)


@pytest.mark.parametrize("name", NOT_IN_THE_REPORT)
def test_what_the_report_has_not_inherits_no_number(name):
    assert load_lab_report(EXPERIMENTS / f"{name}.py") is None


def test_a_lab_report_of_another_kind_is_one_line(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("LAB_REPORT = 0.9\n")
    with pytest.raises(UsageError, match=r"LAB_REPORT of .*mine\.py is 0\.9; expected LabReport"):
        load_lab_report(path)


def test_a_run_knows_what_the_command_line_changed_and_what_the_report_says():
    config = resolve_config(POOL, ["--config.seed=3", "--config.model.pools=((3,2),(3,2),(2,1))"])
    origin = read_origin(POOL, config)
    assert origin.departures == {
        "model.pools": (((3, 2), (3, 2), (2, 2)), ((3, 2), (3, 2), (2, 1)))
    }
    assert origin.lab_report == LabReport("fashion_mnist", 0.8734, 0.8955)
    assert origin.baseline.name == "alexnet_default"
    # Under another name it is another experiment.
    assert read_origin(POOL, resolve_config(POOL, ["--config.name=pools=1"])).lab_report is None


def test_experiments_import_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copy = tmp_path / "mine.py"
    copy.write_text(POOL.read_text())
    original = importlib.import_module("experiments.alexnet_pool").get_config()
    assert configs.differences(original, load_experiment(copy)) == {"name": ("", "mine")}


def test_an_experiment_is_called_after_its_file(tmp_path):
    path = tmp_path / "mine.py"
    text = POOL.read_text()
    assert "name =" not in text
    line = 'config.baseline = "alexnet_default"'
    path.write_text(text.replace(line, f'{line}\n    config.name = "mine"'))
    assert load_experiment(path).name == "mine"
    path.write_text(text.replace(line, f'{line}\n    config.name = "alexnet_pool"'))
    with pytest.raises(UsageError, match=r"mine\.py has config\.name 'alexnet_pool', but an exp"):
        load_experiment(path)
    assert resolve_config(POOL, ["--config.name=another run"]).name == "another run"


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("--config.train.epochs=3", "train.epochs", 3),
        ("--config.optimizer.learning_rate=1", "optimizer.learning_rate", 1.0),
        ("--config.data.train_examples=5", "data.train_examples", 5),
        ("--config.data.data_dir=/somewhere", "data.data_dir", "/somewhere"),
        ("--config.train.fast_kernels=false", "train.fast_kernels", False),
        ("--noconfig.train.fast_kernels", "train.fast_kernels", False),
        ("--config.model.head_dropout=(0.1, 0.2)", "model.head_dropout", (0.1, 0.2)),
        ("--config.model.pools=((2,2),(2,2),(2,1))", "model.pools", ((2, 2), (2, 2), (2, 1))),
    ],
)
def test_overrides(override, path, value):
    config = resolve_config(POOL, [override])
    assert dict(configs.flatten(config))[path] == value
    original = with_image_shape(load_experiment(POOL))
    assert list(configs.differences(original, config)) == [path]


def test_the_last_override_of_a_field_counts():
    overrides = [
        "--config.model.head_dropout=(0.1, 0.2)",
        "--config.train.epochs",
        "3",
        "--config.train.fast_kernels=true",
        "--config.model.head_dropout=(0.3, 0.4)",
        "--noconfig.train.fast_kernels",
    ]
    config = resolve_config(POOL, overrides)
    assert config.model.head_dropout == (0.3, 0.4)
    assert config.train.epochs == 3
    assert config.train.fast_kernels is False


@pytest.mark.parametrize("path", ["data.train_examples", "data.folder"])
@pytest.mark.parametrize("words", [["--config.{}=None"], ["--config.{}", "None"]])
def test_an_optional_field_is_set_to_none_again(path, words, tmp_path):
    file = tmp_path / "part.py"
    file.write_text(
        "from experiments.alexnet_pool import get_config as base\n\n\n"
        "def get_config():\n    config = base()\n    config.name = ''\n"
        "    config.data.train_examples, config.data.folder = 100, 'x'\n    return config\n"
    )
    given = [word.format(path) for word in words]
    last = [f"--config.{path}={7 if path == 'data.train_examples' else 'y'}"]
    found = dict(configs.flatten(resolve_config(file, [*last, *given])))
    expected = {"data.train_examples": 100, "data.folder": "x", path: None}
    assert {name: found[name] for name in expected} == expected
    assert dict(configs.flatten(resolve_config(file, [*given, *last])))[path] in (7, "y")


def test_an_experiment_file_may_return_a_frozen_config(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from experiments import alexnet_pool\nfrom ml_collections import FrozenConfigDict\n\n\n"
        "def get_config():\n    return FrozenConfigDict(alexnet_pool.get_config())\n"
    )
    config = resolve_config(path, ["--config.train.epochs=3", "--config.data.train_examples=5"])
    expected = {"name", "train.epochs", "data.train_examples"}
    original = with_image_shape(load_experiment(POOL))
    assert configs.differences(original, config).keys() == expected
    assert config.name == "mine"


def test_a_resolved_config_cannot_be_changed():
    with pytest.raises(AttributeError):
        resolve_config(POOL, []).train.epochs = 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.train.epoch=3", "there is no --config.train.epoch; did you mean --config.train"),
        ("--config.epochs=3", "did you mean --config.train.epochs?"),
        ("--epochs=3", "there is no --epochs; did you mean --config.train.epochs?"),
        ("--seed=3", "there is no --seed; did you mean --config.seed?"),
        ("--learning-rate=3", "did you mean --config.optimizer.learning_rate?"),
        ("--workdirr=x", "there is no --workdirr; python -m flaxlab.main --config=FILE --s"),
        ("--config.train=3", "--config.train is a group of fields; set one of --config.train.ba"),
        ("--config.train.epochs=ten", "wrong kind; expected int, now 10"),
        ("--config.train.epochs=1.5", "wrong kind; expected int"),
        ("--config.train.fast_kernels=7", "wrong kind; expected bool"),
        ("--config.data.train_examples=few", "wrong kind; expected int, now None"),
        ("--config.train.epochs", "Missing value"),
        ("--config.seed=4294967296", "expected at least 0 and below 4294967296"),
        ("--config.train.epochs=0", "config.train.epochs is 0; expected at least 1"),
        ("--config.optimizer.learning_rate=nan", "expected a number above 0"),
        (
            "--config.data.name=mnist",
            "cifar10, digits, folder, parquet, npz, arrays, or tfds:NAME",
        ),
        ("--config.data.name=folder", "needs --config.data.folder=DIR"),
        ("--config.data.image_shape=(28,28,2)", "expected (height, width, channels)"),
        ("--config.model.block_dropout=(0.1,)", "has 1 entries, but model.blocks has 3"),
        ("--config.model.head_dropout=(0.1,1.0)", "each at least 0.0 and below 1.0"),
        ("--config.model.head_units=a", "expected a tuple of whole numbers"),
        ("--config.model.blocks=3", "expected for each block a tuple of (filters, kernel side)"),
        ("--config.model.pools=(3,2)", "expected for each block (window, stride)"),
        ("--config.model.pools=2", 'written --config.model.pools="((2, 2), (2, 2), (2, 2))" for'),
        ("--config.model.head_units=(8,)", 'written --config.model.head_dropout="(0.5,)" for exam'),
        ("--config.model.head_units=a", 'written --config.model.head_units="('),
        ("--config.model.blocks=3", 'written --config.model.blocks="((('),
        ("--config.data.image_shape=28", 'written --config.data.image_shape="(28, 28, 1)" for'),
        ("--config.train.epochs=(3,)", "wrong kind; expected a single int, not a tuple, now 10"),
        ("--config.model.name=vgg", "start from an experiment on vgg"),
        ("--config.name=", "config.name is empty"),
        ("stray", "unexpected argument 'stray'"),
    ],
)
def test_wrong_overrides_are_explained(override, message):
    with pytest.raises(UsageError) as error:
        resolve_config(POOL, [override])
    assert message in str(error.value)


@pytest.mark.parametrize(
    "path", [path for path, value in configs.flatten(default_config()) if isinstance(value, tuple)]
)
def test_a_tuple_is_taken_as_the_error_about_it_writes_it(path):
    with pytest.raises(UsageError) as error:
        resolve_config(POOL, [f"--config.{path}=nonsense"])
    written = re.search(r'--config\.([\w.]+)="(.*)" for example', str(error.value))
    assert written[1] == path
    config = dict(configs.flatten(resolve_config(POOL, [f"--config.{path}={written[2]}"])))
    assert config[path] == ast.literal_eval(written[2])


def test_a_tuple_in_a_file_where_one_value_belongs_is_said(tmp_path):
    config = load_experiment(POOL)
    with config.ignore_type():
        config.train.epochs = (3,)
    with pytest.raises(UsageError, match=r"is \(3,\); expected at least 1; it is not a tuple"):
        validate(config)


def test_a_missing_experiment_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"alexnet_pol\.py; did you mean .*alexnet_pool\.py\?"):
        load_experiment(EXPERIMENTS / "alexnet_pol.py")
    with pytest.raises(UsageError, match=r"there is no experiment file"):
        load_experiment(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(:\n", "line 1: SyntaxError"),
        ("import flaxlab\n\nflaxlab.nothing\n", "line 3: AttributeError"),
        ("x = 1\n", "has no get_config()"),
        ("def get_suite():\n    return 3\n", "it is a suite; run it by python -m flaxlab.suite"),
        ("def get_config():\n    return 3\n", "returned int, not ConfigDict"),
        ("def get_config():\n    return 1 / 0\n", "line 2: ZeroDivisionError"),
        (
            "import ml_collections\n\n\ndef get_config():\n"
            "    return ml_collections.ConfigDict()\n",
            "the config lacks field baseline",
        ),
        (
            "from flaxlab.config import default_config\n\n\ndef get_config():\n"
            "    config = default_config()\n"
            "    with config.ignore_type():\n        config.train.epochs = None\n"
            "    return config\n",
            "config.train.epochs is None; expected at least 1",
        ),
    ],
)
def test_a_broken_experiment_file_is_explained(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    path = Path("broken.py")
    path.write_text(text)
    with pytest.raises(UsageError) as error:
        resolve_config(path, [])
    assert message in str(error.value)


@pytest.mark.parametrize("name", [*ACCURACIES, "quickstart"])
def test_a_config_survives_json(name):
    config = load_experiment(EXPERIMENTS / f"{name}.py")
    again = configs.from_dict(json.loads(configs.to_json(config)))
    assert configs.differences(config, again) == {}
    validate(again)


values = st.none() | st.booleans() | st.integers() | st.text("xy") | st.tuples(st.integers())


@given(
    st.dictionaries(st.sampled_from("abc"), values), st.dictionaries(st.sampled_from("abc"), values)
)
def test_differences_are_what_differs(old, new):
    found = configs.differences(ml_collections.ConfigDict(old), ml_collections.ConfigDict(new))
    assert found == {
        key: (old.get(key), new.get(key)) for key in {*old, *new} if old.get(key) != new.get(key)
    }


def test_records_of_the_earlier_names_are_read_as_what_they_meant():
    now = small_config(**{"model.norm": "none", "model.head_norm": "batch"})
    old = configs.to_dict(now)
    del old["model"]["norm"], old["model"]["head_norm"]
    old["model"].update(
        batch_norm=False, head_batch_norm=True, batch_norm_epsilon=old["model"].pop("norm_epsilon")
    )
    assert configs.differences(configs.from_dict(old), now) == {}


@pytest.mark.parametrize(
    ("experiment", "overrides", "message"),
    [
        ("alexnet_pool", ["--config.model.norm=batchnorm"], "expected one of batch, group, layer"),
        ("alexnet_pool", ["--config.model.head_norm=instance"], "expected one of batch, group"),
        ("alexnet_pool", ["--config.model.norm_place=before"], "expected one of after_pool"),
        ("alexnet_pool", ["--config.model.norm_groups=0"], "at least 1"),
        ("alexnet_pool", ["--config.model.norm_epsilon=0"], "a number above 0.0"),
        ("alexnet_pool", ["--config.model.pool_kind=min"], "expected one of max, avg, conv, blur"),
        ("alexnet_pool", ["--config.model.block_dropout_kind=example"], "element, channel, region"),
        ("alexnet_pool", ["--config.model.block_dropout_region=0"], "at least 1"),
        ("alexnet_pool", ["--config.model.dropout_place=first"], "after_norm, before_norm"),
        ("alexnet_pool", ["--config.model.block_activation=swish"], "expected one of relu, tanh"),
        ("alexnet_pool", ["--config.model.head_activation=none"], "expected one of relu, tanh"),
        ("alexnet_pool", ["--config.model.kernel_init=zeros"], "expected one of glorot_uniform"),
        ("alexnet_pool", ["--config.optimizer.schedule=linear"], "expected one of constant, cos"),
        ("resnet20", ["--config.model.activation=swish"], "expected one of relu, tanh"),
        ("resnet20", ["--config.model.kernel_init=zeros"], "expected one of glorot_uniform"),
        ("resnet20", ["--config.model.shortcut=add"], "expected one of pad, projection, none"),
        ("resnet20", ["--config.model.branch_dropout=1"], "at least 0.0 and below 1.0"),
        ("resnet20", ["--config.model.branch_dropout_kind=example"], "element, channel, region"),
        ("resnet20", ["--config.model.stochastic_depth=1"], "at least 0.0 and below 1.0"),
        ("alexnet_pool", ["--config.model.head_input=sum"], "expected one of flatten, average"),
        ("alexnet_pool", ["--config.model.standardize_kernels=2"], "expected bool"),
        ("alexnet_pool", ["--config.loss.label_smoothing=1"], "at least 0.0 and below 1.0"),
        ("alexnet_pool", ["--config.data.augment.mixup=-1"], "at least 0.0"),
        ("alexnet_pool", ["--config.optimizer.name=adagrad"], "adam, adamw, sgd, rmsprop, lion"),
        ("alexnet_pool", ["--config.optimizer.clip_norm=-1"], "at least 0.0"),
        ("alexnet_pool", ["--config.optimizer.rms_decay=1"], "at least 0.0 and below 1.0"),
        ("resnet20", ["--config.optimizer.schedule=one_cycle"], "a warm-up of its own"),
        ("alexnet_pool", ["--config.train.ema_decay=1"], "at least 0.0 and below 1.0"),
        ("alexnet_pool", ["--config.optimizer.sam_radius=-1"], "at least 0.0"),
        ("alexnet_pool", ["--config.optimizer.plateau_patience=0"], "at least 1"),
        ("alexnet_pool", ["--config.data.test_flips=2"], "expected bool"),
        (
            "alexnet_pool",
            ["--config.optimizer.schedule=plateau", "--config.optimizer.step_factor=1"],
            "with schedule=plateau, expected a number below 1",
        ),
        (
            "resnet20",
            ["--config.optimizer.name=schedule_free_sgd"],
            "takes the place of a schedule; use --config.optimizer.schedule=constant, not cosine",
        ),
        (
            "alexnet_pool",
            ["--config.optimizer.name=schedule_free_adamw", "--config.train.ema_decay=0.99"],
            "scores an average of its own; use --config.train.ema_decay=0",
        ),
        (
            "alexnet_pool",
            ["--config.optimizer.name=schedule_free_adamw", "--config.optimizer.b1=0"],
            "b1 is 0; with schedule_free_adamw, expected a number above 0",
        ),
        (
            "resnet20",
            ["--config.model.shortcut=none", "--config.model.stochastic_depth=0.2"],
            "which only a network with shortcuts allows",
        ),
    ],
)
def test_bad_values_of_layers_and_recipes_are_one_line(experiment, overrides, message):
    with pytest.raises(UsageError, match=message):
        resolve_config(EXPERIMENTS / f"{experiment}.py", overrides)
