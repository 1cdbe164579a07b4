"""Mean, standard deviation and Welch's t interval of AP over a few seeds."""

from collections.abc import Sequence

import numpy as np
import scipy.stats


def mean_and_std(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Returns the mean and the standard deviation (n - 1); None for what the values do not give."""
    mean = float(np.mean(values)) if len(values) else None
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else None


def welch_interval(values: Sequence[float], others: Sequence[float]) -> tuple[float, float] | None:
    """Returns the 95% interval of the difference of two means: Welch's t interval.

    It holds with few seeds and unequal variances. Rows share their seeds; the interval does not use
    that, so it is too wide rather than too narrow where equal seeds vary together. It does not
    cover the choice of images.

    Source: Welch, The generalization of Student's problem when several different population
    variances are involved, Biometrika 34 (1947), 28-35.

    Returns:
        (low, high), or None where one side has fewer than two values or no side varies.
    """
    if min(len(values), len(others)) < 2 or np.ptp(values) == np.ptp(others) == 0:
        return None
    test = scipy.stats.ttest_ind(values, others, equal_var=False)
    low, high = test.confidence_interval(0.95)
    return float(low), float(high)
