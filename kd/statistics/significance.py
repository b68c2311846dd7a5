"""Tests of no difference, each saying of what its p speaks, and Holm's correction over a family of them.

Only the t test of the crossed interval (`Difference.p`) speaks of new seeds and new rows at once. Wilcoxon over seeds
holds the test rows fixed, the sign flip over rows and McNemar hold the networks fixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from kd.statistics.crossed import Array

RESAMPLES = 9_999
FEW = 25
"""Discordant pairs below which the exact McNemar test rejects far too seldom, and mid-p takes its place."""


def wilcoxon(means: Array) -> float:
    """Return the two-sided p of Wilcoxon's signed rank test over seeds (Wilcoxon 1945, doi:10.2307/3001968).

    Exact; where differences tie, by sign flips of their ranks (`permutation`). Seeds without a difference are left out.

    Args:
        means: [S], method minus baseline of each seed on the same rows.

    >>> wilcoxon(np.array([0.1, 0.2, 0.3, 0.4, 0.5]))
    0.0625
    """
    moved = means[means != 0]
    if not len(moved):
        return 1.0
    if len(np.unique(np.abs(moved))) == len(moved):
        return float(stats.wilcoxon(moved, method="exact").pvalue)
    return permutation(np.sign(moved) * stats.rankdata(np.abs(moved)))


def permutation(per_row: Array, group: NDArray[Any] | None = None, *, resamples: int = RESAMPLES) -> float:
    """Return the two-sided p of the paired sign flip test over rows (Fisher 1935, "The Design of Experiments", 21).

    Under the hypothesis that method and baseline are interchangeable on every row, so is the sign of its difference;
    all rows of a group flip together. All flips are made where there are no more than `resamples`, else so many drawn.

    Args:
        per_row: [R], method minus baseline, the mean over seeds.
        group: [R]; None is every row its own group.
        resamples: flips; the smallest p is 2 over one more.

    >>> round(permutation(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])), 5)
    0.03125
    """
    sums = per_row if group is None else np.bincount(np.unique(group, return_inverse=True)[1], weights=per_row)
    moved = sums[sums != 0]
    if len(moved) < 2:
        return 1.0
    found = stats.permutation_test(
        (moved,),
        np.sum,
        permutation_type="samples",
        n_resamples=resamples,
        batch=max(1, 2**22 // len(moved)),
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def mcnemar(method: NDArray[np.bool_], baseline: NDArray[np.bool_]) -> float:
    """Return the two-sided p of McNemar's test for two frozen packages on one test set and subset of modalities.

    With n rows that one of the two alone gets right, the test is binomial: exact, and mid-p for n below 25
    (Fagerland, Lydersen & Laake 2013, doi:10.1186/1471-2288-13-91).

    Args:
        method: bool [R], which rows it got right.
        baseline: the same of the other.

    >>> round(mcnemar(np.array([True] * 6 + [False]), np.array([False] * 6 + [True])), 7)
    0.0703125
    """
    one, other = int((method & ~baseline).sum()), int((baseline & ~method).sum())
    exact = float(stats.binomtest(one, one + other).pvalue) if one + other else 1.0
    if not 0 < one + other < FEW:
        return exact
    return exact - float(stats.binom.pmf(one, one + other, 0.5))


def holm(p_values: Sequence[float] | Array) -> Array:
    """Return p values adjusted over their family (Holm 1979): a claim below alpha errs in no family more often.

    A member that was not tested (NaN) stays so, and counts as one of the family.

    >>> holm([0.01, 0.04, float("nan")])
    array([0.03, 0.08,  nan])
    """
    from statsmodels.stats.multitest import multipletests

    found = np.asarray(p_values, dtype=float)
    if not len(found):
        return found
    adjusted: Array = multipletests(np.where(np.isnan(found), 1.0, found), method="holm")[1]
    return np.where(np.isnan(found), np.nan, adjusted)
