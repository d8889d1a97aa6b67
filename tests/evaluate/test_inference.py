"""Evaluating, predicting, exporting and starting from what a run has stored."""

import json
import shutil

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from PIL import Image

import flaxlab
from flaxlab.batches.augment import scale_pixels
from flaxlab.batches.order import epoch_order
from flaxlab.data.digits import load_digits
from flaxlab.data.load import load_dataset
from flaxlab.errors import UsageError
from flaxlab.evaluate import __main__ as evaluate
from flaxlab.evaluate.evaluation import KINDS, evaluate_stored, recompute_statistics
from flaxlab.export import __main__ as export
from flaxlab.main import main as run_main
from flaxlab.predict import __main__ as predict
from flaxlab.predict.prediction import predict_files
from flaxlab.predict.saliency import saliency
from flaxlab.run.load import load_stored
from flaxlab.run.resume import warm_start
from flaxlab.run.run import train
from flaxlab.training.experiment import assemble
from tests.helpers.damage import flip_a_bit
from tests.helpers.processes import Process
from tests.helpers.refusals import refused
from tests.helpers.runs import SMALL_POOL, small_config, small_dataset


def evaluated(capsys, *arguments):
    evaluate.main([*map(str, arguments), "--format=json"])
    return json.loads(capsys.readouterr().out)


def test_evaluation_gives_what_the_run_reported(stored_run, capsys):
    summary = json.loads((stored_run / "summary.json").read_text())
    found = evaluated(capsys, stored_run)
    (result,) = found["results"]
    assert result["accuracy"] == summary["final_val_accuracy"]
    assert result["loss"] == summary["final_val_loss"]  # by the same function, to the bit
    assert result["examples"] == 100
    assert found["epoch"] == 3
    for name, scores in summary["classes"].items():
        assert result["classes"][name] == pytest.approx(scores)
    evaluate.main([str(stored_run)])
    assert f"{summary['final_val_accuracy']:.4f}" in capsys.readouterr().out


def test_evaluation_on_other_examples(stored_run, capsys):
    found = evaluated(capsys, stored_run, "--data.test_examples=360", "--step=best")
    assert found["results"][0]["examples"] == 360


@pytest.mark.parametrize("batch_size", [7, 32, 200])
def test_running_statistics_do_not_depend_on_the_batch(stored_run, batch_size):
    stored = load_stored(stored_run)
    dataset = load_dataset(stored.config.data)
    with np.load(stored_run / "predictions.npz") as saved:
        expected = saved["logits"].argmax(axis=1)
    found = evaluate_stored(stored, dataset.test, dataset.train, "running", batch_size)
    np.testing.assert_array_equal(found.predicted, expected)


def test_recomputed_statistics_are_those_of_the_whole_split():
    """With one batch that is the whole split, they are its own statistics."""
    experiment = assemble(small_config(**{"model.block_dropout": (0.3,)}), small_dataset())
    state = experiment.create_state()
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    split = experiment.splits.train
    found = recompute_statistics(experiment.model, variables, split, "unit", len(split))
    # The block's convolution and pooling, by hand.
    images = scale_pixels(split.images, "unit")
    model = experiment.model.clone(block_dropout=(), head_dropout=())
    _, kept = model.apply(
        variables,
        images,
        train=True,
        mutable=["batch_stats", "intermediates"],
        capture_intermediates=lambda module, _: module.name == "conv1",
    )
    before = kept["intermediates"]["block1"]["conv1"]["__call__"][0]
    pooled = np.asarray(jax.nn.relu(before)).reshape(len(split), 4, 2, 4, 2, -1).max(axis=(2, 4))
    layer = found["block1"]["norm"]
    np.testing.assert_allclose(layer["mean"], pooled.mean(axis=(0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(layer["var"], pooled.var(axis=(0, 1, 2)), atol=1e-5)
    # In several batches the first layer's are the same: what it sees does not depend on them.
    parts = recompute_statistics(experiment.model, variables, split, "unit", 7)
    for key in ("mean", "var"):
        np.testing.assert_allclose(parts["block1"]["norm"][key], layer[key], atol=1e-5)


def test_any_batch_size_counts_every_example_once(stored_run):
    stored = load_stored(stored_run)
    dataset = load_dataset(stored.config.data)
    sizes = {
        size: evaluate_stored(stored, dataset.test, dataset.train, "recomputed", size).loss
        for size in (100, 10**9)
    }
    assert sizes[100] == pytest.approx(sizes[10**9], rel=1e-6)


@pytest.mark.parametrize("batch_size", [100, 30])
def test_a_batch_is_normalized_by_its_own_examples(stored_run, batch_size):
    stored = load_stored(stored_run)
    dataset = load_dataset(stored.config.data)
    model = stored.model.clone(block_dropout=(), head_dropout=())
    # In a random order, the last batch filled up from its beginning.
    order = epoch_order(100, 0, 0)
    expected = np.empty(100, np.int64)
    for start in range(0, 100, batch_size):
        chosen = np.resize(order, 120)[start : start + batch_size]
        images = scale_pixels(dataset.test.images[chosen], "unit")
        logits, _ = model.apply(stored.variables, images, train=True, mutable=["batch_stats"])
        new = order[start : start + batch_size]
        expected[new] = logits.argmax(axis=1)[: len(new)]
    found = evaluate_stored(stored, dataset.test, dataset.train, "batch", batch_size)
    np.testing.assert_array_equal(found.predicted, expected)
    assert found.accuracy == np.mean(expected == dataset.test.labels)


def test_three_kinds_of_statistics_are_shown(stored_run, capsys):
    kinds = ["running", "batch", "recomputed"]
    found = evaluated(capsys, stored_run, f"--batch_stats={','.join(kinds)}")
    assert [result["batch_stats"] for result in found["results"]] == kinds
    losses = [result["loss"] for result in found["results"]]
    assert len(set(losses)) == 3
    assert max(losses) < 2 * min(losses)


@pytest.fixture
def kept_programs(tmp_path):
    """The folder of compiled programs, empty, of which every one is kept."""
    before = {
        name: jax.config.values[name]
        for name in ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    }
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "programs"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    compilation_cache.reset_cache()
    yield tmp_path / "programs"
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_the_weights_are_not_compiled_into_the_programs(stored_run, kept_programs, tmp_path):
    """Another checkpoint of the same model finds every program compiled."""
    paths = save_pictures(tmp_path / "pictures")

    def use(step):
        stored = load_stored(stored_run, step)
        dataset = load_dataset(stored.config.data)
        for kind in KINDS:
            evaluate_stored(stored, dataset.test, dataset.train, kind, 32)
        (first, *_) = predict_files(stored, paths)
        saliency(stored, first.image, label=int(step) % 7)
        return sorted(path.name for path in kept_programs.glob("*-cache"))

    kept = use("20")
    assert sum("evaluate" in name for name in kept) == 3  # by running, by batch, of pictures
    assert use("30") == kept


def save_pictures(folder, count=3):
    folder.mkdir(exist_ok=True)
    images = load_digits((8, 8, 1)).test.images[:count, ..., 0]
    paths = [folder / f"{number}.png" for number in range(count)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    return paths


def test_pictures_are_classified_as_the_model_does(stored_run, tmp_path, capsys):
    paths = save_pictures(tmp_path / "pictures")
    predict.main([str(stored_run), str(tmp_path / "pictures"), "--format=json", "--top=10"])
    found = json.loads(capsys.readouterr().out)
    assert [row["path"] for row in found] == list(map(str, paths))
    model, variables, config = flaxlab.load(stored_run)
    images = np.stack([np.asarray(Image.open(path))[..., None] for path in paths])
    logits = model.apply(variables, scale_pixels(images, config.data.scaling), train=False)
    expected = np.asarray(jax.nn.softmax(logits))
    for row, scores in zip(found, expected, strict=True):
        shown = {each["class"]: each["probability"] for each in row["classes"]}
        values = [each["probability"] for each in row["classes"]]
        assert values == sorted(values, reverse=True)
        assert [shown[str(digit)] for digit in range(10)] == pytest.approx(scores, abs=1e-5)


def test_any_picture_is_brought_to_the_input(stored_run, tmp_path, capsys):
    for mode in ("RGB", "RGBA", "L", "P", "1"):
        Image.new(mode, (31, 57)).save(tmp_path / f"{mode}.png")
    Image.new("RGB", (200, 10)).save(tmp_path / "photo.jpg")
    predict.main([str(stored_run), str(tmp_path)])
    assert capsys.readouterr().out.count("%") == 6 * 3


def test_inverting_is_what_it_says(stored_run, tmp_path, capsys):
    (path,) = save_pictures(tmp_path, 1)
    inverted = tmp_path / "inverted.png"
    Image.fromarray(255 - np.asarray(Image.open(path))).save(inverted)
    outputs = []
    for arguments in ([str(path)], [str(inverted), "--invert"]):
        predict.main([str(stored_run), *arguments, "--format=json"])
        outputs.append(json.loads(capsys.readouterr().out)[0]["classes"])
    assert outputs[0] == outputs[1]


def test_saliency_is_the_slope_of_the_logit(stored_run, tmp_path):
    stored = load_stored(stored_run)
    image = load_digits((8, 8, 1)).test.images[0]
    found = saliency(stored, image, label=3)
    assert found.shape == (8, 8)

    def logit(pixels):
        return float(stored.model.apply(stored.variables, pixels[None], train=False)[0, 3])

    scaled = np.array(scale_pixels(image, stored.config.data.scaling))
    row, column = np.unravel_index(found.argmax(), found.shape)
    step = np.zeros_like(scaled)
    step[row, column] = 1e-3
    slope = (logit(scaled + step) - logit(scaled - step)) / 2e-3
    assert abs(slope) == pytest.approx(found.max(), rel=0.05)
    paths = save_pictures(tmp_path / "in")
    predict.main([str(stored_run), *map(str, paths), f"--explain={tmp_path / 'out'}"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "0000_0.png",
        "0001_1.png",
        "0002_2.png",
    ]


USE_IT = """
import pathlib, sys
import numpy as np
from jax import export
from safetensors.numpy import load_file

folder = pathlib.Path(sys.argv[1])
function = export.deserialize(bytearray((folder / "model.bin").read_bytes()))
weights = load_file(folder / "weights.safetensors")
for count in (1, 5, 100):
    images = np.load(folder / "images.npy")[:count]
    np.save(folder / f"logits_{count}.npy", function.call(weights, images))
assert not [name for name in sys.modules if name.split(".")[0] in ("flaxlab", "flax")]
"""


def test_an_exported_model_runs_without_flaxlab(stored_run, tmp_path, capsys):
    export.main([str(stored_run), f"--to={tmp_path}"])
    names = {"model.bin", "model.mlir", "weights.safetensors", "export.json", "README.md"}
    assert {path.name for path in tmp_path.iterdir()} == names
    about = json.loads((tmp_path / "export.json").read_text())
    assert about["input"] == {"shape": ["batch", 8, 8, 1], "dtype": "uint8"}
    assert about["class_names"] == list(map(str, range(10)))
    config = load_stored(stored_run).config
    np.save(tmp_path / "images.npy", load_dataset(config.data).test.images)
    ended = Process("-I", "-c", USE_IT, tmp_path, cwd=tmp_path).end()
    assert ended.code == 0, ended.errors
    with np.load(stored_run / "predictions.npz") as stored:
        expected = stored["logits"]
    for count in (1, 5, 100):
        logits = np.load(tmp_path / f"logits_{count}.npy")
        np.testing.assert_allclose(logits, expected[:count], atol=1e-4)
    # What the README shows does run.
    code = (tmp_path / "README.md").read_text().split("```python")[1].split("```")[0]
    ended = Process("-I", "-c", code, cwd=tmp_path).end()
    assert ended.code == 0, ended.errors


def test_a_warm_start_takes_what_fits(stored_run, tmp_path, caplog):
    caplog.set_level("INFO", logger="flaxlab")
    arguments = [*SMALL_POOL, f"--workdir={tmp_path}"]
    run_main(
        [
            *arguments,
            f"--config.train.init_from={stored_run}",
            "--config.train.epochs=1",
            "--config.optimizer.learning_rate=1e-30",
            "--config.model.head_units=(16, 9)",
        ]
    )
    ours, theirs = flaxlab.load(tmp_path)[1]["params"], flaxlab.load(stored_run)[1]["params"]
    np.testing.assert_array_equal(
        ours["block1"]["conv1"]["kernel"], theirs["block1"]["conv1"]["kernel"]
    )
    np.testing.assert_array_equal(ours["head1"]["dense"]["bias"], theirs["head1"]["dense"]["bias"])
    assert ours["head2"]["dense"]["kernel"].shape == (16, 9)
    taken, left = caplog.messages[-2:]
    assert "the optimizer starts afresh" in taken
    assert "params/block1/conv1/kernel" in taken
    assert "batch_stats/block1/norm/mean" in taken
    assert "params/head2/dense/kernel (there (16, 8), here (16, 9))" in left
    assert "params/head2" not in taken


def test_a_warm_start_from_any_checkpoint_that_fits(foreign_checkpoints, tmp_path, capsys):
    arguments = [*SMALL_POOL, f"--workdir={tmp_path}"]
    for source, message in (
        (foreign_checkpoints / "managed", "nothing in"),
        (tmp_path / "nowhere", "there is no folder"),
    ):
        assert message in refused(
            run_main, [*arguments, f"--config.train.init_from={source}"], capsys
        )


def test_a_warm_start_without_a_kernel_is_refused(stored_run):
    """Biases of the output fit any network for ten digits: nothing learned is in them."""
    changes = {"model.blocks": (((5, 3),),), "model.head_units": (15,), "model.head_dropout": ()}
    other = small_config(**changes)
    state = assemble(other, small_dataset(classes=10)).create_state()
    assert state.params["output"]["bias"].shape == (10,)
    with pytest.raises(UsageError, match=r"no kernel .* for example params/.*/kernel \("):
        warm_start(state, stored_run)


def test_a_resumed_run_does_not_start_anew_from_another(stored_run, tmp_path):
    config = small_config(**{"train.epochs": 1})
    train(assemble(config, small_dataset()), tmp_path / "source")
    warm = {"train.init_from": str(tmp_path / "source")}
    whole = train(
        assemble(small_config(**warm, **{"train.epochs": 2}), small_dataset()), tmp_path / "a"
    )
    train(assemble(small_config(**warm, **{"train.epochs": 1}), small_dataset()), tmp_path / "b")
    resumed = train(
        assemble(small_config(**warm, **{"train.epochs": 2}), small_dataset()), tmp_path / "b"
    )
    jax.tree.map(np.testing.assert_array_equal, whole.state.params, resumed.state.params)


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (evaluate, ["/nowhere"], "there is no folder"),
        (evaluate, ["{run}", "--batch_stats=none"], "expected running, batch, recomputed"),
        (evaluate, ["{run}", "--batch_size=0"], "is not a size"),
        (evaluate, ["{run}", "--data.nam=digits"], "did you mean --config.data.name"),
        (evaluate, ["{run}", "--config.seed=1"], "expected --data.FIELD=VALUE"),
        (evaluate, ["{run}", "--data.name=folder", "--data.folder={pictures}"], "has 1 classes"),
        (evaluate, ["{run}", "--data.name=cifar10"], "is not prepared"),
        (evaluate, ["{run}", "--data.image_shape=(14, 14, 1)"], "the model takes (8, 8, 1)"),
        (evaluate, ["{run}", "--data.scaling=raw"], "was trained with data.scaling=unit"),
        (evaluate, ["{foreign}"], "was not written by flaxlab"),
        (evaluate, ["{flipped}"], "is damaged: state/"),
        (predict, ["{flipped}", "{text}"], "is damaged: state/"),
        (export, ["{flipped}", "--to=x"], "is damaged: state/"),
        (export, ["{run}", "--to={pictures}"], "holds other files"),
        (predict, ["{run}", "/nowhere.png"], "there is no picture"),
        (predict, ["{run}", "{text}"], "is not a readable PNG or JPEG"),
        (predict, ["{run}", "{empty}"], "holds no PNG or JPEG pictures"),
        (predict, ["{run}", "{text}", "--top=0"], "is not a number of classes"),
        (predict, ["{foreign}", "{text}"], "was not written by flaxlab"),
        (export, ["{foreign}", "--to=x"], "was not written by flaxlab"),
        (export, ["{run}", "--to=/dev/null/x"], "cannot be written"),
    ],
)
def test_wrong_input_is_one_line(
    command, arguments, message, stored_run, foreign_checkpoints, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("flaxlab.data.load.reachable", lambda url: False)
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty").mkdir()
    save_pictures(tmp_path / "one")
    (tmp_path / "classes").mkdir()
    (tmp_path / "one").rename(tmp_path / "classes/one")
    places = {
        "run": stored_run,
        "foreign": foreign_checkpoints / "managed",
        "text": tmp_path / "text.png",
        "empty": tmp_path / "empty",
        "flipped": shutil.copytree(stored_run, tmp_path / "flipped"),
        "pictures": tmp_path / "classes",
    }
    flip_a_bit(places["flipped"] / "checkpoints/latest/30")
    assert message in refused(
        command.main, [argument.format(**places) for argument in arguments], capsys
    )
