"""What `flaxlab.inspect` says of checkpoints of ours and of others."""

import csv
import io
import json
import shutil

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from rich.console import Console

import flaxlab
from flaxlab.checkpoints.manifest import NAME
from flaxlab.checkpoints.read import Leaf
from flaxlab.command_line import run_command
from flaxlab.inspect import pictures
from flaxlab.inspect.__main__ import main
from flaxlab.inspect.listing import print_tables, size
from flaxlab.inspect.statistics import BINS, describe_array, find_flaws
from tests.helpers.damage import flip_a_bit
from tests.helpers.refusals import refused

pytestmark = pytest.mark.usefixtures("pictures")


def as_json(capsys, *arguments):
    main([*map(str, arguments), "--format=json"])
    return json.loads(capsys.readouterr().out)


@given(
    arrays.arrays(
        st.sampled_from([np.float32, np.float16, np.int32, np.bool_]),
        arrays.array_shapes(max_dims=3, max_side=5),
    )
)
def test_statistics_are_numpys(array):
    found = describe_array(array)
    values = array.astype(np.float64).ravel()
    finite = values[np.isfinite(values)]
    assert found.nans == np.isnan(values).sum()
    assert found.infinities == np.isinf(values).sum()
    assert found.zeros == pytest.approx(np.mean(values == 0))
    if finite.size:
        assert found.mean == pytest.approx(finite.mean(), rel=1e-9, abs=1e-9 * abs(finite).max())
        assert found.std == pytest.approx(finite.std(), rel=1e-6, abs=1e-6 * abs(finite).max())
        assert (found.low, found.high) == (finite.min(), finite.max())
        assert found.l2 == pytest.approx(np.linalg.norm(finite))
        assert sum(found.histogram) == finite.size
    else:
        assert np.isnan([found.mean, found.std, found.low, found.high, found.l2]).all()
        assert found.histogram == (0,) * BINS
        assert found.sparkline() == ""


def test_statistics_in_pieces_are_those_of_the_whole(monkeypatch):
    array = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    whole = describe_array(array)
    monkeypatch.setattr("flaxlab.inspect.statistics._PIECE", 7)
    pieces = describe_array(array)
    assert pieces.histogram == whole.histogram == tuple(np.histogram(array, BINS)[0].tolist())
    assert pieces.std == pytest.approx(whole.std)
    assert describe_array(array.astype(jnp.bfloat16)).mean == pytest.approx(whole.mean, abs=1e-2)


@pytest.mark.parametrize(
    ("path", "values", "flaws"),
    [
        ("batch_stats/norm/var", [0.1, 0.2], []),
        ("batch_stats/norm/var", [0.1, -0.2], ["a variance is not positive"]),
        ("batch_stats/norm/var", [1.0, 1.0], ["never moved"]),
        ("batch_stats/norm/mean", [0.0, 0.0], ["never moved"]),
        ("params/norm/mean", [0.0, 0.0], []),
        ("params/w", [np.nan, np.inf], ["1 NaN", "1 infinite"]),
    ],
)
def test_flaws_are_found(path, values, flaws):
    leaf = Leaf(path, (2,), "float32", "key")
    assert find_flaws(leaf, describe_array(np.array(values))) == flaws


def test_a_run_is_listed_without_reading_arrays(stored_run, capsys, monkeypatch):
    monkeypatch.setattr("flaxlab.inspect.command.read_leaves", None)
    contents = as_json(capsys, stored_run)
    assert contents["folder"].endswith("latest/30")
    assert contents["config"]["name"] == "alexnet_pool"
    assert [row["step"] for row in contents["checkpoints"]][:2] == [20, 30]
    assert [row["shown"] for row in contents["checkpoints"]][:2] == [False, True]
    assert contents["checkpoints"][1]["metrics"]["epoch"] == 3
    kernel = next(row for row in contents["leaves"] if row["path"] == "params/block1/conv1/kernel")
    assert kernel["shape"] == [3, 3, 1, 8]
    assert kernel["bytes"] == 288
    totals = {row["collection"]: row for row in contents["totals"]}
    summary = json.loads((stored_run / "summary.json").read_text())
    assert totals["params"]["size"] == summary["parameters_trainable"]
    running = summary["parameters_total"] - summary["parameters_trainable"]
    assert totals["batch_stats"]["size"] == running
    # Adam keeps two moments of each parameter and a count; so does its schedule.
    assert totals["opt_state"]["size"] == 2 * totals["params"]["size"] + 2
    assert totals["all"]["bytes"] == sum(row["bytes"] for row in contents["leaves"])


def test_the_table_says_the_same(stored_run, capsys):
    main([str(stored_run), "--filter=^params/block"])
    shown = capsys.readouterr().out
    assert "alexnet_pool on Digits" in shown
    assert "params/block1/conv1/kernel" in shown
    assert "3x3x1x8" in shown
    assert "output" not in shown
    assert "* shown below" in shown


def test_the_best_of_two_best_checkpoints_is_marked():
    metrics = {"val_accuracy": 0.5}
    saved = [
        {"kind": kind, "step": step, "bytes": 1, "shown": False, "metrics": metrics}
        for kind, step in (("latest", 9), ("best", 3), ("best", 6))
    ]
    console = Console(file=io.StringIO(), width=100)
    print_tables(console, {"checkpoints": saved, "leaves": [], "totals": []}, [])
    lines = console.file.getvalue().splitlines()[1:4]
    assert [line.split()[:-4] for line in lines] == [["latest"], ["earlier", "best"], ["best"]]


def listed(capsys, *arguments):
    """Returns what a command prints, and the paths that its lines begin with, in their order."""
    main([*map(str, arguments)])
    shown = capsys.readouterr().out
    return shown, [line.split()[0] for line in shown.splitlines() if "/" in line.split()[0]]


def test_a_table_begins_with_the_parameters_and_counts_the_moments_in_one_line(stored_run, capsys):
    rows = as_json(capsys, stored_run)["leaves"]  # complete, for programs
    of = {name: [r for r in rows if r["path"].startswith(name)] for name in ("params", "opt_state")}
    assert len(of["opt_state"]) == 2 * len(of["params"]) + 2
    shown, paths = listed(capsys, stored_run)
    heads = [path.split("/")[0] for path in paths]
    assert list(dict.fromkeys(heads[1:])) == ["params", "batch_stats"]  # the first is the folder
    (line,) = (line for line in shown.splitlines() if line.startswith("opt_state:"))
    held = sum(row["bytes"] for row in of["opt_state"])
    assert f"{len(of['opt_state'])} arrays ({size(held)}) not listed; --all" in line
    (total,) = (line for line in shown.splitlines() if line.startswith("opt_state "))
    assert total.split()[1] == str(len(of["opt_state"]))

    for arguments in (["--all"], ["--filter=.", "--stats"]):
        shown, paths = listed(capsys, stored_run, *arguments)
        assert set(paths) > {row["path"] for row in of["opt_state"]}
        assert "not listed" not in shown
    shown, paths = listed(capsys, stored_run, "--filter=nu/output")
    assert paths[1:] == ["opt_state/0/nu/output/bias", "opt_state/0/nu/output/kernel"]


def test_statistics_for_a_table_read_no_moments(stored_run, capsys, monkeypatch):
    read = []

    def spy(tree, leaves):
        read.extend(leaf.path for leaf in leaves)
        return iter(())

    monkeypatch.setattr("flaxlab.inspect.command.read_pieces", spy)
    main([str(stored_run), "--stats"])
    assert {path.split("/")[0] for path in read} == {"params", "batch_stats", "step", "key"}


def test_a_tree_without_parameters_is_listed_whole(tmp_path, capsys):
    moments = {"opt_state": {"mu": np.zeros(2)}}
    shown, paths = listed(capsys, save(tmp_path / "moments", moments))
    assert paths[1:] == ["opt_state/mu"]
    assert "not listed" not in shown
    nested = {"model": {"params": {"w": np.zeros(2)}}, "training": moments}
    shown, paths = listed(capsys, save(tmp_path / "nested", nested))
    assert paths[1:] == ["model/params/w"]
    assert "opt_state: 1 array (16 B) not listed" in shown


def test_csv_is_read_by_others(stored_run, capsys):
    main([str(stored_run), "--format=csv", "--stats", "--step=best"])
    rows = {row["path"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert rows["params/output/bias"]["shape"] == "10"
    assert float(rows["batch_stats/block1/norm/var"]["low"]) > 0
    assert "opt_state/0/count" not in rows  # the best epoch's has parameters alone


def test_statistics_of_a_run(stored_run, capsys):
    contents = as_json(capsys, stored_run, "--stats", "--filter=params/.*kernel")
    params = flaxlab.load(stored_run)[1]["params"]
    found = {row["path"]: row for row in contents["leaves"]}
    assert set(found) == {
        "params/block1/conv1/kernel",
        "params/head1/dense/kernel",
        "params/head2/dense/kernel",
        "params/output/kernel",
    }
    expected = params["output"]["kernel"]
    assert found["params/output/kernel"]["mean"] == pytest.approx(float(expected.mean()), rel=1e-4)
    assert found["params/output/kernel"]["flaws"] == []


def test_foreign_checkpoints_are_described(foreign_checkpoints, capsys):
    contents = as_json(capsys, foreign_checkpoints / "tree", "--stats")
    found = {row["path"]: row for row in contents["leaves"]}
    assert found["layers/1"]["nans"] == 1
    assert found["layers/1"]["flaws"] == ["1 NaN"]
    assert found["layers/1"]["mean"] == 0.5
    assert found["optimizer/1/slow"]["low"] == -2
    assert found["name"]["shape"] is None
    assert contents["config"] is None
    contents = as_json(capsys, foreign_checkpoints / "managed", "--step=5")
    losses = [(row["step"], row["metrics"]["loss"]) for row in contents["checkpoints"]]
    assert losses == [(5, 0.2), (6, 1 / 6)]
    main([str(foreign_checkpoints / "tree"), "--stats"])
    assert "layers/0" in capsys.readouterr().out
    main([str(foreign_checkpoints / "managed"), "--verify"])
    assert capsys.readouterr().out.count("no manifest") == 2


def test_a_difference_shows_config_structure_and_values(stored_run, tmp_path, capsys):
    steps = [stored_run / f"checkpoints/latest/{step}" for step in (20, 30)]
    contents = as_json(capsys, "--diff", *steps, "--filter=^params")
    assert contents["config"] == {}
    assert contents["structure"] == []
    changes = [row["change"] for row in contents["values"]]
    assert changes == sorted(changes, reverse=True)
    assert changes[0] > 0
    old, new = (
        flaxlab.load(stored_run, step)[1]["params"]["output"]["kernel"] for step in (20, 30)
    )
    row = next(row for row in contents["values"] if row["path"] == "params/output/kernel")
    assert row["change"] == pytest.approx(np.linalg.norm(new - old) / np.linalg.norm(old), rel=1e-5)
    assert row["largest"] == pytest.approx(np.abs(new - old).max(), rel=1e-5)

    best = stored_run / "checkpoints/best"
    contents = as_json(capsys, "--diff", steps[1], best)
    assert {"path": "step", "a": "int32[]", "b": None} in contents["structure"]
    moments = [row for row in contents["structure"] if row["path"].startswith("opt_state")]
    shown, paths = listed(capsys, "--diff", steps[1], best)
    assert f"opt_state: {len(moments)} arrays of another structure not listed" in shown
    assert not any(path.startswith("opt_state") for path in paths)
    main(["--diff", str(steps[0]), str(steps[1])])
    shown = capsys.readouterr().out
    assert "config: the same" in shown
    assert "structure: the same" in shown
    assert f"opt_state: {len(moments)} arrays with other values not listed" in shown
    _, paths = listed(capsys, "--diff", *steps, "--all")
    assert sum(path.startswith("opt_state") for path in paths) == len(moments)
    main(["--diff", str(steps[0]), str(steps[0])])
    assert "values: 0 arrays differ" in capsys.readouterr().out


def test_a_difference_to_a_foreign_one(stored_run, foreign_checkpoints, capsys):
    main(["--diff", str(stored_run), str(foreign_checkpoints / "managed")])
    shown = capsys.readouterr().out
    assert "config: unknown for at least one" in shown
    assert "params/w" in shown


def test_pictures_are_drawn(stored_run, tmp_path, foreign_checkpoints, capsys):
    main([str(stored_run), f"--plot={tmp_path / 'a/b'}"])
    names = {"weights.png", "filters.png", "normalization.png"}
    assert {path.name for path in (tmp_path / "a/b").iterdir()} == names
    main([str(foreign_checkpoints / "tree"), f"--plot={tmp_path / 'foreign'}"])
    assert {path.name for path in (tmp_path / "foreign").iterdir()} == {"weights.png"}


def test_verify_finds_a_flipped_bit(stored_run, tmp_path, capsys):
    copy = shutil.copytree(stored_run, tmp_path / "copy")
    main([str(copy), "--verify"])
    assert capsys.readouterr().out.count(": intact") == len(list(copy.glob("checkpoints/*/*")))
    flip_a_bit(copy / "checkpoints/best" / max(p.name for p in copy.glob("checkpoints/best/*")))
    with pytest.raises(SystemExit) as stop:
        run_command(main, [str(copy), "--verify"])
    assert stop.value.code == 2
    assert "error: 1 damaged" in capsys.readouterr().err


def test_verify_does_not_pass_over_a_lost_manifest(stored_run, tmp_path, capsys):
    copy = shutil.copytree(stored_run, tmp_path / "copy")
    (copy / "checkpoints/latest/30" / NAME).unlink()
    with pytest.raises(SystemExit) as stop:
        run_command(main, [str(copy), "--verify"])
    assert stop.value.code == 2
    shown = capsys.readouterr()
    assert f"latest/30: {NAME} is missing" in shown.out
    assert shown.out.count(": intact") == len(list(copy.glob("checkpoints/*/*"))) - 1
    assert f"error: 1 not verified without {NAME}: " in shown.err
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: paths"),
        (["/nowhere"], "there is no folder /nowhere"),
        (["{empty}"], "there is no checkpoint in"),
        (["{run}", "--step=7"], "there is no step 7"),
        (["{run}", "--step=first"], "--step=first is not a step"),
        (["{run}", "--filter=("], "is not a regular expression"),
        (["{run}", "{run}"], "expected two checkpoints after --diff"),
        (["{run}", "--stats", "--verify"], "exclude each other"),
        (["{run}", "--verify", "--format=json"], "leave out --step, --filter and --format"),
        (["{run}", "--verify", "--step=20"], "leave out --step, --filter and --format"),
        (["{run}", "--verify", "--filter=params"], "leave out --step, --filter and --format"),
        (["{run}", "--plot=x", "--format=csv"], "leave out --format"),
        (["{run}", "--verify", "--all"], "leave it out with --plot and --verify"),
        (["{managed}", "--step=best"], "has no best checkpoint"),
        (["{run}", "--plot=x", "--filter=nothing"], "nothing to draw"),
        (["{run}", "--filter=nothing"], "--filter matches no array"),
        (["{run}", "--plot=/dev/null/x"], "cannot be made"),
    ],
)
def test_wrong_input_is_one_line(
    arguments, message, stored_run, foreign_checkpoints, tmp_path, capsys
):
    places = {
        "run": stored_run,
        "managed": foreign_checkpoints / "managed",
        "empty": tmp_path,
    }
    assert message in refused(main, [argument.format(**places) for argument in arguments], capsys)


def save(folder, tree):
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(folder, tree)
    return folder


def test_equal_nans_are_no_change_and_others_come_first(tmp_path, capsys):
    a = {
        "nan": np.array([1.0, np.nan]),
        "lost": np.array([1.0, 2.0]),
        "complex": np.array([1 + 2j]),
        "large": np.array([2**62]),
        "zero": np.zeros(2),
    }
    b = {
        **a,
        "lost": np.array([1.0, np.nan]),
        "complex": np.array([1 + 9j]),
        "large": np.array([2**62 + 1]),
    }
    contents = as_json(capsys, "--diff", save(tmp_path / "a", a), save(tmp_path / "b", b))
    changes = {row["path"]: row["change"] for row in contents["values"]}
    assert contents["values"][0]["path"] == "lost"
    assert changes["lost"] is None  # infinite, which JSON does not have
    assert changes["complex"] == pytest.approx(7 / 5**0.5)
    assert changes["nan"] == changes["zero"] == 0


def test_odd_numbers_are_described_and_drawn(tmp_path, capsys):
    tree = {
        "complex": np.array([3 + 4j]),
        "huge": np.array([[1e308, -1e308]]),
        "none finite": np.array([[np.nan, np.inf]]),
    }
    folder = save(tmp_path / "tree", tree)
    found = {row["path"]: row for row in as_json(capsys, folder, "--stats")["leaves"]}
    assert found["complex"]["mean"] == 5
    assert found["huge"]["high"] == 1e308
    main([str(folder), f"--plot={tmp_path / 'plots'}"])


def test_several_items_are_told_apart(tmp_path, capsys):
    with ocp.CheckpointManager(tmp_path, item_names=("model", "other")) as manager:
        args = {name: ocp.args.StandardSave({"w": np.ones(2)}) for name in ("model", "other")}
        manager.save(1, args=ocp.args.Composite(**args))
    main([str(tmp_path)])
    shown = capsys.readouterr().out
    assert "model: w" in shown
    assert "other: w" in shown


@pytest.mark.parametrize(("low", "scale"), [(0.9, "linear"), (0.01, "log"), (0.0, "linear")])
def test_variances_of_a_narrow_range_have_plain_numbers(low, scale):
    layers = {"block1": {"mean": np.zeros(3), "var": np.array([low, 1.0, 1.1])}}
    figure = pictures.normalization(layers)
    figure.draw_without_rendering()
    axes = figure.axes[1]
    assert axes.get_yscale() == scale
    if scale == "linear":
        for label in axes.get_yticklabels():
            float(label.get_text().replace("\N{MINUS SIGN}", "-"))
