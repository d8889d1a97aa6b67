"""Metrics against scikit-learn, pictures, and the page that shows them."""

import csv
import io
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn import metrics as sklearn_metrics

from flaxlab import scores as metrics
from flaxlab.config import LabReport
from flaxlab.pages import image_plots, plots, style
from flaxlab.run.origin import Origin
from flaxlab.run.report import products, write_report
from flaxlab.run.run import train
from flaxlab.training.experiment import assemble
from flaxlab.training.metrics import Row
from tests.helpers.runs import RUN_FILES, small_config, small_dataset

pytestmark = pytest.mark.usefixtures("pictures")

ORIGIN = Origin(
    Path("mine.py"), small_config(), {"loss.l2": (0.0, 0.01)}, LabReport("digits", 0.75)
)

pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=50)


@given(pairs)
def test_scores_are_scikit_learns(examples):
    labels, predicted = np.array(examples).T
    confusion = metrics.confusion_matrix(labels, predicted, 4)
    assert np.array_equal(
        confusion, sklearn_metrics.confusion_matrix(labels, predicted, labels=range(4))
    )
    expected = sklearn_metrics.precision_recall_fscore_support(
        labels, predicted, labels=range(4), zero_division=0
    )
    np.testing.assert_allclose(np.stack(metrics.class_scores(confusion)), np.stack(expected))


def test_probabilities_of_large_logits():
    logits = np.array([[1000.0, 1000.0], [0.0, np.log(3)]], np.float32)
    np.testing.assert_allclose(metrics.probabilities(logits), [[0.5, 0.5], [0.25, 0.75]])


def test_most_confident_mistakes_by_hand():
    logits = np.log([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]])
    found = metrics.most_confident_mistakes(logits, np.array([0, 1, 0, 0]), count=2)
    assert [(m.example, m.label, m.predicted) for m in found] == [(2, 0, 1), (3, 0, 1)]
    assert found[0].probability == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("device", "fields", "expected"),
    [
        ({"platform": "cpu"}, {}, "float32"),
        ({"platform": "cpu"}, {"train.matmul_precision": "tensorfloat32"}, "float32"),
        ({"platform": "gpu", "compute_capability": "9.0"}, {}, "tensorfloat32"),
        ({"platform": "gpu", "compute_capability": "7.5"}, {}, "float32"),
        ({"platform": "gpu", "compute_capability": "gfx90a"}, {}, "float32"),
        (
            {"platform": "gpu", "compute_capability": "9.0"},
            {"train.matmul_precision": "float32"},
            "float32",
        ),
        ({"platform": "gpu"}, {"model.dtype": "bfloat16"}, "bfloat16"),
        ({"platform": "tpu"}, {}, "bfloat16"),
    ],
)
def test_a_run_says_how_it_multiplies(device, fields, expected):
    assert products(small_config(**fields), SimpleNamespace(**device)) == expected


def size(figure):
    return Image.open(io.BytesIO(style.png(figure))).size


@pytest.mark.parametrize("classes", [2, 10, 40])
def test_pictures_take_any_number_of_classes(classes):
    names = [f"a rather long class name {label}" for label in range(classes)]
    labels = np.arange(classes)
    images = np.zeros((classes, 4, 4, 3), np.uint8)
    assert min(size(plots.confusion(np.eye(classes, dtype=int), names, "title"))) > 400
    assert min(size(image_plots.samples(images, labels, names))) > 100
    mistakes = [metrics.Mistake(0, 0, 1, 0.9)] * classes
    assert min(size(image_plots.mistakes(images, mistakes, names))) > 100
    assert min(size(image_plots.mistakes(images, [], names))) > 100


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run directory whose class names would break a careless page."""
    workdir = tmp_path_factory.mktemp("run")
    dataset = small_dataset()
    object.__setattr__(dataset, "class_names", ("<script>alert(1)</script>", "a,b", 'c"d'))
    config = small_config(**{"data.validation": "holdout", "loss.l2": 0.01, "loss.l1": 0.001})
    experiment = assemble(config, dataset)
    result = train(experiment, workdir)
    summary = write_report(experiment, ORIGIN, result, workdir, ["--config=x y.py"])
    return workdir, experiment, result, summary


def test_the_run_directory_is_complete(finished):
    workdir, *_ = finished
    names = {path.name for path in workdir.iterdir()}
    assert names == RUN_FILES - {"source"}


def test_the_summary_agrees_with_the_files(finished):
    workdir, experiment, _, summary = finished
    assert json.loads((workdir / "summary.json").read_text()) == json.loads(json.dumps(summary))
    history = list(csv.DictReader((workdir / "history.csv").read_text().splitlines()))
    assert float(history[-1]["val_accuracy"]) == summary["final_val_accuracy"]
    assert max(float(row["val_accuracy"]) for row in history) == summary["best_val_accuracy"]
    with np.load(workdir / "predictions.npz", allow_pickle=False) as predictions:
        hits = predictions["logits"].argmax(axis=1) == predictions["labels"]
    assert summary["test_accuracy"] == hits.mean()
    table = list(csv.reader((workdir / "confusion_matrix.csv").read_text().splitlines()))
    assert table[0][1:] == list(experiment.dataset.class_names)
    counts = np.array([row[1:] for row in table[1:]], int)
    assert np.trace(counts) == hits.sum()
    assert counts.sum() == len(hits) == summary["test_examples"] == 10
    assert summary["protocol"] == "holdout"
    assert summary["departures"] == {"loss.l2": (0.0, 0.01)}
    said = {"data": "digits", "final_accuracy": 0.75, "best_accuracy": None}
    assert summary["lab_report"] == said
    assert summary["steps"] == 3 * experiment.steps_per_epoch
    assert summary["penalised"] == [
        "block1/conv1/kernel",
        "head1/dense/kernel",
        "head2/dense/kernel",
    ]


def test_a_page_names_the_lab_report_only_beside_its_numbers(stored_run):
    page = (stored_run / "report.html").read_text()
    assert "Validation is the test split. The best epoch" in page
    assert "lab report" not in page


def test_the_page_stands_alone_and_shows_the_run(finished):
    workdir, _, _, summary = finished
    page = (workdir / "report.html").read_text()
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    assert "http" not in page
    assert page.count('<img src="data:image/png;base64,') == 3
    assert page.count("<svg role=") == 3
    assert len(page) < 1_500_000
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert f"{summary['test_accuracy'] * 100:.2f}%" in page
    assert "loss.l2" in page
    assert "data.validation" in page
    assert "python -m flaxlab.main &#39;--config=x y.py&#39;" in page
    assert "cannot settle" in page
    assert "Training changes images" not in page


def test_the_page_says_how_sure_the_model_is(finished):
    """The mean distance of probability and share, over fifteen bins, by a loop."""
    workdir, *_ = finished
    with np.load(workdir / "predictions.npz", allow_pickle=False) as stored:
        shares, labels = metrics.probabilities(stored["logits"]), stored["labels"]
    sure, right = shares.max(axis=1), shares.argmax(axis=1) == labels
    error = 0.0
    for low in range(15):
        inside = (sure >= low / 15) & (sure < (low + 1) / 15)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - sure[inside].mean())
    page = (workdir / "report.html").read_text()
    assert f"Expected calibration error {error * 100:.2f}%" in page


def test_the_page_shows_what_each_normalization_has_come_to(finished):
    workdir, _, result, _ = finished
    page = (workdir / "report.html").read_text()
    state = result.state
    texts = [
        f"{np.mean(x):.3g} ({np.min(x):.3g} to {np.max(x):.3g})"
        for x in (
            np.asarray(state.params["block1"]["norm"]["scale"], np.float64),
            np.asarray(state.batch_stats["block1"]["norm"]["mean"], np.float64),
            np.asarray(state.batch_stats["block1"]["norm"]["var"], np.float64),
        )
    ]
    row = re.search(r"<tr><td><code>block1/norm</code></td><td>\d+</td>.*?</tr>", page, re.S)
    assert row is not None
    assert re.findall(r"<td>(-?[\d.e-]+ \(.*?\))</td>", row[0]) == texts


def test_the_reliability_diagram_has_a_point_for_each_bin():
    found = metrics.Reliability(
        np.array([2.0, 0.0, 6.0]), np.array([0.3, np.nan, 0.9]), np.array([0.5, np.nan, 0.8])
    )
    top, bottom = plots.reliability(found).axes
    (points,) = [line for line in top.lines if line.get_marker() == "o"]
    np.testing.assert_array_equal(points.get_xydata(), [[0.3, 0.5], [np.nan] * 2, [0.9, 0.8]])
    (shares,) = bottom.patches
    np.testing.assert_allclose(shares.get_data().values, [0.25, 0, 0.75])


def test_the_page_shows_what_augmentation_does(tmp_path):
    config = small_config(**{"data.augment.flip": True, "train.epochs": 1})
    experiment = assemble(config, small_dataset())
    write_report(experiment, ORIGIN, train(experiment, tmp_path), tmp_path, [])
    page = (tmp_path / "report.html").read_text()
    assert "Training changes images at random." in page
    assert page.count('<img src="data:image/png;base64,') == 4
    assert {path.name for path in tmp_path.iterdir()} == RUN_FILES - {"source"}


def test_the_losses_within_the_epochs_are_behind_those_of_the_epochs():
    history = [Row(epoch, 0.5, 0.5, 0.5, 0.5, 0.001) for epoch in (1, 2)]
    steps = [(0.5, 2.0), (1.0, 1.5), (1.5, 1.25), (2.0, 1.0)]
    accuracies, losses = plots.curves(history, "title", None, steps).axes
    assert len(accuracies.lines) == 2
    (behind,) = losses.lines[2:]
    assert behind.get_xydata().tolist() == [list(point) for point in steps]
    assert behind.zorder < min(line.zorder for line in losses.lines[:2])
    assert losses.get_xlim() == (0, 2.5)


@pytest.mark.parametrize("epochs", [1, 2, 10])
def test_epochs_are_whole_numbers(epochs):
    history = [Row(epoch + 1, 0.5, 0.5, 0.5, 0.5, 0.001) for epoch in range(epochs)]
    for axes in plots.curves(history, "title", None).axes:
        low, high = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert (low, high) == (0.5, epochs + 0.5)
        assert ticks
        assert all(tick in range(1, epochs + 1) for tick in ticks)


def test_the_confusion_picture_has_labels_as_rows():
    figure = plots.confusion(np.array([[5, 7], [0, 9]]), ["a", "b"], "title")
    axes = figure.axes[0]
    assert axes.get_ylabel() == "true"
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts == {(0, 0): "5", (1, 0): "7", (0, 1): "0", (1, 1): "9"}
