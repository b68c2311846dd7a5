"""Intervals and verdicts: coverage on simulated studies, and the late fusion of answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kd.evaluate.predictions import answer, combine
from kd.evaluate.statistics import crossed_difference, fold_difference, mean_interval


@pytest.mark.parametrize("dominant", ["seed", "row", "residual"])
def test_crossed_interval_covers_the_truth(dominant: str) -> None:
    random = np.random.default_rng(0)
    scale = {name: 1.0 if name == dominant else 0.2 for name in ("seed", "row", "residual")}
    covered = 0
    for _ in range(400):
        difference = (
            0.3
            + scale["seed"] * random.standard_normal((5, 1))
            + scale["row"] * random.standard_normal((1, 100))
            + scale["residual"] * random.standard_normal((5, 100))
        )
        found = crossed_difference(difference, margin=0.01)
        covered += found.low <= 0.3 <= found.high
    # 95% of 400 has a standard error of 4.4; conservative is allowed, too narrow is not.
    assert covered >= 400 * 0.95 - 3 * 4.4


def test_no_difference_at_all_is_a_tie() -> None:
    assert crossed_difference(np.zeros((5, 50)), margin=0.01).verdict == "tie"


def test_a_wide_interval_is_inconclusive_and_says_what_could_be_seen() -> None:
    found = crossed_difference(np.random.default_rng(0).standard_normal((5, 50)), margin=0.01)
    assert found.verdict == "inconclusive"
    assert found.detectable == pytest.approx((found.high - found.low) / 2)


def test_one_seed_has_no_interval() -> None:
    mean, low, high = mean_interval(np.array([0.5]))
    assert mean == 0.5
    assert np.isnan(low)
    assert np.isnan(high)


def test_product_multiplies_probabilities_of_those_who_can_answer() -> None:
    one, two = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    members = [{"a": one}, {"b": two}]
    fused = combine(members, "a+b", "product", "multiclass")
    assert fused is not None
    product = one.softmax(-1) * two.softmax(-1)
    assert torch.allclose(fused.softmax(-1), product / product.sum(-1, keepdim=True), atol=1e-6)
    alone = combine(members, "b", "product", "multiclass")
    assert alone is not None
    assert torch.allclose(alone.softmax(-1), two.softmax(-1), atol=1e-6)
    assert combine([{"a": one}], "b", "product", "multiclass") is None


def test_mean_averages_probabilities() -> None:
    one, two = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    fused = combine([{"a": one}, {"b": two}], "a+b", "mean", "multiclass")
    assert fused is not None
    assert torch.allclose(fused.exp(), (one.softmax(-1) + two.softmax(-1)) / 2, atol=1e-6)


def test_a_node_answers_a_subset_with_what_it_sees_of_it() -> None:
    logits = {"a": torch.zeros(1, 2), "b": torch.ones(1, 2), "a+b": torch.full((1, 2), 2.0)}
    found = answer(logits, "b+c")
    assert found is not None
    assert torch.equal(found, torch.ones(1, 2))
    assert answer(logits, "c") is None


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
    means = np.array([0.02, 0.05, 0.01, 0.04])
    widths = [fold_difference(means, overlap, margin=0.01).detectable for overlap in (0.0, 0.25, 0.5)]
    assert widths[0] < widths[1] < widths[2]
