"""The likelihood-ratio test of dependence: against statsmodels, its level and what it can see."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.stats import binom, chi2

from kd.statistics.dependence import likelihood_ratio


def drawn(seed: int, effect: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    known, added = random.standard_normal(400), random.standard_normal(400)
    added = added + 0.7 * known
    chance = 1 / (1 + np.exp(-(known + effect * added - 0.5)))
    return random.random(400) < chance, known, added


def test_p_is_that_of_statsmodels() -> None:
    flag, known, added = drawn(0, 0.3)
    before = sm.Logit(flag.astype(float), sm.add_constant(known)).fit(disp=0)
    after = sm.Logit(flag.astype(float), sm.add_constant(np.stack([known, added], axis=1))).fit(disp=0)
    assert likelihood_ratio(flag, known, added) == pytest.approx(chi2.sf(2 * (after.llf - before.llf), 1), rel=1e-4)


def test_what_says_nothing_is_found_to_help_in_5_percent_and_what_helps_is_seen() -> None:
    alarms = sum(likelihood_ratio(*drawn(seed)) < 0.05 for seed in range(300))
    low, high = binom.interval(0.99, 300, 0.05)
    assert low <= alarms <= high
    # Without what is known, it would help nearly always: both follow it.
    blind = sum(likelihood_ratio(f, np.empty((400, 0)), a) < 0.05 for f, _, a in map(drawn, range(50)))
    assert blind >= 48
    assert sum(likelihood_ratio(*drawn(seed, 0.7)) < 0.05 for seed in range(50)) >= 48


def test_equal_flags_tell_nothing() -> None:
    assert likelihood_ratio(np.ones(5, dtype=bool), np.empty((5, 0)), np.arange(5.0)) == 1.0
