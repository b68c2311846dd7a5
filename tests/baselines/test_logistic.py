"""The scikit-learn baseline: what it reads, what it is fitted on, and what it does without a modality."""

from __future__ import annotations

import pytest
import torch

from kd.baselines import BASELINES
from kd.baselines.logistic import Logistic
from kd.data.columns import Texts
from kd.data.source import Source
from kd.errors import ConfigError

NAMES = ["red apple", "green pear", "blue sky"]


def mixed(rows: int = 90) -> Source:
    """Three classes that words tell alone, a vector tells alone, and a picture tells by its brightness."""
    label = torch.arange(rows) % 3
    generator = torch.Generator().manual_seed(0)
    pictures = (label * 80).view(-1, 1, 1, 1) + torch.randint(0, 20, (rows, 3, 8, 8), generator=generator)
    inputs = {
        "words": Texts([NAMES[k] for k in label.tolist()]),
        "vector": torch.nn.functional.one_hot(label, 3).float() + 0.1 * torch.randn(rows, 3, generator=generator),
        "picture": pictures.to(torch.uint8),
    }
    return Source("mixed", inputs, label, 3)


def fitted(source: Source, sees: list[str], available: torch.Tensor | None = None) -> Logistic:
    train, validation = torch.arange(60), torch.arange(60, 75)
    shown = source.observed if available is None else available
    rows = dict.fromkeys(source.modalities, train)
    baseline: Logistic = BASELINES.build({"name": "logistic", "components": 3, "pixels": 8})
    return baseline.fit(source.prepare(rows), sees, train, shown, validation)


@pytest.mark.parametrize("sees", [["words"], ["vector"], ["picture"], ["words", "vector", "picture"]])
def test_each_kind_of_modality_is_read(sees: list[str]) -> None:
    source = mixed()
    test = torch.arange(75, 90)
    logits = fitted(source, sees).logits(test, source.observed)
    assert (logits.argmax(dim=1) == source.label[test]).all()
    assert torch.allclose(logits.exp().sum(dim=1), torch.ones(15), atol=1e-5)


def test_fewer_rows_than_components_are_enough() -> None:
    source = mixed()
    baseline = Logistic(components=1000, pixels=8).fit(
        source, ["picture"], torch.arange(20), source.observed, torch.arange(20, 30)
    )
    logits = baseline.logits(torch.arange(75, 90), source.observed)
    assert torch.allclose(logits.exp().sum(dim=1), torch.ones(15), atol=1e-5)


def test_what_is_hidden_changes_no_answer() -> None:
    source, test = mixed(), torch.arange(75, 90)
    hidden = source.observed.clone()
    hidden[:, 1] = False
    baseline = fitted(source, ["words", "vector"])
    before = baseline.logits(test, hidden)
    baseline.source.inputs["vector"][test] = 1e6
    assert torch.equal(baseline.logits(test, hidden), before)


def test_rows_that_lack_a_modality_teach_nothing_of_it() -> None:
    source = mixed()
    spoilt = mixed()
    spoilt.inputs["vector"][30:60] = 50.0
    available = source.observed.clone()
    available[30:60, 1] = False
    answers = [
        fitted(each, ["words", "vector"], available).logits(torch.arange(75, 90), available)
        for each in (source, spoilt)
    ]
    assert torch.allclose(*answers, atol=1e-5)


def test_a_class_that_training_never_saw_gets_the_least() -> None:
    source = mixed()
    label = source.label.clone()
    label[label == 2] = 1
    short = Source("short", source.inputs, label, 3)
    logits = fitted(short, ["vector"]).logits(torch.arange(75, 90), short.observed)
    assert logits.shape == (15, 3)
    assert (logits[:, 2] < -80).all()


@pytest.mark.parametrize("settings", [{"penalties": []}, {"penalties": [0.0]}, {"words": 0}])
def test_settings_out_of_range_are_refused(settings: dict) -> None:
    with pytest.raises(ConfigError):
        Logistic(**settings)


def test_another_task_is_refused_in_one_line() -> None:
    source = Source("real", {"vector": torch.randn(80, 2)}, torch.randn(80, 1), 1, task="regression")
    with pytest.raises(ConfigError, match="expected a multiclass task"):
        fitted(source, ["vector"])
