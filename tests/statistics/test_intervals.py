"""Intervals: what they cover in simulated studies, and their formulas written out or taken from other libraries."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kd.statistics.crossed import Crossed, by_group
from kd.statistics.intervals import crossed_difference, fold_difference, half_width, mean_interval

SHARES = {"seed": (0.8, 0.1, 0.1), "row": (0.1, 0.8, 0.1), "residual": (0.1, 0.1, 0.8)}
"""Shares of the mean's variance that seeds, rows and residual bring."""


def studies(count: int, seeds: int, rows: int, shares: tuple[float, float, float], seed: int = 0) -> np.ndarray:
    """Return differences [studies, S, R] around 0."""
    random = np.random.default_rng([seed, seeds, rows])
    a, b, e = np.sqrt(np.array(shares) * (seeds, rows, seeds * rows))
    draw = random.standard_normal
    return a * draw((count, seeds, 1)) + b * draw((count, 1, rows)) + e * draw((count, seeds, rows))


def coverage(difference: np.ndarray) -> float:
    table = Crossed.of(difference)
    return float(np.mean(np.abs(table.mean) <= half_width(np.sqrt(table.variance), table.degrees)))


@pytest.mark.parametrize("dominant", SHARES)
@pytest.mark.parametrize("seeds", [5, 10, 20])
def test_crossed_interval_covers_the_truth(seeds: int, dominant: str) -> None:
    found = coverage(studies(2_000, seeds, 100, SHARES[dominant]))
    error = np.sqrt(0.95 * 0.05 / 2_000)
    assert 0.93 - 2 * error < found < 0.99


def test_the_residual_is_counted_once() -> None:
    # The sum of both factors' own variances of means, which counts it twice, covers above 99% here.
    difference = studies(2_000, 20, 100, (0.0, 0.0, 1.0))
    table = Crossed.of(difference)
    twice = half_width(np.sqrt((table.by_seed + table.by_row) / (20 * 100)), 19)
    assert np.mean(np.abs(table.mean) <= twice) > 0.99
    assert coverage(difference) < 0.985


def test_mean_squares_are_those_of_statsmodels() -> None:
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    difference = studies(1, 5, 8, SHARES["row"])[0]
    place = np.indices(difference.shape).reshape(2, -1)
    frame = pd.DataFrame({"y": difference.ravel(), "seed": place[0], "row": place[1]})
    expected = anova_lm(ols("y ~ C(seed) + C(row)", frame).fit())["mean_sq"]
    table = Crossed.of(difference)
    assert [table.by_seed, table.by_row, table.residual] == pytest.approx(list(expected))


def test_variance_and_degrees_are_satterthwaites() -> None:
    # Written out from Satterthwaite 1946 for MS_seed + MS_row - MS_residual, all components positive.
    table = Crossed(5, 100, 0.0, 8.0, 3.0, 1.0)
    assert table.variance == pytest.approx((8 + 3 - 1) / 500)
    assert table.degrees == pytest.approx(10**2 / (8**2 / 4 + 3**2 / 99 + 1 / (4 * 99)))


def test_a_negative_component_counts_as_none() -> None:
    assert Crossed(5, 100, 0.0, 0.5, 3.0, 1.0).variance == pytest.approx(3.0 / 500)
    assert Crossed(5, 100, 0.0, 0.5, 0.5, 1.0).variance == pytest.approx(1.0 / 500)
    assert Crossed(5, 5, 0.0, 1.0, 1.0, 1.0).degrees == 4


def test_rows_alike_in_every_seed_give_the_t_interval_over_rows() -> None:
    rows = np.random.default_rng(0).standard_normal(50)
    found = crossed_difference(np.tile(rows, (5, 1)), margin=0.01)
    expected = stats.ttest_1samp(rows, 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.p == pytest.approx(stats.ttest_1samp(rows, 0).pvalue)


def test_groups_kept_whole_cover_where_rows_do_not() -> None:
    random = np.random.default_rng(0)
    sizes = random.integers(1, 9, 60)
    group = np.repeat(np.arange(60), sizes)
    effect = random.standard_normal((1_000, 1, 60))[..., group]
    difference = effect + 0.3 * random.standard_normal((1_000, 5, len(group)))
    assert coverage(difference) < 0.75
    assert 0.92 < coverage(by_group(difference, group)) < 0.99


def test_groups_of_one_row_change_nothing_and_means_stay() -> None:
    difference = studies(1, 5, 30, SHARES["row"])[0]
    alone, whole = crossed_difference(difference, margin=0.01), None
    whole = crossed_difference(difference, margin=0.01, group=np.arange(30)[::-1])
    assert (whole.low, whole.high) == pytest.approx((alone.low, alone.high))
    uneven = np.repeat([3, 1, 2], [5, 10, 15])
    assert by_group(difference, uneven).mean(axis=1) == pytest.approx(difference.mean(axis=1))


def test_a_ratio_of_group_sums_has_the_linearised_error() -> None:
    # Written out from Cochran 1977, section 2.11, without finite population: s^2 of T_g - r n_g over G n^2.
    random = np.random.default_rng(1)
    sizes = random.integers(1, 6, 40)
    group = np.repeat(np.arange(40), sizes)
    rows = random.standard_normal(len(group)) + 0.2 * group / 40
    sums = np.bincount(group, weights=rows)
    left = sums - rows.mean() * sizes
    expected = np.sqrt(left @ left / 39 / 40) / sizes.mean()
    assert crossed_difference(np.tile(rows, (5, 1)), margin=0.1, group=group).error == pytest.approx(expected)


def test_no_difference_at_all_is_a_tie() -> None:
    found = crossed_difference(np.zeros((5, 50)), margin=0.01)
    assert (found.verdict, found.p) == ("tie", 1.0)


def test_a_wide_interval_is_inconclusive_and_says_what_could_be_seen() -> None:
    found = crossed_difference(np.random.default_rng(0).standard_normal((5, 50)), margin=0.01)
    assert found.verdict == "inconclusive"
    assert found.detectable == pytest.approx((found.high - found.low) / 2)


def test_the_p_is_below_5_percent_where_the_interval_leaves_out_0() -> None:
    for shift in np.linspace(0, 1, 21):
        found = crossed_difference(studies(1, 6, 40, SHARES["seed"])[0] / 10 + shift / 4, margin=0.01)
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


def test_fewer_than_5_seeds_have_no_interval() -> None:
    found = crossed_difference(np.ones((4, 50)), margin=0.01)
    assert (found.estimate, found.verdict) == (1.0, "inconclusive")
    assert np.isnan([found.low, found.high, found.detectable, found.p]).all()
    assert np.isnan(mean_interval(np.array([0.5, 0.6, 0.7, 0.8]))[1:]).all()
    assert np.isnan(fold_difference(np.ones(4), 0.5, margin=0.01).low)


def test_interval_over_seeds_is_scipys() -> None:
    values = np.array([0.5, 0.6, 0.7, 0.8, 0.75])
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    assert mean_interval(values) == pytest.approx((0.67, expected.low, expected.high))


def test_fold_interval_is_the_corrected_one_of_nadeau_and_bengio() -> None:
    # Written out from Bouckaert & Frank 2004, equation 3: t = mean / sqrt((1 / (k r) + n2 / n1) variance).
    means = np.array([0.02, 0.05, 0.01, 0.04, 0.03, 0.06])
    found = fold_difference(means, overlap=0.5, margin=0.01)
    t_quantile = 2.570582  # 97.5% of t with 5 degrees of freedom, from a table
    half = t_quantile * np.sqrt((1 / 6 + 0.5) * np.sum((means - 0.035) ** 2) / 5)
    assert found.estimate == pytest.approx(0.035)
    assert (found.low, found.high) == pytest.approx((0.035 - half, 0.035 + half), abs=1e-6)
    assert found.verdict == "inconclusive"


def test_more_overlap_of_training_rows_widens_the_fold_interval() -> None:
    means = np.array([0.02, 0.05, 0.01, 0.04, 0.03])
    widths = [fold_difference(means, overlap, margin=0.01).detectable for overlap in (0.0, 0.25, 0.5)]
    assert widths[0] < widths[1] < widths[2]
