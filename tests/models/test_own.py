"""Networks of one's own: from a file of a few lines to a suite, and never from a run directory."""

import re
import shutil
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

import flaxlab
from flaxlab import config as configs
from flaxlab import models
from flaxlab.checkpoints.manifest import write_manifest
from flaxlab.compare.__main__ import main as compare
from flaxlab.config import default_config
from flaxlab.config.read import load_experiment
from flaxlab.data.shape import resolve_config
from flaxlab.errors import UsageError
from flaxlab.evaluate.__main__ import main as evaluate
from flaxlab.export.__main__ import main as export
from flaxlab.inspect.__main__ import main as inspect
from flaxlab.main import main
from flaxlab.run.load import load_stored
from flaxlab.suite.__main__ import main as run_suite
from flaxlab.training.experiment import assemble
from tests.helpers.runs import small_dataset

NETWORK = """
import flax.linen as nn
from flaxlab.config import default_config


class Tiny(nn.Module):
    num_classes: int
    filters: int = 8
    shortcut: bool = True

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.relu(nn.Conv(self.filters, (3, 3), strides=2)(images))
        y = nn.Conv(self.filters, (3, 3))(x)
        y = nn.BatchNorm(use_running_average=not train, momentum=0.9)(y)
        y = nn.Dropout(0.1, deterministic=not train)(y)
        x = nn.relu(x + y if self.shortcut else y)
        return nn.Dense(self.num_classes, name="output")(x.mean((1, 2)))
"""
EXPERIMENT = """

def get_config():
    config = default_config(Tiny)
    config.data.name, config.data.image_shape = "digits", (8, 8, 1)
    config.data.train_examples, config.data.test_examples = 64, 40
    config.train.epochs, config.log.tensorboard, config.log.progress = 1, False, "none"
    return config
"""


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "mine" / "tiny.py"
    path.parent.mkdir()
    path.write_text(NETWORK + EXPERIMENT)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of a network in a file; a test must not change it."""
    folder = tmp_path_factory.mktemp("own")
    path = folder / "tiny.py"
    path.write_text(NETWORK + EXPERIMENT)
    main([f"--config={path}", f"--workdir={folder / 'run'}"])
    return folder


def test_the_plain_fields_of_a_network_are_its_knobs(tiny):
    config = load_experiment(tiny)
    assert config.model.to_dict() == {"name": f"{tiny}:Tiny", "filters": 8, "shortcut": True}
    changed = resolve_config(tiny, ["--config.model.filters=4", "--config.model.shortcut=false"])
    assert (changed.model.filters, changed.model.shortcut) == (4, False)
    model = models.build(changed.model, 10)
    assert (model.filters, model.shortcut, model.num_classes) == (4, False, 10)
    with pytest.raises(UsageError, match="filters=many is of the wrong kind; expected int, now 8"):
        resolve_config(tiny, ["--config.model.filters=many"])
    with pytest.raises(UsageError, match=r"no --config\.model\.filter; did you mean .*filters"):
        resolve_config(tiny, ["--config.model.filter=3"])


def test_what_a_run_leaves_can_be_read_once_the_network_is_named(finished, capsys):
    run, name = finished / "run", f"{finished / 'tiny.py'}:Tiny"
    assert (run / "source/tiny.py").read_text() == NETWORK + EXPERIMENT
    capsys.readouterr()
    inspect([str(run)])
    assert "params/output/kernel" in capsys.readouterr().out
    evaluate([str(run), f"--model={name}", "--batch_stats=running,batch,recomputed"])
    assert "recomputed" in capsys.readouterr().out
    export([str(run), f"--model={name}", f"--to={finished / 'exported'}"])
    model, variables, config = flaxlab.load(run, model=name)
    images = jnp.zeros((2, 8, 8, 1))
    assert model.apply(variables, images, train=False).shape == (2, 10)
    assert config.model.filters == 8


def test_a_suite_of_a_network_from_outside(tiny, tmp_path, capsys):
    run_suite(
        [
            f"--config={tiny}",
            f"--workdir={tmp_path / 'suite'}",
            "--sweep.model.shortcut=true,false",
            "--seeds=2",
        ]
    )
    table = (tmp_path / "suite/comparison.md").read_text()
    assert "shortcut=False" in table
    assert "baseline" in capsys.readouterr().out


def test_a_run_goes_on_after_its_folder_was_moved(tiny, tmp_path):
    run = tmp_path / "run"
    main([f"--config={tiny}", f"--workdir={run}"])
    moved = tiny.parent.rename(tmp_path / "moved") / "tiny.py"
    main([f"--config={moved}", f"--workdir={run}", "--config.train.epochs=2"])
    assert len((run / "history.csv").read_text().splitlines()) == 3


def test_a_run_does_not_go_on_with_another_network(tiny, tmp_path):
    run = tmp_path / "run"
    main([f"--config={tiny}", f"--workdir={run}"])
    tiny.write_text((NETWORK + EXPERIMENT).replace("nn.relu(x + y", "nn.tanh(x + y"))
    with pytest.raises(UsageError, match=r"made by other code .* differs in the network"):
        main([f"--config={tiny}", f"--workdir={run}", "--config.train.epochs=2"])


def test_other_code_than_the_runs_is_told(finished, tmp_path, caplog):
    other = tmp_path / "other.py"
    other.write_text(NETWORK.replace("strides=2", "strides=1"))
    load_stored(finished / "run", model=f"{other}:Tiny")
    assert "made by other code" in caplog.text
    other.write_text(NETWORK.replace('name="output"', 'name="logits"'))
    with pytest.raises(UsageError, match="does not hold the model of its config"):
        load_stored(finished / "run", model=f"{other}:Tiny")


def rename_network(run, name):
    """Writes another name into all records of a run, as whoever sends it to you might."""
    records = [run / "config.json", *run.rglob("record/metadata")]
    assert len(records) == 3
    for record in records:
        text = record.read_text()
        record.write_text(re.sub(r'"name": ?"[^"]*:Tiny"', f'"name": "{name}"', text))
        assert f'"{name}"' in record.read_text()
    for manifest in run.rglob("sha256.json"):
        write_manifest(manifest.parent)


@pytest.fixture
def stranger(finished, tmp_path, monkeypatch):
    """A run from elsewhere in runs/, with code that leaves a trace when it is run."""
    run = tmp_path / "runs" / "stranger"
    shutil.copytree(finished / "run", run)
    evil = f"open({str(tmp_path / 'was_run')!r}, 'w').close()\n" + NETWORK
    for place in ("evil.py", "source/tiny.py", "package/__init__.py", "package/evil.py"):
        (run / place).parent.mkdir(exist_ok=True)
        (run / place).write_text(evil)
    (tmp_path / "runs/beside.py").write_text(evil)
    # What `python -m` does, and a restart of the interpreter.
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield run
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize(
    "name",
    [
        "{run}/evil.py:Tiny",
        "runs.stranger.evil:Tiny",
        "runs.stranger.source.tiny:Tiny",
        "runs.stranger.package:Tiny",
        "runs.stranger.package.evil:Tiny",
        "runs.beside:Tiny",
        "evil:Tiny",
        "package.evil:Tiny",
        "__main__:Tiny",
        ".evil:Tiny",
        "nowhere:Tiny",
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_code_in_a_run_directory_is_never_run(stranger, monkeypatch, name, inside):
    if inside:
        if name == "runs.beside:Tiny":
            pytest.skip("it is not in the run, nor between it and the current folder")
        monkeypatch.chdir(stranger)
        monkeypatch.syspath_prepend(str(stranger))
    rename_network(stranger, name.format(run=stranger))
    for command in (
        lambda: flaxlab.load(stranger),
        lambda: evaluate([str(stranger)]),
        lambda: export([str(stranger), f"--to={stranger / 'exported'}"]),
    ):
        with pytest.raises(UsageError, match=r"from which no code|in a file|no module|expected"):
            command()
    if name != ".evil:Tiny":
        inspect([str(stranger)])


@pytest.mark.parametrize("below", ["source", "checkpoints", "checkpoints/latest"])
def test_a_folder_inside_a_run_directory_is_no_safer(stranger, monkeypatch, below):
    shutil.copy(stranger / "evil.py", stranger / below)
    monkeypatch.chdir(stranger / below)
    monkeypatch.syspath_prepend(str(stranger / below))
    rename_network(stranger, "evil:Tiny")
    with pytest.raises(UsageError, match="from which no code is run"):
        flaxlab.load(stranger)


def test_a_link_does_not_hide_a_run_directory(stranger, monkeypatch):
    monkeypatch.chdir(stranger)
    monkeypatch.syspath_prepend(str(stranger))
    (stranger / "checkpoints").rename(stranger / "store")
    (stranger / "checkpoints").symlink_to("store")
    rename_network(stranger, "evil:Tiny")
    for path in (stranger, stranger / "store", stranger / "checkpoints" / "latest"):
        with pytest.raises(UsageError, match="from which no code is run"):
            flaxlab.load(path)


def test_a_comparison_runs_no_code(stranger):
    rename_network(stranger, "runs.stranger.evil:Tiny")
    compare([str(stranger)])


def test_a_module_by_name_needs_no_file(tiny, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tiny.parent))
    config = default_config("tiny:Tiny")
    assert config.model.name == "tiny:Tiny"
    assert default_config(models.find_model("tiny:Tiny")).model.name == "tiny:Tiny"
    experiment = tmp_path / "by_name.py"
    experiment.write_text(EXPERIMENT.replace("default_config(Tiny)", 'default_config("tiny:Tiny")'))
    experiment.write_text("from flaxlab.config import default_config\n" + experiment.read_text())
    main([f"--config={experiment}", f"--workdir={tmp_path / 'run'}"])
    assert load_stored(tmp_path / "run").model.filters == 8


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("num_classes: int\n    ", "", "has no field num_classes"),
        ("filters: int = 8", "filters: int", "has no default for filters"),
        (", *, train)", ")", "must be called as model"),
        ("class Tiny(nn.Module)", "class Tiny", "has no flax.linen.Module of the name Tiny"),
        ("class Tiny", "class Other", "has no flax.linen.Module of the name Tiny"),
    ],
)
def test_a_network_that_cannot_be_trained_is_one_line(tmp_path, old, new, message):
    path = tmp_path / "tiny.py"
    assert old in NETWORK
    path.write_text(NETWORK.replace(old, new))
    with pytest.raises(UsageError, match=message):
        default_config(f"{path}:Tiny")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Dense(self.num_classes", "Dense(7", r"returns float32\(2, 7\).* expected .*\(2, 3\)"),
        ("x.mean((1, 2)))", "x.mean((1, 2))) > 0", r"returns bool\(2, 3\)"),
        ("Dropout(0.1, ", "Dropout(0.1, rng_collection='noise', ", "cannot be trained: .*noise"),
        (
            "x = nn.relu(nn.Conv(",
            'self.variable("cache", "count", lambda: 0)\n        x = nn.relu(nn.Conv(',
            "has the collections .*cache",
        ),
    ],
)
def test_an_output_that_is_no_logits_is_one_line(tmp_path, old, new, message):
    path = tmp_path / "tiny.py"
    assert old in NETWORK
    path.write_text(NETWORK.replace(old, new))
    config = default_config(f"{path}:Tiny")
    config.data.name, config.data.image_shape, config.train.batch_size = "digits", (8, 8, 1), 8
    with pytest.raises(UsageError, match=message):
        assemble(config, small_dataset())


@pytest.mark.parametrize(
    "name", ["resnett", "no_such_module:Net", "Net", "a:b:", "json:Net", "", ".a:Net", "a b:Net"]
)
def test_a_name_that_is_none_is_one_line(name):
    with pytest.raises(UsageError):
        default_config(name)


@pytest.mark.parametrize("text", ["1 / 0", "import no_such_package"])
def test_a_module_that_fails_is_one_line(tmp_path, monkeypatch, text):
    (tmp_path / "failing_network.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match=r"failing_network cannot be imported: .*Error"):
        default_config("failing_network:Net")


def test_any_name_of_a_knob_survives_a_run(tmp_path):
    """Also one that a knob of flaxlab's had earlier."""
    path = tmp_path / "tiny.py"
    path.write_text((NETWORK + EXPERIMENT).replace("shortcut", "batch_norm"))
    run = tmp_path / "run"
    main([f"--config={path}", f"--workdir={run}", "--config.model.batch_norm=false"])
    assert load_stored(run, model=f"{path}:Tiny").model.batch_norm is False
    main([f"--config={path}", f"--workdir={run}", "--config.model.batch_norm=false"])


def test_two_networks_of_one_name_are_two(tmp_path):
    names = []
    for folder, text in (("a", NETWORK), ("b", NETWORK.replace("relu", "tanh")), ("c", NETWORK)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "net.py").write_text(text)
        names.append(f"{tmp_path / folder / 'net.py'}:Tiny")
    a, b, c = (default_config(name) for name in names)
    assert configs.meaningful_differences(a, b) == {"model.name": (names[0], names[1])}
    assert configs.meaningful_differences(a, c) == {}
    assert not models.same_network("one.model:Tiny", "other.model:Tiny")


def test_a_file_and_the_module_of_it_are_one_network(tiny, monkeypatch):
    monkeypatch.syspath_prepend(str(tiny.parent.parent))
    by_module = default_config("mine.tiny:Tiny")
    by_file = default_config(f"{tiny}:Tiny")
    assert configs.meaningful_differences(by_module, by_file) == {}


def test_statistics_that_are_no_batch_normalizations_can_only_be_the_stored_ones(tmp_path):
    path = tmp_path / "tiny.py"
    own = "mean = self.variable('batch_stats', 'mean', lambda: jnp.zeros(()))\n        x = nn.relu("
    text = (NETWORK + EXPERIMENT).replace("x = nn.relu(", own, 1)
    path.write_text(f"import jax.numpy as jnp\n{text}")
    main([f"--config={path}", f"--workdir={tmp_path / 'run'}"])
    given = [str(tmp_path / "run"), f"--model={path}:Tiny"]
    evaluate(given)
    with pytest.raises(UsageError, match="the network itself are not those that a flax"):
        evaluate([*given, "--batch_stats=recomputed"])


def test_a_network_without_pmaps_axis_is_told_to_use_sharding(tiny):
    mapped = ["--config.train.parallel=pmap", "--config.train.batch_size=8"]
    mapped += ["--config.train.devices=2"]
    with pytest.raises(UsageError, match="has no field axis_name"):
        assemble(resolve_config(tiny, mapped), small_dataset())
    text = (NETWORK + EXPERIMENT).replace("filters:", "axis_name: str | None = None\n    filters:")
    tiny.write_text(text)
    with pytest.raises(UsageError, match="which on each device of pmap drops the same values"):
        assemble(resolve_config(tiny, mapped), small_dataset())
    tiny.write_text(
        "from flaxlab.models import Dropout\n"
        + text.replace("nn.Dropout(0.1, deterministic=not train)(y)", "Dropout(0.1)(y, train=True)")
    )
    assert assemble(resolve_config(tiny, mapped), small_dataset()).model.axis_name is not None


def test_a_class_inside_a_function_has_no_name():
    class Hidden(models.AlexNet):
        pass

    with pytest.raises(UsageError, match="is not at the top level"):
        default_config(Hidden)


def test_flaxlabs_own_networks_are_named_as_ever():
    for name, model in models.MODELS.items():
        assert models.name_of(model) == name
        assert configs.differences(default_config(model), default_config(name)) == {}


def test_a_script_is_not_run_again_for_its_network(tmp_path):
    """A network in the script that Python runs, as a beginner's first file has it."""
    script = tmp_path / "script.py"
    script.write_text(
        NETWORK
        + "\nfrom flaxlab import models\nprint('once')\nconfig = default_config(Tiny)\n"
        + "print(models.build(config.model, 3).filters)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["once", "8"]


def test_recomputed_statistics_are_those_of_the_batches(finished):
    """With one batch and no running average they are the moments of each normalization's input."""
    from flaxlab.evaluate.evaluation import recompute_statistics

    stored = load_stored(finished / "run", model=f"{finished / 'tiny.py'}:Tiny")
    dataset = small_dataset(train=21)
    found = recompute_statistics(stored.model, stored.variables, dataset.train, "unit", 21)
    images = jnp.asarray(dataset.train.images, jnp.float32) / 255
    _, kept = stored.model.apply(
        stored.variables, images, train=False, capture_intermediates=True, mutable=True
    )
    normalized = kept["intermediates"]["Conv_1"]["__call__"][0]
    np.testing.assert_allclose(found["BatchNorm_0"]["mean"], normalized.mean((0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(found["BatchNorm_0"]["var"], normalized.var((0, 1, 2)), atol=1e-5)
