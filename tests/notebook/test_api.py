"""The functions of `flaxlab` itself, called in this process."""

import copy
import inspect
import itertools
import json
import pickle
import re
import shlex

import numpy as np
import pandas
import pytest

import flaxlab
from flaxlab.command_line import in_notebook
from flaxlab.compare.__main__ import main as compare
from flaxlab.config import default_config, flatten
from flaxlab.config.configure import as_overrides
from flaxlab.data.arrays import KEYS
from flaxlab.data.load import load_dataset
from flaxlab.data.shape import resolve_config, with_image_shape
from flaxlab.errors import UsageError
from flaxlab.evaluate.__main__ import main as evaluate
from flaxlab.main import main
from flaxlab.notebook.fit import command_arguments
from flaxlab.notebook.run import Run
from flaxlab.notebook.suite import SuiteRuns
from flaxlab.run.history import from_csv, to_csv
from flaxlab.suite.plan import plan_sweep
from flaxlab.training.metrics import Row
from tests.helpers.finished_runs import ARM, BASELINE, write_arm, write_suite
from tests.helpers.processes import run_code
from tests.helpers.refusals import refused
from tests.helpers.runs import POOL_FILE, ROOT, SMALL_POOL, SMALL_RUN, small_config
from tests.helpers.samples import strangers_arrays

SMALL = dict(text.removeprefix("--config.").split("=", 1) for text in SMALL_RUN)


def test_the_import_is_cheap_and_the_names_are_found():
    loaded = set(run_code("import sys, flaxlab; print(*sys.modules)").shown.split())
    assert "flaxlab.machine" in loaded
    assert not {"jax", "numpy", "rich", "ml_collections"} & loaded
    assert dir(flaxlab) == sorted([*flaxlab.__all__, "__version__"])
    for name in flaxlab.__all__:
        function = getattr(flaxlab, name)
        assert inspect.getdoc(function)
        assert "return" in function.__annotations__


@pytest.mark.parametrize("experiment", ["alexnet_pool", POOL_FILE, str(POOL_FILE)])
def test_a_config_is_that_of_the_command(experiment, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # else the name is that of a file in experiments/
    config = flaxlab.configure(experiment, **SMALL)
    assert dict(flatten(config)) == dict(flatten(resolve_config(POOL_FILE, SMALL_RUN)))
    assert config.file.resolve() == POOL_FILE
    assert "file" not in config


def test_values_are_given_as_python_has_them():
    given = {
        "train.epochs": 3,
        "optimizer.learning_rate": np.float64(2e-4),
        "model.pool_kind": "avg",
        "data.augment.flip": True,
        "model.head_dropout": (np.float64(0.1), np.float32(0.5)),
        "data.train_examples": None,
    }
    part = flaxlab.configure("alexnet_pool", **{"data.train_examples": 100})
    found = dict(flatten(flaxlab.configure(part, **given)))
    assert {path: found[path] for path in given} == given
    assert {type(rate) for rate in found["model.head_dropout"]} == {float}
    array = flaxlab.configure(part, **{"model.head_dropout": np.array([0.1, 0.5])})
    assert array.model.head_dropout == (0.1, 0.5)


@pytest.mark.parametrize(
    "duplicate",
    [
        copy.copy,
        copy.deepcopy,
        lambda config: pickle.loads(pickle.dumps(config)),
        lambda config: config.copy_and_resolve_references(),
    ],
)
def test_a_config_is_copied_with_its_file_and_its_lock(duplicate):
    config = flaxlab.configure("alexnet_pool", **{"train.epochs": 3, "data.train_examples": 100})
    other = duplicate(config)
    assert (other, other.file, type(other)) == (config, config.file, type(config))
    with pytest.raises(AttributeError, match="epochs"):
        other.train.epoch = 3


def test_a_config_shows_what_is_not_at_its_default():
    config = flaxlab.configure(POOL_FILE, **{"train.epochs": 3, "data.train_examples": 100})
    first, *changed, last = repr(config).splitlines()
    assert first == f"config alexnet_pool, {POOL_FILE}"
    shown = dict(line.strip().split(" = ") for line in changed)
    assert shown == {
        "baseline": "'alexnet_default'  (default '')",
        "data.train_examples": "100  (default None)",
        "model.padding": "'SAME'  (default 'VALID')",
        "model.pools": "((3, 2), (3, 2), (2, 2))  (default ((3, 1), (3, 1), (3, 1)))",
        "train.epochs": "3  (default 10)",
    }
    every = [f"{path} = {value!r}" for path, value in flatten(config)]
    assert str(config).splitlines() == every
    assert f" {len(every) - 1 - len(changed)} fields" in last
    assert "train_examples = 100" in repr(config.data).splitlines()
    config.model.name = "nonsense"
    assert "model.name = 'nonsense'  (default 'alexnet')" in repr(config)


@pytest.mark.parametrize(
    ("group", "name", "message"),
    [
        (lambda config: config, "epochs", "no field epochs; did you mean train.epochs?"),
        (lambda config: config.train, "epoch", "no field epoch; did you mean epochs?"),
        (lambda config: config.data.augment, "lr", "no field lr; the fields are cutout, flip,"),
    ],
)
def test_a_field_that_is_not_there_is_an_attribute_error_of_one_line(group, name, message):
    where = group(flaxlab.configure(POOL_FILE))
    with pytest.raises(AttributeError) as refusal:
        setattr(where, name, 3)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not hasattr(where, name)


def test_a_config_equals_what_has_the_same_fields():
    config = flaxlab.configure(default_config(), name="mine")
    other = default_config()
    other.name = "mine"
    assert config == other
    assert other == config
    assert config.train == default_config().train
    config.train = other.train
    config.train.epochs = 3
    assert (config.train.epochs, config == other) == (3, False)
    with pytest.raises(AttributeError, match="did you mean epochs"):
        config.train.epoch = 3


def test_the_arguments_of_the_report_make_the_config(tmp_path):
    config = flaxlab.configure(POOL_FILE, **{"model.head_dropout": (0.1, 0.2)})
    config.data.train_examples = 100
    first, *given, last = command_arguments(config, tmp_path)
    assert (first, last) == (f"--config={POOL_FILE}", f"--workdir={tmp_path}")
    assert resolve_config(POOL_FILE, given) == with_image_shape(config)
    part = flaxlab.configure(config, **{"data.train_examples": None})
    assert as_overrides(config, part) == ["--config.data.train_examples=None"]


@pytest.mark.parametrize(
    ("group", "field", "value"),
    [("data", "name", "arrays"), ("train", "batch_size", None), ("log", "progress", None)],
)
def test_what_no_command_can_do_has_no_arguments(group, field, value, tmp_path):
    config = flaxlab.configure(POOL_FILE)
    config[group][field] = value
    assert command_arguments(config, tmp_path) is None


def test_a_config_is_a_copy_that_may_be_changed_and_keeps_its_file():
    config = flaxlab.configure("alexnet_pool")
    other = flaxlab.configure(config, seed=4)
    other.train.epochs, other.data.train_examples = 2, 100
    assert (config.seed, config.train.epochs, config.data.train_examples) == (0, 10, None)
    assert other.file == config.file == copy.deepcopy(config).file
    with pytest.raises(TypeError):
        config.train.epochs = "ten"
    with pytest.raises(AttributeError, match="epochs"):
        config.train.epoch = 3
    config.train.epochs = 0
    with pytest.raises(UsageError, match=r"config\.train\.epochs is 0"):
        flaxlab.fit(config)


@pytest.mark.parametrize(
    ("experiment", "overrides", "message"),
    [
        ("nothing", {}, "there is no experiment file"),
        ("alexnet pool", {}, "is not the name of an experiment"),
        (
            "alexnet_pool",
            {"train.epoch": 3},
            r"no field train\.epoch; did you mean train\.epochs\?",
        ),
        ("alexnet_pool", {"epochs": 3}, r"no field epochs; did you mean train\.epochs\?"),
        (
            "alexnet_pool",
            {"train": 3},
            r"^train is a group of fields; set one of train\.batch_size",
        ),
        (
            "alexnet_pool",
            {"colour": 3},
            "no field colour; python -m flaxlab.main --config=FILE --show",
        ),
        ("alexnet_pool", {"train.epochs": "ten"}, "wrong kind; expected int"),
        ("alexnet_pool", {"train.epochs": None}, r"train\.epochs cannot be None; these can: .*"),
        (default_config(), {}, r"config\.name is empty; give the run a name"),
    ],
)
def test_a_wrong_config_is_refused_in_the_line_of_the_command(experiment, overrides, message):
    with pytest.raises(UsageError, match=message):
        flaxlab.configure(experiment, **overrides)


def test_what_a_command_has_trained_is_finished_for_python(stored_run, capsys):
    before = {path: path.stat().st_mtime_ns for path in stored_run.rglob("*")}
    run = flaxlab.fit(flaxlab.configure(POOL_FILE, **SMALL), stored_run)
    assert "is finished" in capsys.readouterr().out
    assert run == flaxlab.open_run(stored_run)
    assert {path: path.stat().st_mtime_ns for path in stored_run.rglob("*")} == before
    _, variables, _ = flaxlab.load(stored_run)
    kernel = run.state.params["output"]["kernel"]
    assert np.array_equal(kernel, variables["params"]["output"]["kernel"])
    assert int(run.state.step) == run.summary["steps"] == 30
    assert len(run.history) == 3


def test_what_python_has_trained_is_what_the_command_would_train(stored_run, tmp_path, capsys):
    config = flaxlab.configure(POOL_FILE, **SMALL)
    config.train.epochs = 1
    run = flaxlab.fit(config, tmp_path / "run")
    words = shlex.split(run.summary["command"])
    assert words[:3] == ["python", "-m", "flaxlab.main"]
    main([*words[3:], "--show"])  # it is a command
    main([*SMALL_POOL, f"--workdir={tmp_path / 'run'}"])  # goes on to the third epoch
    theirs, ours = flaxlab.open_run(stored_run), flaxlab.open_run(tmp_path / "run")
    assert [r.val_loss for r in ours.history] == [r.val_loss for r in theirs.history]
    assert ours.summary["departures"] == theirs.summary["departures"]
    assert ours.evaluate() == theirs.evaluate()
    assert (run.folder / "source" / POOL_FILE.name).is_file()


def test_a_run_on_arrays_says_what_it_cannot_do_without_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    x, y, x_test, y_test = strangers_arrays()
    config = flaxlab.configure(small_config(**{"train.epochs": 1, "log.progress": "none"}))
    run = flaxlab.fit(config, data=(x, y, x_test, y_test))
    assert run.folder.as_posix() == "runs/small"
    assert config.data.name == "digits"  # it is the caller's
    summary, scores = run.summary, run.evaluate()
    assert summary["dataset_fingerprint"] == run.dataset.fingerprint
    assert summary["command"].startswith("flaxlab.fit")
    assert not list((run.folder / "source").iterdir())
    assert scores["accuracy"] == summary["final_val_accuracy"]
    expected = run.predict(x_test)
    assert np.allclose(expected.sum(axis=1), 1)
    assert np.mean(expected.argmax(axis=1) == y_test) == scores["accuracy"]

    opened = flaxlab.open_run("runs/small")
    assert np.array_equal(opened.predict(x_test[..., None]), expected)
    with pytest.raises(UsageError, match=r"only in the memory .* data\.file=FILE"):
        opened.evaluate()
    assert "data.name=npz with data.file=FILE" in refused(evaluate, ["runs/small"], capsys)
    np.savez("mine.npz", x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    evaluate(["runs/small", "--data.name=npz", "--data.file=mine.npz", "--format=json"])
    found = json.loads(capsys.readouterr().out)["results"][0]
    assert {key: found[key] for key in scores} == scores

    with pytest.raises(UsageError, match=r"other class names \(label 1 is '1' there, 'b' now"):
        flaxlab.fit(config, data=(x, y, x_test, y_test), class_names=[*"0b234"])
    with pytest.raises(UsageError, match="class_names are for arrays in `data`"):
        flaxlab.fit(config, class_names=[*"01234"])
    with pytest.raises(UsageError, match="was started on other data"):
        flaxlab.fit(config, data=(x, (y + 1) % 5, x_test, y_test))
    with pytest.raises(UsageError, match=r"the images are \(9, 10, 1\), .* takes \(9, 11, 1\)"):
        run.predict(x[:, :, 1:])


def test_the_recipe_for_a_file_of_arrays_keeps_them_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/python.md").read_text()
    recipe = re.search(r"```python\n(np\.savez.*?)```", page, re.DOTALL)[1]
    given = strangers_arrays(shape=(12, 10))
    arrays = dict(zip(KEYS, given, strict=True))
    for name in ("x_train", "x_test"):
        arrays[name] = np.stack([arrays[name]] * 3, axis=-1)
    names = {"np": np, "flaxlab": flaxlab, "config": flaxlab.configure("digits_small"), **arrays}
    exec(recipe, names)
    loaded = load_dataset(names["config"].data)
    assert np.array_equal(loaded.train.images, arrays["x_train"])
    assert np.array_equal(loaded.test.labels, arrays["y_test"])


def test_a_history_comes_back_from_its_file():
    rows = [Row(1, 0.5, 0.25, 0.1, 1 / 3, 1e-3, 2.0, 0.0, 1e4, 2), Row(2, *[0.125] * 5)]
    again = from_csv(to_csv(rows))
    assert again[0] == rows[0]
    assert to_csv(again) == to_csv(rows)
    assert isinstance(again[0].skipped_steps, int)


def test_pandas_takes_a_history_as_it_reads_its_file(stored_run):
    table = pandas.DataFrame(flaxlab.open_run(stored_run).history)
    assert table.epoch.tolist() == [1, 2, 3]
    expected = pandas.read_csv(stored_run / "history.csv")
    pandas.testing.assert_frame_equal(table[expected.columns], expected, rtol=1e-12)


def test_there_is_no_run_is_one_line(tmp_path):
    with pytest.raises(UsageError, match=r"is not there: it has no config\.json"):
        flaxlab.open_run(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({}))
    with pytest.raises(UsageError, match=r"is not finished: it has no summary\.json"):
        _ = Run(tmp_path).summary


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("summary.json", '{"name": '),
        ("summary.json", "[]"),
        ("history.csv", ""),
        ("history.csv", "epoch,train_loss\n1,0.5\n"),
        ("history.csv", "epoch,train_loss\n1"),
        ("config.json", "{"),
        ("config.json", "[1]"),
        ("config.json", '{"data": 3}'),
        ("config.json", b"\xff"),
    ],
)
def test_a_damaged_file_of_a_run_is_one_line(name, text, tmp_path):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError) as refusal:
        _ = getattr(Run(tmp_path), name.partition(".")[0])
    assert "\n" not in str(refusal.value)


def test_a_file_is_no_run():
    with pytest.raises(UsageError, match=r"is not there: it has no config\.json"):
        flaxlab.open_run(POOL_FILE)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: flaxlab.configure(3), "the experiment is of the type int; expected a path"),
        (lambda: flaxlab.fit(3), "the experiment is of the type int"),
        (lambda: flaxlab.fit(POOL_FILE, 3), "workdir is of the type int"),
        (lambda: flaxlab.open_run(None), "the run is of the type NoneType"),
        (lambda: flaxlab.load(None), "the run is of the type NoneType"),
        (lambda: flaxlab.run_suite(3), "the suite is of the type int"),
        (lambda: flaxlab.run_suite("vgg_cifar", data=()), r"no arrays, .*np\.savez.*data\.file"),
        (lambda: flaxlab.run_suite("vgg_cifar", class_names=[]), "a suite takes no arrays"),
        (lambda: swept(4), r"train\.epochs in sweep are of the type int; expected a list"),
        (lambda: swept("48"), "of the type str"),
        (lambda: swept(np.array(4)), "of the type ndarray"),
        (lambda: swept(["4,8", 3]), "has a comma"),
        (lambda: swept([4]), "does not have two or more values"),
        (lambda: flaxlab.run_suite(POOL_FILE, sweep=4), "sweep is of the type int"),
    ],
)
def test_an_argument_of_another_type_is_one_line(call, message):
    with pytest.raises(UsageError, match=message) as refusal:
        call()
    assert "\n" not in str(refusal.value)


def swept(values, experiment=POOL_FILE):
    return flaxlab.run_suite(experiment, sweep={"train.epochs": values})


def test_a_sweep_takes_a_config_and_values_as_python_has_them(monkeypatch, tmp_path):
    plans = []

    def plan(options):
        plans.append(plan_sweep(options.config, options.seeds, options.overrides, options.sweeps))
        return tmp_path

    monkeypatch.setattr("flaxlab.notebook.suite.run", plan)
    config = flaxlab.configure(POOL_FILE, **{"data.train_examples": 100, "train.epochs": 3})
    sweep = {"data.train_examples": (None, 50), "model.head_dropout": [(0.0, 0.1), (0.2, 0.3)]}
    flaxlab.run_suite(config, sweep=sweep, seed=7)
    configs = [arm.config for arm in plans[0].arms]
    found = {(each.data.train_examples, each.model.head_dropout) for each in configs}
    assert found == set(itertools.product(*sweep.values()))
    assert {(each.train.epochs, each.seed) for each in configs} == {(3, 7)}
    swept(np.array([2, 3]))
    assert {arm.config.train.epochs for arm in plans[1].arms} == {2, 3}
    with pytest.raises(UsageError, match="write this one into a file"):
        swept([2, 3], small_config())


def test_a_comparison_is_printed_as_the_command_prints_it(tmp_path, capsys):
    write_suite(tmp_path, seeds=2)
    for arm, finals in ((BASELINE, [0.6, 0.7]), (ARM, [0.8, 0.9])):
        write_arm(tmp_path, arm, finals)
    compare([str(tmp_path)])
    printed = capsys.readouterr().out
    assert f"{ARM}: " in printed
    print(SuiteRuns(tmp_path).compare())
    assert capsys.readouterr().out == printed


def test_the_page_about_python_names_what_there_is():
    page = (ROOT / "docs/python.md").read_text()
    named = re.findall(r"flaxlab\.(\w+)\(", page)
    assert {*named} == {*flaxlab.__all__}
    for what, kind in (("run", Run), ("suite", SuiteRuns)):
        fields = re.findall(rf"^\| `{what}\.(\w+)", page, re.MULTILINE)
        assert len(fields) > 2
        assert all(hasattr(kind, name) or name in kind.__annotations__ for name in fields)


def test_this_is_no_notebook():
    assert not in_notebook()
