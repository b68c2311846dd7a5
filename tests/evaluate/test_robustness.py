"""Effective robustness, evenness of modalities, and patterns that training never showed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit, logit

from kd.errors import DataError
from kd.evaluate.equity import evenness
from kd.evaluate.patterns import training_patterns, was_shown
from kd.evaluate.robustness import effective_robustness


def on_a_line(count: int) -> dict[str, tuple[float, float]]:
    clean = np.linspace(0.6, 0.95, count)
    return {f"b{i}": (float(c), float(expit(0.7 * logit(c) - 0.4))) for i, c in enumerate(clean)}


def test_a_model_on_the_line_of_the_baselines_has_no_effective_robustness() -> None:
    found = effective_robustness((0.8, float(expit(0.7 * logit(0.8) - 0.4))), on_a_line(8), rows=10_000)
    assert (found.residual, found.accuracy) == pytest.approx((0, 0), abs=1e-9)
    assert (found.slope, found.intercept, found.r2) == pytest.approx((0.7, -0.4, 1.0))


def test_effective_robustness_is_the_distance_in_logits_from_numpys_line() -> None:
    random = np.random.default_rng(0)
    baselines = {str(i): tuple(random.uniform(0.5, 0.9, 2)) for i in range(9)}
    clean, missing = logit(np.array(list(baselines.values())).T)
    slope, intercept = np.polyfit(clean, missing, 1)
    found = effective_robustness((0.9, 0.7), baselines, rows=1000)
    assert found.residual == pytest.approx(logit(0.7) - slope * logit(0.9) - intercept)
    assert found.baselines == 9


def test_fewer_than_eight_baselines_are_refused_by_their_count() -> None:
    with pytest.raises(DataError, match="at least 8 baselines, got 7"):
        effective_robustness((0.8, 0.7), on_a_line(7), rows=100)
    with pytest.raises(DataError, match="same clean accuracy"):
        effective_robustness((0.8, 0.7), {str(i): (0.9, 0.1 * i) for i in range(8)}, rows=100)


def test_an_accuracy_of_one_gives_a_finite_distance() -> None:
    assert np.isfinite(effective_robustness((1.0, 0.9), on_a_line(8), rows=100).residual)


def test_evenness_runs_from_one_modality_alone_to_all_alike() -> None:
    assert evenness(np.full(5, 0.1)) == pytest.approx(1)
    assert evenness(np.array([0.3, 0.0, 0.0, 0.0])) == pytest.approx(1 / 4)
    assert np.isnan(evenness(np.array([-0.1, 0.0])))
    assert np.isnan(evenness(np.array([0.5])))


def test_a_pattern_is_shown_by_a_row_that_has_just_it_or_by_dropping() -> None:
    available = torch.tensor([[1, 0, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]]).bool()
    patterns = training_patterns(available, ["a", "b", "c"])
    assert patterns == {"b": 1, "a+c": 2}
    sees = ["a", "b", "c"]
    assert was_shown("a+c", patterns, sees, drop=False)
    assert not was_shown("a", patterns, sees, drop=False)
    assert was_shown("a", patterns, sees, drop=True)
    assert not was_shown("a+b", patterns, sees, drop=True)
    assert was_shown("a+b", {"b": 1}, ["b"], drop=False)
