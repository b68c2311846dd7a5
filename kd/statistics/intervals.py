"""Intervals of means over seeds, and of paired differences over seeds and rows or over folds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from kd.statistics import LEVEL, SEEDS_FOR_INTERVAL
from kd.statistics.crossed import Array, Crossed, by_group
from kd.statistics.verdicts import verdict

NAN = float("nan")


@dataclass(frozen=True)
class Difference:
    """A paired difference with its interval.

    Attributes:
        estimate: mean difference.
        low: lower end of the 95% interval; NaN where there are too few seeds to print one.
        high: upper end.
        verdict: better, worse, tie or inconclusive.
        detectable: half the interval's width: no smaller estimate would have been told from 0.
        error: standard error of the estimate.
        degrees: of freedom of its t distribution.
    """

    estimate: float
    low: float
    high: float
    verdict: str
    detectable: float
    error: float
    degrees: float

    @classmethod
    def of(cls, estimate: float, error: float, degrees: float, margin: float) -> Difference:
        """Return a difference with its t interval and verdict."""
        half = half_width(error, degrees)
        low, high = estimate - half, estimate + half
        return cls(estimate, low, high, verdict(low, high, margin), half, error, degrees)

    @property
    def p(self) -> float:
        """Two-sided p of the t test that belongs to the interval: below 0.05 where it leaves out 0, NaN without one."""
        if self.error == 0:
            return 1.0 if self.estimate == 0 else 0.0
        return float(2 * stats.t.sf(abs(self.estimate) / self.error, self.degrees))

    def interval(self, level: float) -> tuple[float, float]:
        """Return the ends of the interval of another coverage, in (0, 1)."""
        half = float(half_width(self.error, self.degrees, level))
        return self.estimate - half, self.estimate + half


def half_width(error: Any, degrees: Any, level: float = LEVEL) -> Any:
    """Return half the width of a t interval."""
    return stats.t.ppf((1 + level) / 2, degrees) * error


def mean_interval(values: Array) -> tuple[float, float, float]:
    """Return mean and 95% t interval over seeds; the ends are NaN for fewer than 5.

    It speaks of training randomness on these test rows alone (estimand i, "conditional").

    >>> mean_interval(np.array([0.5, 0.7]))
    (0.6, nan, nan)
    """
    mean = float(np.mean(values))
    if len(values) < SEEDS_FOR_INTERVAL:
        return mean, NAN, NAN
    half = float(half_width(stats.sem(values), len(values) - 1))
    return mean, mean - half, mean + half


def crossed_difference(difference: Array, *, margin: float, group: NDArray[Any] | None = None) -> Difference:
    """Return estimate, interval and verdict of a mean difference over seeds x rows, both random.

    The interval is `mean +- t_df sqrt(variance)`, see `kd.statistics.crossed.Crossed`. With 20 seeds and more,
    resampling both factors would do as well; its coverage in simulated studies (docs/statistics.md) leaves it no need.

    Args:
        difference: [S, R], method minus baseline, per seed and test row.
        margin: a whole interval inside plus or minus this is a tie.
        group: [R]; rows of one group stay together.

    Returns:
        without an interval where there are fewer than 5 seeds or 2 groups.
    """
    units = by_group(np.asarray(difference, dtype=float), group)
    if units.shape[0] < SEEDS_FOR_INTERVAL or units.shape[1] < 2:
        return Difference.of(float(difference.mean()), NAN, NAN, margin)
    table = Crossed.of(units)
    return Difference.of(float(table.mean), float(np.sqrt(table.variance)), float(table.degrees), margin)


def fold_difference(means: Array, overlap: float, *, margin: float) -> Difference:
    """Return estimate, interval and verdict of a mean difference over repeated cross-validation, on new rows.

    Each value comes from test rows that its networks did not learn from, but training rows of different folds overlap.
    The corrected repeated cross-validation test makes up for it (Nadeau & Bengio 2003, doi:10.1023/A:1024068626366;
    Bouckaert & Frank 2004, doi:10.1007/978-3-540-24775-3_3): with n values of variance s^2,

        half width = t_{n-1} sqrt((1 / n + n_test / n_train) s^2).

    Args:
        means: [n], method minus baseline, one value for every seed and fold.
        overlap: n_test / n_train.
        margin: a whole interval inside plus or minus this is a tie.

    Returns:
        without an interval where there are fewer than 5 values.
    """
    if len(means) < SEEDS_FOR_INTERVAL:
        return Difference.of(float(means.mean()), NAN, NAN, margin)
    error = float(means.std(ddof=1)) * float(np.sqrt(1 / len(means) + overlap))
    return Difference.of(float(means.mean()), error, len(means) - 1, margin)
