"""What a study could have seen, and how many seeds would show a stated margin."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import stats

from kd.statistics import ALPHA, POWER, SEEDS_FOR_INTERVAL
from kd.statistics.crossed import Array, Crossed

MOST_SEEDS = 100_000
Precision = Callable[[int], tuple[float, float]]
"""Seeds -> (standard error, degrees of freedom) to expect."""


def seen(error: float, degrees: float) -> float:
    """Return the smallest true difference that a two-sided 5% t test finds in 80% of studies like this one.

    The minimum detectable effect `(t_{1 - alpha / 2} + t_{power}) error` (Bloom 1995, doi:10.1177/0193841X9501900504).

    >>> round(seen(error=1.0, degrees=1e6), 2)
    2.8
    """
    return float((stats.t.ppf(1 - ALPHA / 2, degrees) + stats.t.ppf(POWER, degrees)) * error)


def seeds_needed(precision: Precision, margin: float) -> int | None:
    """Return the least number of seeds, 5 or more, that see a margin with 80% power; None where no number does.

    Args:
        precision: what to expect of a number of seeds.
        margin: true difference to be seen, above 0.
    """

    def enough(seeds: int) -> bool:
        return seen(*precision(seeds)) <= margin

    if not enough(MOST_SEEDS):
        return None
    low, high = SEEDS_FOR_INTERVAL - 1, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def crossed_precision(units: Array) -> Precision:
    """Return what to expect of other numbers of seeds on the same rows, from differences [S, R or groups]."""
    table = Crossed.of(units)

    def precision(seeds: int) -> tuple[float, float]:
        planned = table.with_seeds(seeds)
        return float(np.sqrt(planned.variance)), float(planned.degrees)

    return precision


def fold_precision(means: Array, *, overlap: float, folds: int) -> Precision:
    """Return what to expect of other numbers of seeds in cross-validation, whose training rows go on overlapping."""
    spread = float(means.std(ddof=1))

    def precision(seeds: int) -> tuple[float, float]:
        values = seeds * folds
        return spread * float(np.sqrt(1 / values + overlap)), max(values - 1, 1)

    return precision
