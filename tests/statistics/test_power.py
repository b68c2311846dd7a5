"""What could have been seen: against another library, and against simulated studies."""

from __future__ import annotations

import numpy as np
import pytest

from kd.statistics.crossed import Crossed
from kd.statistics.power import crossed_precision, fold_precision, seeds_needed, seen


def test_difference_seen_is_that_of_statsmodels() -> None:
    from statsmodels.stats.power import TTestPower

    for n, tolerance in ((6, 0.04), (20, 0.01), (100, 0.005)):
        expected = TTestPower().solve_power(nobs=n, alpha=0.05, power=0.8)
        assert seen(1 / np.sqrt(n), n - 1) == pytest.approx(expected, rel=tolerance)


def test_the_difference_seen_is_found_in_four_studies_of_five() -> None:
    random, seeds, rows = np.random.default_rng(0), 10, 100
    known = Crossed(seeds, rows, 0.0, 1 + rows * 0.1, 1 + seeds * 1.0, 1.0)
    truth = seen(float(np.sqrt(known.variance)), float(known.degrees))
    draw = random.standard_normal
    table = Crossed.of(
        truth + np.sqrt(0.1) * draw((2_000, seeds, 1)) + draw((2_000, 1, rows)) + draw((2_000, seeds, rows))
    )
    from scipy import stats

    found = np.mean(np.abs(table.mean) > stats.t.ppf(0.975, table.degrees) * np.sqrt(table.variance))
    assert 0.76 < found < 0.84


def test_seeds_needed_are_the_fewest_that_see_the_margin() -> None:
    random = np.random.default_rng(0)
    precision = crossed_precision(random.standard_normal((20, 1)) + 0.1 * random.standard_normal((1, 400)))
    found = seeds_needed(precision, 0.3)
    assert found is not None
    assert seen(*precision(found)) <= 0.3 < seen(*precision(found - 1))


def test_no_number_of_seeds_makes_up_for_few_rows() -> None:
    random = np.random.default_rng(0)
    units = 0.01 * random.standard_normal((20, 1)) + random.standard_normal((1, 50))
    assert seeds_needed(crossed_precision(units), 0.05) is None
    assert seeds_needed(crossed_precision(units), 1.0) == 5


def test_no_number_of_seeds_makes_up_for_folds_that_overlap() -> None:
    means = np.random.default_rng(0).standard_normal(10)
    assert seeds_needed(fold_precision(means, overlap=0.25, folds=5), 0.5) is None
    assert seeds_needed(fold_precision(means, overlap=0.0, folds=5), 0.5) is not None


def test_more_seeds_leave_what_the_rows_bring() -> None:
    table = Crossed(5, 100, 0.0, 21.0, 11.0, 1.0)
    # Components 0.2 of seeds, 2 of rows, 1 of the residual.
    assert table.with_seeds(50).variance == pytest.approx(0.2 / 50 + 2 / 100 + 1 / 5_000)
