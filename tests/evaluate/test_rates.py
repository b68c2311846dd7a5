"""Rate curves: the mixture over subsets against masks that were drawn, weighted metrics against repeated answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from kd.data.mechanisms.at_random import mcar
from kd.data.source import Source
from kd.data.splits import Split
from kd.evaluate.predictions import all_subsets
from kd.evaluate.rates import (
    area,
    independent,
    mean_at,
    one_stays,
    patterns,
    rate_points,
    retained,
    row_weights,
    weighted_at,
)
from kd.tasks import make_task

ROWS = 40_000


def source_of(observed: torch.Tensor) -> tuple[Source, Split]:
    rows, names = len(observed), ["a", "b", "c"]
    inputs = {name: torch.zeros(rows, 1) for name in names}
    source = Source("even", inputs, torch.zeros(rows, dtype=torch.int64), 2, observed=observed)
    none = torch.empty(0, dtype=torch.int64)
    return source, Split(torch.arange(rows), none, none)


def all_there(rows: int = ROWS) -> torch.Tensor:
    return torch.ones(rows, 3, dtype=torch.bool)


@given(count=st.integers(2, 12), share=st.floats(0, 1))
def test_the_realised_rate_is_the_rate_asked(count: int, share: float) -> None:
    rate = share * (1 - 1 / count)
    chances = one_stays(rate, count)
    assert chances.sum() == pytest.approx(1)
    assert 1 - chances @ np.arange(count + 1) / count == pytest.approx(rate, abs=1e-6)


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.6, 2 / 3])
@pytest.mark.parametrize("gaps", [False, True])
def test_the_mixture_scores_what_masks_drawn_at_this_rate_score(rate: float, gaps: bool) -> None:
    observed = all_there()
    if gaps:  # of nature's own, at least one modality left
        observed[: ROWS // 4, 0] = observed[ROWS // 8 : ROWS // 3, 1] = False
    source, split = source_of(observed)
    keep = mcar(source, split, seed=0, rate=rate) & observed
    every = all_subsets(["a", "b", "c"])
    present = patterns(every, ["a", "b", "c"])
    worth = np.random.default_rng(0).random(8)  # of every pattern, the empty one first
    worth[0] = 100  # which never happens
    code = 2 ** np.arange(3)
    drawn = worth[keep.numpy() @ code]
    shown = present[:, None, :] & observed.numpy()[None]
    scores = worth[np.vstack([np.zeros((1, ROWS), dtype=int), shown @ code])]
    found = mean_at(scores, row_weights(one_stays(rate, 3), present, observed.numpy()))
    assert abs(found - drawn.mean()) < 4.5 * drawn.std() / np.sqrt(ROWS) + 1e-6


def test_where_everything_may_be_hidden_the_prior_answers_rows_that_lose_all() -> None:
    present = patterns(all_subsets(["a", "b", "c"]), ["a", "b", "c"])
    weights = row_weights(independent(0.9, 3), present, all_there(5).numpy())
    np.testing.assert_allclose(weights[0], 0.9**3)
    np.testing.assert_allclose(weights.sum(axis=0), 1)
    gapped = all_there(5)
    gapped[0, 1:] = False
    assert row_weights(independent(0.9, 3), present, gapped.numpy())[0, 0] == pytest.approx(0.9)


def test_a_sample_of_subsets_gives_the_score_that_depends_on_their_number_alone() -> None:
    names = [f"m{place}" for place in range(11)]
    present = patterns(all_subsets(names), names)
    weights = row_weights(one_stays(0.4, 11), present, np.ones((1, 11), dtype=bool))
    scores = np.concatenate([[0], present.sum(axis=1)])[:, None] / 11
    assert mean_at(scores, weights) == pytest.approx(0.6)


@pytest.mark.parametrize("name", ["multiclass", "multilabel", "regression"])
def test_weighted_metrics_are_scikit_learns_on_repeated_answers(name: str) -> None:
    random = np.random.default_rng(0)
    task, times = make_task(name, 3), random.integers(0, 4, (3, 40))
    logits = torch.from_numpy(random.normal(size=(3, 40, 3))).float()
    label = {
        "multiclass": torch.from_numpy(random.integers(0, 3, 40)),
        "multilabel": torch.from_numpy(random.integers(0, 2, (40, 3))).float(),
        "regression": torch.from_numpy(random.normal(size=(40, 3))).float(),
    }[name]
    answers = torch.cat([task.probabilities(logits[k])[i].expand(n, 3) for (k, i), n in np.ndenumerate(times)]).numpy()
    truth = torch.cat([label[i].expand(n, *label.shape[1:]) for (_, i), n in np.ndenumerate(times)]).numpy()
    expected = {
        "multiclass": {
            "macro_f1": lambda: metrics.f1_score(truth, answers.argmax(1), average="macro"),
            "auroc": lambda: metrics.roc_auc_score(truth, answers, multi_class="ovr"),
        },
        "multilabel": {
            "macro_f1": lambda: metrics.f1_score(truth, answers > 0.5, average="macro"),
            "auroc": lambda: metrics.roc_auc_score(truth, answers),
        },
        "regression": {"r2": lambda: metrics.r2_score(truth, answers)},
    }[name]
    for metric, value in expected.items():
        assert weighted_at(metric, task, logits, label, times.astype(float)) == pytest.approx(value(), abs=1e-5)
    assert np.isnan(weighted_at("ece", task, logits, label, times.astype(float)))


def test_macro_f1_with_everything_present_is_that_of_the_task() -> None:
    random = np.random.default_rng(1)
    task, label = make_task("multiclass", 3), torch.from_numpy(random.integers(0, 3, 60))
    logits = torch.from_numpy(random.normal(size=(8, 60, 3))).float()
    present = patterns(all_subsets(["a", "b", "c"]), ["a", "b", "c"])
    weights = row_weights(one_stays(0.0, 3), present, all_there(60).numpy())
    found = weighted_at("macro_f1", task, logits, label, weights)
    assert found == pytest.approx(task.metrics(logits[-1], label)["macro_f1"], abs=1e-6)


def test_curves_end_where_one_modality_is_left() -> None:
    assert rate_points(one_stays, 2) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert rate_points(one_stays, 1) == [0.0]
    assert rate_points(independent, 2)[-1] == 0.9


def test_area_is_the_mean_height_of_the_curve() -> None:
    assert area([0.0, 0.1, 0.5], [0.9, 0.8, 0.4]) == pytest.approx(0.65)
    assert np.isnan(area([0.0], [0.9]))


def test_a_model_no_better_than_chance_has_no_margin_to_retain() -> None:
    assert np.isnan(retained(0.4, clean=0.5, chance=0.5))
    assert retained(1.0, clean=0.5, chance=2.5, lower_is_better=True) == pytest.approx(0.75)
    assert np.isnan(retained(2.6, clean=2.6, chance=2.5, lower_is_better=True))
