"""Medians and quartiles over batches, by hand."""

import pytest

from projects.clockdistill.calibration.measure import DETECTION, MEMORY, MEMORY_PARTS, Sample
from projects.clockdistill.calibration.scales import Spread, summarize


def samples(*values: float, at_memory: bool = True) -> list[Sample]:
    return [Sample(v, v / 10 if at_memory else None, v / 5) for v in values]


def test_median_and_quartiles_of_value_and_gradients():
    detection, fitnet = summarize(
        {
            DETECTION: samples(10.0, 50.0, 20.0, 40.0, 30.0),
            "loss_distill_fitnet": samples(3.0, 1.0, 2.0, 4.0, 100.0, at_memory=False),
        }
    )
    assert detection.value == Spread(20, 30, 40) and detection.relative == 1
    assert detection.at_memory == Spread(2, 3, 4) and detection.at_neck == Spread(4, 6, 8)
    assert detection.relative_at_neck == 1
    # of medians, so one batch of 100 does not matter: 3 / 30
    assert fitnet.value == Spread(2, 3, 4) and fitnet.relative == 0.1
    # 3 / 5 at the neck, beside 30 / 5
    assert fitnet.at_memory is None and fitnet.relative_at_neck == pytest.approx(0.1)


def test_one_batch_is_enough_and_parts_are_no_losses_of_their_own():
    names = [DETECTION, MEMORY, *MEMORY_PARTS]
    scales = summarize({name: samples(2.0) for name in names})
    assert all(scale.value == Spread(2, 2, 2) for scale in scales)
    assert [scale.name for scale in scales if scale.is_distillation] == [MEMORY]
