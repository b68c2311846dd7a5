"""Shapley values against their definition over permutations, and against the truth of a known law."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from scipy import stats

from kd.data import load_source
from kd.data.source import Source
from kd.distill.view import subsets
from kd.evaluate.predictions import SEPARATOR, all_subsets
from kd.evaluate.shapley import EMPTY, MASKED, RETRAINED, crossed_interval, exact_weights, fold_interval, shapley

NAMES = ["a", "b", "c", "d"]


def game(names: list[str], rows: int, seed: int = 0) -> tuple[list[str], np.ndarray]:
    coalitions = [EMPTY, *all_subsets(names)]
    return coalitions, np.random.default_rng(seed).random((len(coalitions), rows))


def test_values_are_the_mean_marginal_contribution_over_all_orderings() -> None:
    coalitions, worth = game(NAMES, 3)
    place = {frozenset(filter(None, coalition.split(SEPARATOR))): i for i, coalition in enumerate(coalitions)}
    expected = np.zeros((4, 3))
    for order in permutations(NAMES):
        for size, name in enumerate(order):
            gain = worth[place[frozenset(order[: size + 1])]] - worth[place[frozenset(order[:size])]]
            expected[NAMES.index(name)] += gain / 24
    np.testing.assert_allclose(shapley(worth, coalitions, NAMES).rows, expected, atol=1e-12)


@pytest.mark.parametrize("count", [1, 4, 8, 10])
def test_values_add_up_to_what_all_modalities_are_worth(count: int) -> None:
    names = [f"m{place}" for place in range(count)]
    coalitions, worth = game(names, 5)
    found = shapley(worth, coalitions, names).rows.sum(axis=0)
    np.testing.assert_allclose(found, worth[coalitions.index(SEPARATOR.join(names))] - worth[0], atol=1e-12)


def test_a_modality_that_changes_nothing_is_worth_nothing() -> None:
    coalitions, _ = game(NAMES, 1)
    worth = np.array([[("a" in c) * 0.5 + ("b" in c and "c" in c) * 0.2] for c in coalitions])
    np.testing.assert_allclose(shapley(worth, coalitions, NAMES).values, [0.5, 0.1, 0.1, 0.0], atol=1e-12)


def test_sampled_orderings_are_near_the_exact_values_by_their_stated_error() -> None:
    names = [f"m{place}" for place in range(9)]
    everything = [frozenset(name for bit, name in enumerate(names) if code >> bit & 1) for code in range(512)]
    skill = np.random.default_rng(3).normal(size=9)
    worth = {own: np.tanh(sum(skill[names.index(name)] for name in own)) for own in everything}
    whole = [SEPARATOR.join(sorted(own)) for own in everything]
    exact = exact_weights(whole, names) @ np.array([worth[own] for own in everything])
    sampled = [EMPTY, *all_subsets(names)]
    found = shapley(np.array([[worth[frozenset(filter(None, c.split(SEPARATOR)))]] for c in sampled]), sampled, names)
    # 9 values, each 39 orderings: beyond 3.6 standard errors once in a hundred such tests.
    assert (np.abs(found.values - exact) < 3.6 * found.sampling_error).all()
    assert (found.sampling_error > 0).all()
    assert len(sampled) < 512


def correctness_of_the_bayes_rule(source: Source, inputs: dict[str, torch.Tensor], label: torch.Tensor) -> np.ndarray:
    """Return [8, N], 0 or 1: first of a constant answer, then of the Bayes rule on every subset."""
    found = [label == 0]
    for chosen in subsets(source.modalities):
        posterior = source.ceiling.posterior({name: inputs[name] for name in chosen})
        found.append(posterior.argmax(dim=1) == label)
    return torch.stack(found).double().numpy()


def test_values_of_the_bayes_rule_cover_its_true_values() -> None:
    covered = []
    for seed in range(8):
        source = load_source("synthetic", rows=400, classes=3, seed=seed)
        coalitions = [EMPTY, *all_subsets(source.modalities)]
        label = torch.arange(120_000) % 3
        drawn = source.ceiling.sample(label, torch.Generator().manual_seed(1000 + seed))
        worth = correctness_of_the_bayes_rule(source, drawn, label)
        truth = shapley(worth, coalitions, source.modalities).values
        worth = correctness_of_the_bayes_rule(source, source.inputs, source.label)
        found = shapley(worth, coalitions, source.modalities)
        ends = [crossed_interval(rows[None])[1:] for rows in found.rows]
        covered += [low < true < high for (low, high), true in zip(ends, truth, strict=True)]
    # Of 24 intervals at 95%, fewer than 20 would cover once in two hundred such tests.
    assert sum(covered) >= 20


def test_an_interval_without_rows_is_students_over_seeds() -> None:
    values = np.array([0.1, 0.3, 0.2, 0.25, 0.15])
    low, high = stats.t.interval(0.95, 4, loc=values.mean(), scale=stats.sem(values))
    np.testing.assert_allclose(crossed_interval(values[:, None]), (values.mean(), low, high))


def test_sampled_orderings_widen_an_interval() -> None:
    values = np.random.default_rng(0).random((5, 40))
    mean, low, high = crossed_interval(values)
    wider = crossed_interval(values, 0.1)
    assert wider == pytest.approx((mean, mean - np.hypot(mean - low, 0.196), mean + np.hypot(high - mean, 0.196)))
    assert fold_interval(values[:, 0], 0.5, 0.1)[2] > fold_interval(values[:, 0], 0.5)[2]


def test_a_result_says_which_game_was_played() -> None:
    coalitions, worth = game(NAMES, 1)
    assert shapley(worth, coalitions, NAMES).game == MASKED
    assert shapley(worth, coalitions, NAMES, game=RETRAINED).game == "retrained per subset"
