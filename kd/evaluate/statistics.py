"""Intervals of paired differences over seeds and test rows, and the verdict they allow (protocol 11)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.95


@dataclass
class Difference:
    """A paired difference with its interval.

    Attributes:
        estimate: mean difference.
        low: lower end of the 95% interval.
        high: upper end.
        verdict: better, worse, tie or inconclusive.
        detectable: half the interval's width: a smaller difference could not have been seen.
    """

    estimate: float
    low: float
    high: float
    verdict: str
    detectable: float


def mean_interval(values: NDArray[np.floating]) -> tuple[float, float, float]:
    """Return mean and 95% t interval over seeds; the ends are NaN for a single seed.

    It speaks of training randomness on these test rows alone (estimand i, "conditional").
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * stats.sem(values))
    return mean, mean - half, mean + half


def fold_difference(means: NDArray[np.floating], overlap: float, margin: float) -> Difference:
    """Return estimate, interval and verdict of a mean difference over repeated cross-validation, on new rows.

    Each value comes from test rows that its networks did not learn from, but training rows of different folds overlap.
    The corrected repeated cross-validation test makes up for it (Nadeau & Bengio 2003, doi:10.1023/A:1024068626366;
    Bouckaert & Frank 2004, doi:10.1007/978-3-540-24775-3_3): with n values of variance s^2,

        half width = t_{n-1} sqrt((1 / n + n_test / n_train) s^2).

    Args:
        means: [n], method minus baseline, one value for every seed and fold; n >= 2.
        overlap: n_test / n_train.
        margin: a whole interval inside plus or minus this is a tie.
    """
    estimate, spread = float(means.mean()), float(means.std(ddof=1))
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(means) - 1) * spread * np.sqrt(1 / len(means) + overlap))
    low, high = estimate - half, estimate + half
    return Difference(estimate, low, high, verdict(low, high, margin), half)


def crossed_difference(difference: NDArray[np.floating], margin: float) -> Difference:
    """Return estimate, interval and verdict of a mean difference over seeds x rows, both random.

    Seeds share the test rows, so the two are crossed, not nested: the variance of the grand mean has a seed component
    (t quantile on S - 1 degrees of freedom) and a row component (normal quantile); their half-widths add in squares.
    The residual is inside both components, which widens the interval a little.

    Args:
        difference: [S, R], method minus baseline, per seed and test row; S >= 2, R >= 2.
        margin: a whole interval inside plus or minus this is a tie.
    """
    seeds, rows = difference.shape
    estimate = float(difference.mean())
    seed_half = stats.t.ppf((1 + LEVEL) / 2, seeds - 1) * difference.mean(axis=1).std(ddof=1) / np.sqrt(seeds)
    row_half = stats.norm.ppf((1 + LEVEL) / 2) * difference.mean(axis=0).std(ddof=1) / np.sqrt(rows)
    half = float(np.hypot(seed_half, row_half))
    low, high = estimate - half, estimate + half
    return Difference(estimate, low, high, verdict(low, high, margin), half)


def verdict(low: float, high: float, margin: float) -> str:
    """Return `better` (interval above 0), `worse` (below), `tie` (inside the margin) or `inconclusive`.

    >>> verdict(0.01, 0.03, 0.005), verdict(-0.002, 0.003, 0.005), verdict(-0.01, 0.03, 0.005)
    ('better', 'tie', 'inconclusive')
    """
    if low > 0:
        return "better"
    if high < 0:
        return "worse"
    return "tie" if -margin < low and high < margin else "inconclusive"
