"""Tests of no difference: against other libraries, their level, and the refusal of those that cannot reject."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from kd.statistics.attainable import needed, refusal, smallest_p, untested
from kd.statistics.significance import holm, mcnemar, permutation, wilcoxon


def test_wilcoxon_is_exact() -> None:
    means = np.random.default_rng(0).standard_normal(8) + 0.4
    ranks = stats.rankdata(np.abs(means))
    seen = ranks[means > 0].sum()
    every = np.array([ranks @ np.array(signs) for signs in product((0, 1), repeat=8)])
    expected = min(1.0, 2 * min((every >= seen).mean(), (every <= seen).mean()))
    assert wilcoxon(means) == pytest.approx(expected)


def test_wilcoxon_over_ties_flips_their_signs_and_leaves_out_what_does_not_differ() -> None:
    assert wilcoxon(np.zeros(20)) == 1.0
    assert wilcoxon(np.array([0.0, 0.0, *[1.0] * 10])) == pytest.approx(2 / 2**10)


def test_permutation_flips_every_sign_where_there_are_few() -> None:
    rows = np.array([0.3, -0.1, 0.5, 0.2, 0.4, 0.6, -0.2])
    sums = np.array([rows @ np.array(signs) for signs in product((-1, 1), repeat=7)])
    expected = np.mean(np.abs(sums) >= abs(rows.sum()) - 1e-12)
    assert permutation(rows) == pytest.approx(expected)


def test_permutation_flips_the_rows_of_a_group_together() -> None:
    sums = np.random.default_rng(0).standard_normal(9) + 0.5
    rows, group = np.concatenate([sums - 1.0, np.ones(9)]), np.tile(np.arange(9), 2)
    assert permutation(rows, group) == pytest.approx(permutation(sums))


def test_mcnemar_is_exact_and_below_25_differing_rows_mid_p() -> None:
    from statsmodels.stats.contingency_tables import mcnemar as exact

    def pair(first: int, second: int) -> tuple[np.ndarray, np.ndarray]:
        method = np.array([True] * first + [False] * second + [True] * 30)
        return method, np.array([False] * first + [True] * second + [True] * 30)

    assert mcnemar(*pair(20, 10)) == pytest.approx(exact([[30, 20], [10, 0]], exact=True).pvalue)
    # Fagerland, Lydersen & Laake 2013, airway study: 1 and 7 differing pairs, exact p 0.0703, mid-p 0.0391.
    assert exact([[0, 7], [1, 0]], exact=True).pvalue == pytest.approx(0.0703, abs=1e-4)
    assert mcnemar(*pair(7, 1)) == pytest.approx(0.0391, abs=1e-4)
    assert mcnemar(*pair(0, 0)) == 1.0


@pytest.mark.parametrize("test", ["wilcoxon", "permutation"])
def test_level_is_kept_under_the_hypothesis_that_is_tested(test: str) -> None:
    random = np.random.default_rng(0)
    call = wilcoxon if test == "wilcoxon" else lambda values: permutation(values, resamples=199)
    rejected = sum(call(random.standard_normal(20)) < 0.05 for _ in range(400))
    assert rejected <= 400 * 0.05 + 3 * np.sqrt(400 * 0.05 * 0.95)


def test_sign_flips_that_ignore_groups_reject_too_often() -> None:
    random, group = np.random.default_rng(0), np.repeat(np.arange(20), 5)
    rejected = {"whole": 0, "ignored": 0}
    for _ in range(100):
        rows = random.standard_normal(20)[group]
        rejected["whole"] += permutation(rows, group, resamples=199) < 0.05
        rejected["ignored"] += permutation(rows, resamples=199) < 0.05
    assert rejected["whole"] <= 12 < 25 < rejected["ignored"]


def test_holm_is_written_out() -> None:
    # Holm 1979: the k-th smallest of m times m - k + 1, and never below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_what_was_not_tested_counts_in_the_family() -> None:
    found = holm([0.01, float("nan"), float("nan")])
    assert found[0] == pytest.approx(0.03)
    assert np.isnan(found[1:]).all()
    assert len(holm([])) == 0


def test_wilcoxon_over_5_seeds_is_refused_by_name() -> None:
    assert refusal("wilcoxon", 5, 1) == (
        "wilcoxon over 5 seeds: its smallest p is 0.0625, above 0.05 / 1; it needs 6 seeds"
    )
    assert refusal("wilcoxon", 6, 1) == ""
    assert "above 0.05 / 6; it needs 8 seeds" in refusal("wilcoxon", 6, 6)


@pytest.mark.parametrize(("test", "n"), [("wilcoxon", 7), ("permutation", 7), ("mcnemar", 7), ("mcnemar", 30)])
def test_the_smallest_p_is_what_the_most_extreme_data_give(test: str, n: int) -> None:
    extreme = {
        "wilcoxon": lambda: wilcoxon(np.arange(1.0, n + 1)),
        "permutation": lambda: permutation(np.arange(1.0, n + 1)),
        "mcnemar": lambda: mcnemar(np.ones(n, dtype=bool), np.zeros(n, dtype=bool)),
    }
    assert smallest_p(test, n) == pytest.approx(extreme[test]())


def test_a_test_is_refused_until_it_has_what_it_needs() -> None:
    for test, family in product(("wilcoxon", "permutation", "mcnemar"), (1, 3, 20)):
        least = needed(test, family)
        assert least is not None
        assert refusal(test, least, family) == ""
        assert refusal(test, least - 1, family) != ""
    assert "a smaller family" in refusal("permutation", 1_000, 300)


def test_fewer_than_20_seeds_are_not_tested() -> None:
    assert untested(19) == "19 seeds, 20 are needed"
    assert untested(20) == ""
