"""Logistic regression: its settings, what chooses its penalty, and what copies count."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from kd.baselines.examples import Examples
from kd.baselines.logistic import Logistic, regression
from kd.data.source import Source
from kd.errors import ConfigError


@pytest.mark.parametrize("penalties", [[], [0.0], [-1.0, 1.0]])
def test_penalties_are_above_zero(penalties: list[float]) -> None:
    with pytest.raises(ConfigError, match="penalties: expected numbers above 0"):
        Logistic(penalties=penalties)


def test_fewer_rows_than_components_are_enough(source: Source) -> None:
    baseline = Logistic(components=1000, pixels=8)
    baseline.fit(source, ["picture"], torch.arange(20), source.observed, torch.arange(20, 30), judged=[["picture"]])
    logits = baseline.logits(torch.arange(75, 90), source.observed)
    assert torch.allclose(logits.exp().sum(dim=1), torch.ones(15), atol=1e-5)


def test_the_penalty_is_the_one_with_the_best_mean_over_what_is_judged() -> None:
    """A strong penalty calls every row a 0 here, so the judged rows decide which penalty wins."""
    table, label = np.array([[0.0]] * 6 + [[1.0]] * 3), np.array([0] * 6 + [1] * 3)
    weak = [(np.array([[1.0]]), np.array([1]))]
    strong = [(np.array([[1.0]]), np.array([0]))]
    assert regression(table, label, weak, [0.01, 100.0]).C == 100.0
    assert regression(table, label, strong, [0.01, 100.0]).C == 0.01
    assert regression(table, label, [*weak, *strong], [100.0, 0.01]).C == 0.01, "of equals the smallest"


def test_a_path_of_penalties_ends_where_a_fit_of_its_own_does() -> None:
    random = np.random.default_rng(0)
    table, label = random.standard_normal((200, 5)), random.integers(3, size=200)
    table[:, 0] += label
    chosen = regression(table, label, [(table, label)], [0.01, 0.1, 1.0])
    alone = LogisticRegression(C=chosen.C, tol=1e-8, max_iter=5000).fit(table, label)
    assert np.allclose(chosen.predict_proba(table), alone.predict_proba(table), atol=2e-3)


def test_without_gaps_to_tell_apart_copies_change_the_fit_by_rounding_only() -> None:
    """One modality cannot be dropped: its copies are the rows again, and C means the same."""
    random = np.random.default_rng(0)
    table, label = random.normal(size=(40, 2)), np.arange(40) % 2
    rows = Examples([table], label, label, np.arange(40), np.ones((40, 1), dtype=bool))
    shown = rows.with_copies(3, 0.5)
    copied = regression(shown.flagged(), shown.target, [], [1.0], times=4)
    assert np.allclose(copied.coef_, LogisticRegression(C=1.0).fit(rows.flagged(), label).coef_, atol=1e-3)


def test_copies_hide_modalities_and_leave_one_in_every_row(fitted: Callable) -> None:
    present = np.array([[True, True, False]] * 500 + [[False, True, False]] * 500)
    rows = Examples([np.zeros((1000, 1))] * 3, *[np.arange(1000)] * 3, present)
    copies = rows.with_copies(1, 0.5).present[1000:]
    assert not (copies & ~present).any()
    assert copies.any(axis=1).all()
    # Both stay in a quarter of the rows that have two; otherwise either one does, in equal parts.
    assert np.allclose(copies[:500, :2].mean(axis=0), 0.625, atol=0.07)
