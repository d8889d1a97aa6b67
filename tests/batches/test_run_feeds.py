"""The feeds of a run: how much an accelerator takes at once."""

import pytest

from flaxlab.batches.devices import Devices
from flaxlab.training.experiment import assemble
from tests.helpers.runs import small_config, small_dataset


def test_an_accelerator_scores_a_split_that_fits_in_one_call(monkeypatch):
    monkeypatch.setattr(Devices, "accelerated", property(lambda self: True))
    experiment = assemble(small_config(), small_dataset(test=1030))
    feed = experiment.feeds().validation
    assert (feed.batch_size, feed.stacked) == (512, 3)
    assert len(list(feed.eval_batches())) == 1
    streamed = assemble(small_config(**{"data.placement": "streamed"}), small_dataset())
    assert (streamed.feeds().validation.batch_size, streamed.feeds().validation.stacked) == (8, 1)


@pytest.mark.parametrize(
    ("examples", "steps"),
    [(938 * 8, 67), (118 * 8, 59), (97 * 8, 97), (391 * 8, 23), (101 * 8, 50), (21, 3)],
)
def test_an_accelerator_takes_steps_that_divide_an_epoch(monkeypatch, examples, steps):
    experiment = assemble(small_config(), small_dataset(train=examples))
    assert experiment.steps_per_call == 1
    monkeypatch.setattr(Devices, "accelerated", property(lambda self: True))
    assert experiment.steps_per_call == steps


@pytest.mark.parametrize(
    ("fields", "steps"),
    [
        ({"data.placement": "streamed"}, 1),  # stacked pictures would take too much memory
        ({"data.placement": "grain"}, 1),
        ({"checkpoint.every_steps": 20}, 14),
        ({"train.steps_per_execution": 5}, 5),
    ],
)
def test_an_accelerator_takes_no_more_steps_than_it_can_or_may(monkeypatch, fields, steps):
    monkeypatch.setattr(Devices, "accelerated", property(lambda self: True))
    experiment = assemble(small_config(**fields), small_dataset(train=98 * 8))
    assert experiment.steps_per_call == steps
