"""The Bayes rule as a bound: who is named as above it, and how often; what a mask leaves each row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from statsmodels.stats.contingency_tables import mcnemar

from kd.errors import MaskError
from kd.evaluate.bound import COLUMNS, against_bayes, exceeds
from kd.evaluate.predictions import under

CELLS, ROWS = 20, 300


def pair(method_only: int, rule_only: int, both: int = 50) -> tuple[torch.Tensor, torch.Tensor]:
    method = [True] * method_only + [False] * rule_only + [True] * both
    rule = [False] * method_only + [True] * rule_only + [True] * both
    return torch.tensor(method), torch.tensor(rule)


@pytest.mark.parametrize(("method_only", "rule_only"), [(0, 0), (5, 0), (3, 3), (20, 9), (2, 40)])
def test_p_is_one_sided_exact_mcnemar(method_only, rule_only) -> None:
    found = exceeds(*pair(method_only, rule_only))
    total = method_only + rule_only
    expected = binomtest(method_only, total, 0.5, alternative="greater").pvalue if total else 1.0
    assert found == pytest.approx(expected)
    # statsmodels' two-sided test is the same one doubled, up to 1.
    doubled = mcnemar([[50, method_only], [rule_only, 0]], exact=True).pvalue if total else 1.0
    assert method_only <= rule_only or 2 * found == pytest.approx(doubled)


def test_seeds_that_share_rows_count_once_each() -> None:
    method, rule = pair(20, 9)
    apart = exceeds(method, rule)
    assert exceeds(torch.stack([method] * 4), rule) == pytest.approx(4 * apart)
    assert exceeds(torch.stack([method, *[rule] * 9]), rule) == pytest.approx(10 * apart)


def study(random: np.random.Generator, lift: float = 0.0) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return cells in which rule and method are each right with a chance of .7, where they differ; plus `lift`."""
    cells = {}
    for number in range(CELLS):
        differ = random.random(ROWS) < 0.3
        chance = random.random(ROWS)
        rule = chance < 0.7
        method = np.where(differ, random.random(ROWS) < 0.7 + lift * (number == 0), rule)
        cells[f"cell {number}"] = (torch.from_numpy(method), torch.from_numpy(rule))
    return cells


def test_where_methods_are_just_as_good_a_study_names_somebody_in_at_most_one_of_twenty() -> None:
    # 200 studies of 20 cells at the edge of the hypothesis; 5% of 200 has a standard error of 3.1. Somebody is named
    # where the least p is below 1/20 of 5%, Holm's first step.
    random = np.random.default_rng(0)
    least = np.array([min(exceeds(*own) for own in study(random).values()) for _ in range(200)])
    assert (least <= 0.05 / CELLS).sum() <= 200 * 0.05 + 3 * 3.1
    assert (least <= 0.05).sum() > 40
    assert against_bayes(study(np.random.default_rng(0)))["above"].any() == (least[0] <= 0.05 / CELLS)


def test_one_cell_above_the_rule_is_named_and_no_other() -> None:
    found = against_bayes(study(np.random.default_rng(0), lift=0.3))
    assert list(found.index[found["above"]]) == ["cell 0"]
    assert tuple(found.columns) == COLUMNS
    assert (found["adjusted"] >= found["p"]).all()
    assert found.loc["cell 0", "difference"] > 0


def test_far_below_the_rule_is_never_named() -> None:
    assert not against_bayes({"below": pair(10, 200)})["above"].any()
    assert not len(against_bayes({}))


def test_each_row_is_answered_from_what_its_mask_leaves() -> None:
    logits = {subset: torch.full((4, 2), float(n)) for n, subset in enumerate(["a", "c", "a+c"])}
    shown = torch.tensor([[1, 1, 1], [1, 1, 0], [0, 0, 1], [0, 1, 0]], dtype=torch.bool)
    found = under(logits, shown, ["a", "b", "c"], prior=torch.tensor([7.0, 8.0]))
    assert found.tolist() == [[2, 2], [0, 0], [1, 1], [7, 8]]


def test_a_pattern_without_an_answer_is_refused_rather_than_given_the_prior() -> None:
    logits = {"a": torch.zeros(1, 2), "c": torch.zeros(1, 2)}
    with pytest.raises(MaskError, match=r"rows with a\+c, on which nothing was predicted"):
        under(logits, torch.ones(1, 3, dtype=torch.bool), ["a", "b", "c"], prior=torch.zeros(2))
