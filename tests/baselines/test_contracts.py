"""What every baseline of the table promises: what it may not read, and what changes no bit of its answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kd.baselines import BASELINES
from kd.baselines.baseline import Baseline
from kd.data.columns import Texts
from kd.data.source import Source
from kd.distill.view import pattern, subsets
from kd.errors import ConfigError, DataError

TEST = torch.arange(75, 90)
every_baseline = pytest.mark.parametrize("name", list(BASELINES))
Make = Callable[..., Baseline]


def gappy(source: Source) -> Tensor:
    """Return an availability in which each training row lacks a modality in three of four cases."""
    available = source.observed.clone()
    for column in range(3):
        available[column:60:4, column] = False
    return available


def spoilt(source: Source, rows: Tensor) -> Source:
    """Return the source with NaN, nonsense and white pictures in some rows."""
    words = source.inputs["words"]
    assert isinstance(words, Texts)
    values = ["nonsense" if row in rows.tolist() else word for row, word in enumerate(words.values)]
    vector, picture = source.inputs["vector"].clone(), source.inputs["picture"].clone()
    vector[rows], picture[rows] = float("nan"), 255
    return replace(source, inputs={"words": Texts(values), "vector": vector, "picture": picture})


@every_baseline
@pytest.mark.parametrize("sees", [["words"], ["vector"], ["picture"], ["words", "vector", "picture"]])
def test_each_kind_of_modality_is_read(name: str, sees: list[str], source: Source, fitted: Make) -> None:
    logits = fitted(name, source, sees).logits(TEST, source.observed)
    assert (logits.argmax(dim=1) == source.label[TEST]).float().mean() > 0.9


@every_baseline
def test_every_subset_gets_finite_log_probabilities(name: str, source: Source, fitted: Make) -> None:
    baseline = fitted(name, source, available=gappy(source))
    for subset in [*subsets(source.modalities), ()]:
        logits = baseline.logits(TEST, source.observed & pattern(source.modalities, subset))
        assert logits.isfinite().all()
        assert torch.allclose(logits.exp().sum(dim=1), torch.ones(15), atol=1e-5)


@every_baseline
@pytest.mark.parametrize("modality", ["words", "vector", "picture"])
def test_what_is_hidden_at_test_changes_nothing(name: str, modality: str, source: Source, fitted: Make) -> None:
    baseline = fitted(name, source)
    shown = source.observed & ~pattern(source.modalities, [modality])
    before = baseline.logits(TEST, shown)
    garbage = spoilt(source, TEST).inputs[modality]
    baseline.features.source = replace(source, inputs={**source.inputs, modality: garbage})
    assert torch.equal(baseline.logits(TEST, shown), before)


@every_baseline
def test_what_is_hidden_in_training_changes_nothing(name: str, source: Source, fitted: Make) -> None:
    available = gappy(source)
    available[:20] = torch.tensor([True, False, True])
    vector = source.inputs["vector"].clone()
    vector[:20] = float("nan")
    other = replace(source, inputs={**source.inputs, "vector": vector})
    answers = [fitted(name, each, available=available).logits(TEST, source.observed) for each in (source, other)]
    assert torch.equal(*answers)


@every_baseline
def test_test_rows_never_enter_the_fit(name: str, source: Source, fitted: Make) -> None:
    label = source.label.clone()
    label[TEST] = 0
    other = replace(spoilt(source, TEST), label=label)
    seen = torch.arange(75)
    answers = [fitted(name, each, available=gappy(each)).logits(seen, gappy(each)) for each in (source, other)]
    assert torch.equal(*answers)


@every_baseline
def test_a_row_without_a_label_teaches_nothing(name: str, source: Source, fitted: Make) -> None:
    labelled, label = torch.arange(90) >= 15, source.label.clone()
    label[:15] = 0
    one = replace(source, labelled=labelled)
    other = replace(spoilt(source, torch.arange(15)), label=label, labelled=labelled)
    answers = [fitted(name, each).logits(TEST, source.observed) for each in (one, other)]
    assert torch.equal(*answers)


@every_baseline
def test_the_neighbours_of_a_row_change_nothing(name: str, source: Source, fitted: Make) -> None:
    baseline = fitted(name, source)
    others = torch.cat([TEST[:1], torch.arange(14)])
    answers = [baseline.logits(rows, source.observed)[0] for rows in (TEST, others)]
    assert torch.equal(*answers)


@every_baseline
def test_the_order_in_which_modalities_are_named_changes_nothing(name: str, source: Source, fitted: Make) -> None:
    orders = (["vector", "words"], ["words", "vector"])
    one, other = (fitted(name, source, sees, gappy(source)).logits(TEST, source.observed) for sees in orders)
    assert torch.equal(one, other)


@every_baseline
def test_fitting_twice_gives_the_same_bits_whatever_the_threads(
    name: str, source: Source, fitted: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fitted(name, source, available=gappy(source)).logits(TEST, source.observed)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert torch.equal(fitted(name, source, available=gappy(source)).logits(TEST, source.observed), before)


@every_baseline
def test_a_class_that_training_never_saw_gets_the_least(name: str, source: Source, fitted: Make) -> None:
    label = source.label.clone()
    label[label == 2] = 1
    logits = fitted(name, replace(source, label=label)).logits(TEST, source.observed)
    assert logits.shape == (15, 3)
    assert (logits[:, 2] < -80).all()


@every_baseline
def test_a_modality_that_no_training_row_has_is_left_out(name: str, source: Source, fitted: Make) -> None:
    available = source.observed.clone()
    available[:60, 0] = False
    logits = fitted(name, source, available=available).logits(TEST, source.observed)
    assert (logits.argmax(dim=1) == source.label[TEST]).all()


@every_baseline
def test_copies_teach_what_to_do_without_a_modality(name: str, fitted: Make) -> None:
    """Complete rows of a sure and an unsure vector: without copies, nothing is learnt of the unsure one alone."""
    generator, label = torch.Generator().manual_seed(0), torch.arange(600) % 2
    sides = (2 * label - 1).float().view(-1, 1)
    sure, unsure = (sides + s * torch.randn(600, 1, generator=generator) for s in (0.2, 1.0))
    source, rows = Source("two", {"sure": sure, "unsure": unsure}, label, 2), torch.arange(300)
    shown, test = source.observed & torch.tensor([False, True]), torch.arange(360, 600)

    def nll(copies: int) -> float:
        baseline = BASELINES.build({"name": name, "copies": copies})
        baseline.fit(source, ["sure", "unsure"], rows, source.observed, torch.arange(300, 360), judged=[["sure"]])
        return float(torch.nn.functional.nll_loss(baseline.logits(test, shown), label[test]))

    assert nll(4) < nll(0)


@every_baseline
@pytest.mark.parametrize("settings", [{"copies": -1}, {"drop": 1.0}, {"words": 0}, {"components": 0}])
def test_settings_out_of_range_are_refused(name: str, settings: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        BASELINES.build({"name": name, **settings})


@every_baseline
def test_another_task_is_refused_in_one_line(name: str, fitted: Make) -> None:
    source = Source("real", {"vector": torch.randn(80, 2)}, torch.randn(80, 1), 1, task="regression")
    with pytest.raises(ConfigError, match=f"{name}: expected a multiclass task"):
        fitted(name, source)


@every_baseline
def test_a_single_class_is_refused_in_one_line(name: str, source: Source, fitted: Make) -> None:
    with pytest.raises(DataError, match=f"{name}: expected training rows of 2 classes or more"):
        fitted(name, replace(source, label=torch.zeros_like(source.label)))
