"""Stacked generalisation: what the fusing classifier learns from was never in the fit that answered."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kd.baselines.stacked import Stacked, _folds
from kd.data.source import Source
from kd.errors import ConfigError


def test_groups_stay_whole_and_every_row_is_answered_for_once() -> None:
    label, group = np.arange(60) % 3, np.arange(60) // 4
    folds = _folds(label, group, 5)
    assert sorted(np.concatenate([left for _, left in folds]).tolist()) == list(range(60))
    assert all(not set(group[kept]) & set(group[left]) for kept, left in folds)


def test_rare_classes_and_few_groups_lessen_the_folds() -> None:
    assert len(_folds(np.array([0, 0, 1, 1, 1]), np.arange(5), 5)) == 3
    assert len(_folds(np.arange(12) % 2, np.arange(12) // 6, 5)) == 2
    assert _folds(np.arange(4), np.arange(4), 5) == []


def test_a_modality_that_only_remembers_gets_no_say() -> None:
    """Noise in 60 dimensions fits 60 training rows perfectly, and says nothing of others (Wolpert's reason)."""
    generator, label = torch.Generator().manual_seed(0), torch.arange(400) % 2
    signal = (2 * label - 1).float().view(-1, 1) + torch.randn(400, 1, generator=generator)
    source = Source("noise", {"noise": torch.randn(400, 60, generator=generator), "signal": signal}, label, 2)
    train, validation, test = torch.arange(60), torch.arange(60, 100), torch.arange(100, 400)
    baseline = Stacked(copies=0).fit(
        source, ["noise", "signal"], train, source.observed, validation, judged=[["noise", "signal"]]
    )
    assert baseline.single[0].score(source.inputs["noise"][train].numpy(), label[train].numpy()) == 1.0
    logits = baseline.logits(test, source.observed)
    accuracy = float((logits.argmax(dim=1) == label[test]).float().mean())
    best = float(((signal[test, 0] > 0).long() == label[test]).float().mean())
    assert accuracy > best - 0.03


def test_fewer_than_two_folds_are_refused() -> None:
    with pytest.raises(ConfigError, match="folds: expected at least 2, got 1"):
        Stacked(folds=1)
