"""Mean, standard deviation and Welch's interval by their formulas."""

import math

import numpy as np
import pytest
import scipy.stats

from reproduction.statistics import mean_and_std, welch_interval


def test_mean_and_standard_deviation():
    # mean 53; squared differences 9, 1, 16 -> 26 / 2 = 13
    assert mean_and_std([50.0, 52.0, 57.0]) == (53.0, pytest.approx(13**0.5))
    assert mean_and_std([50.0]) == (50.0, None)
    assert mean_and_std([]) == (None, None)


def test_welch_interval_is_its_formula():
    x, y = [33.6, 31.9, 23.4], [47.1, 45.9, 43.0, 44.4]
    a, b = np.var(x, ddof=1) / len(x), np.var(y, ddof=1) / len(y)
    # Welch-Satterthwaite
    freedom = (a + b) ** 2 / (a**2 / (len(x) - 1) + b**2 / (len(y) - 1))
    half = scipy.stats.t.ppf(0.975, freedom) * math.sqrt(a + b)
    gain = np.mean(x) - np.mean(y)
    assert welch_interval(x, y) == pytest.approx((gain - half, gain + half))


def test_one_seed_and_equal_seeds_have_no_interval():
    assert welch_interval([53.0], [40.0, 41.0]) is None
    assert welch_interval([53.0, 53.0], [40.0, 40.0]) is None
