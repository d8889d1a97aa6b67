"""Histograms of weights and images of samples in the event files, read back record by record."""

import io
import struct

import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from flaxlab import config as configs
from flaxlab.config.rules import validate
from flaxlab.errors import UsageError
from flaxlab.pages import image_plots, style
from flaxlab.run.tensorboard import TensorBoardLog
from tests.helpers.comparing import assert_same_bits
from tests.helpers.runs import Listener, run_small, small_config, small_dataset

EVERY_TWO = {"log.histograms": 2, "log.tensorboard": True}


def values_in(folder):
    """Returns (step, value) of every value in the event files of a folder.

    A record is a length, its checksum, that many bytes, and their checksum.
    """
    found = []
    for path in sorted(folder.glob("events.out.tfevents*")):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            data, content = content[12 : 12 + length], content[16 + length :]
            event = Event.FromString(data)
            found += [(event.step, value) for value in event.summary.value]
    return found


def histograms(folder):
    return {
        (step, value.tag): value.histo
        for step, value in values_in(folder)
        if value.WhichOneof("value") == "histo"
    }


def images(folder):
    return [
        (step, value.tag, value.image)
        for step, value in values_in(folder)
        if value.WhichOneof("value") == "image"
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    overrides = EVERY_TWO | {"train.epochs": 2}
    return folder, run_small(folder, [TensorBoardLog(folder)], **overrides)


def test_histograms_are_of_the_parameters_after_the_epoch(trained):
    folder, result = trained
    params = flatten_dict(result.state.params, sep="/")
    found = histograms(folder)
    assert found.keys() == {(2, f"weights/{path}") for path in params}
    for path, array in params.items():
        values, written = np.asarray(array, np.float64), found[2, f"weights/{path}"]
        assert written.num == values.size
        assert (written.min, written.max) == (values.min(), values.max())
        assert written.sum == pytest.approx(values.sum(), abs=1e-9)
        assert written.sum_squares == pytest.approx((values**2).sum())
        limits = np.array(written.bucket_limit)
        below = [np.count_nonzero(values < limit) for limit in limits[:-1]]
        np.testing.assert_array_equal(np.cumsum(written.bucket)[:-1], below)
        assert sum(written.bucket) == values.size


def test_the_samples_are_those_of_the_report(trained):
    folder, _ = trained
    ((step, tag, image),) = images(folder)
    assert (step, tag) == (0, "samples")
    train = small_dataset().train
    expected = style.png(
        image_plots.samples(train.images, train.labels, small_dataset().class_names)
    )
    assert image.encoded_image_string == expected
    assert (image.width, image.height) == Image.open(io.BytesIO(expected)).size


def test_a_resumed_run_goes_on_with_the_histograms_and_shows_no_samples_again(tmp_path):
    class Stop(Listener):
        def epoch_done(self, row):
            if row.epoch == 3:
                raise KeyboardInterrupt

    overrides = EVERY_TWO | {"train.epochs": 4}
    with pytest.raises(KeyboardInterrupt):
        run_small(tmp_path, [TensorBoardLog(tmp_path), Stop()], **overrides)
    run_small(tmp_path, [TensorBoardLog(tmp_path)], **overrides)
    assert {step for step, _ in histograms(tmp_path)} == {2, 4}
    assert len(images(tmp_path)) == 1


def test_without_them_a_run_is_the_same_and_writes_only_numbers(trained, tmp_path):
    _, result = trained
    plain = run_small(tmp_path, [TensorBoardLog(tmp_path)], **{"train.epochs": 2})
    assert_same_bits(plain.state, result.state)
    assert {value.WhichOneof("value") for _, value in values_in(tmp_path)} == {"simple_value"}
    assert not configs.meaningful_differences(small_config(), small_config(**EVERY_TWO))


def test_values_that_are_not_finite_are_left_out(tmp_path):
    log = TensorBoardLog(tmp_path)

    class Begin:
        config = small_config(**EVERY_TWO)
        dataset = small_dataset()
        splits = small_dataset()

    log.run_started(Begin, 0, 0)
    weights = {"some": np.array([np.nan, 1.0, 3.0, np.inf]), "none": np.array([np.nan])}
    log.weights_due(2, weights)
    log.run_done()
    ((place, found),) = histograms(tmp_path).items()
    assert place == (2, "weights/some")
    assert (found.num, found.min, found.max) == (2, 1, 3)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"log.histograms": 1, "log.tensorboard": False}, r"--config\.log\.tensorboard=true"),
        ({"log.histograms": -1}, r"config\.log\.histograms is -1; expected at least 0"),
    ],
)
def test_wrong_values_are_refused_in_one_line(overrides, message):
    with pytest.raises(UsageError, match=message):
        validate(small_config(**overrides))
