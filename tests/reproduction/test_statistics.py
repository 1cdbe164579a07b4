"""Closed forms of means, spreads, gains and their intervals."""

import numpy as np
import pytest

from reproduction import statistics
from reproduction.resampled_ap import DRAWS
from reproduction.statistics import Sample, gain, interval


def test_mean_and_spread():
    sample = Sample([50.0, 52.0, 57.0])
    # mean 53; squared differences 9, 1, 16 -> 26 / 2 = 13
    assert sample.mean == 53.0
    assert sample.std == pytest.approx(13**0.5)
    assert Sample([50.0]).std is None


def test_one_seed_has_a_gain_and_no_interval():
    found = gain(Sample([53.0]), Sample([40.0, 41.0]))
    assert found.gain == 12.5
    assert found.ci95 is None and found.welch95 is None and not found.parts
    assert interval(Sample([53.0])) is None


def test_welch_in_closed_form():
    # both variances 1 of 3 seeds: standard error sqrt(2/3), 4 degrees of freedom, t = 2.776
    found = gain(Sample([49.0, 50.0, 51.0]), Sample([39.0, 40.0, 41.0]))
    half = 2.7764451 * (2 / 3) ** 0.5
    assert found.welch95 == pytest.approx((10 - half, 10 + half))


def test_two_seeds_a_side_draw_one_each_so_the_interval_is_all_they_can_say():
    # differences 8, 10, 10, 12, each in a quarter of the draws
    found = gain(Sample([50.0, 52.0]), Sample([40.0, 42.0]))
    assert found.ci95 == (8.0, 12.0)
    assert found.over == "seeds"
    assert found.parts
    assert not gain(Sample([50.0, 52.0]), Sample([49.0, 52.0])).parts


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_bootstrap_has_the_variance_of_a_mean(count, monkeypatch):
    monkeypatch.setattr(statistics, "DRAWS", 200_000)
    values = np.random.default_rng(0).normal(size=count)
    drawn = statistics._means(Sample(list(values)), False, np.random.default_rng(1))
    # of n - 1 drawn: the unbiased s^2 / n
    assert drawn.var() == pytest.approx(values.var(ddof=1) / count, rel=0.03)


def test_what_images_do_to_both_sides_cancels():
    hard = np.random.default_rng(0).normal(scale=5, size=DRAWS)
    row = Sample([50.0, 50.0], np.stack([50 + hard, 50 + hard]))
    other = Sample([40.0, 40.0], np.stack([40 + hard, 40 + hard]))
    found = gain(row, other)
    assert found.ci95 == pytest.approx((10.0, 10.0))
    assert found.over == "seeds and images"
    assert found.welch95 is None
    low, high = interval(row)  # of the level itself it stays: 1.96 * 5 to either side
    assert (high - low) / 2 == pytest.approx(1.96 * 5, rel=0.1)


def test_what_images_do_to_one_side_stays():
    hard = np.random.default_rng(0).normal(scale=2, size=DRAWS)
    row = Sample([50.0, 50.0], np.stack([50 + hard, 50 + hard]))
    other = Sample([40.0, 40.0], np.full((2, DRAWS), 40.0))
    low, high = gain(row, other).ci95
    assert (high - low) / 2 == pytest.approx(1.96 * 2, rel=0.1)


def test_without_detections_on_one_side_only_seeds_are_drawn():
    row = Sample([50.0, 52.0], np.full((2, DRAWS), 51.0))
    assert gain(row, Sample([40.0, 42.0])).over == "seeds"
