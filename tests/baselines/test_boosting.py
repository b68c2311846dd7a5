"""Gradient boosting: native missing values, and a number of trees that validation rows choose."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier

from kd.baselines.boosting import Boosting
from kd.data.source import Source
from kd.errors import ConfigError

ROWS = torch.arange(400)


def patchy() -> Source:
    """Return two vectors with single missing values; the label is which of both sums is larger."""
    generator = torch.Generator().manual_seed(0)
    one, two = torch.randn(2, 600, 3, generator=generator)
    label = (one.sum(dim=1) > two.sum(dim=1)).long()
    one[torch.rand(600, 3, generator=generator) < 0.3] = float("nan")
    return Source("patchy", {"one": one, "two": two}, label, 2)


def test_it_is_scikit_learns_trees_on_raw_values_with_nan_where_absent() -> None:
    source, validation, test = patchy(), torch.arange(400, 500), torch.arange(500, 600)
    available = source.observed.clone()
    available[:200, 1] = False
    baseline = Boosting(leaves=[4], iterations=20, rate=0.1, bins=31, copies=0)
    baseline.fit(source, ["one", "two"], ROWS, available, validation, judged=[["one", "two"]])
    table = torch.cat([source.inputs["one"], source.inputs["two"]], dim=1).double().numpy()
    table[:200, 3:] = np.nan
    label = source.label.numpy()
    accuracies = []
    for trees in range(1, 21):
        own = HistGradientBoostingClassifier(max_iter=trees, max_leaf_nodes=4, max_bins=31, early_stopping=False)
        own.fit(table[:400], label[:400])
        accuracies.append(own.score(table[400:500], label[400:500]))
    assert baseline.trees == int(np.argmax(accuracies)) + 1
    own = HistGradientBoostingClassifier(
        max_iter=baseline.trees, max_leaf_nodes=4, max_bins=31, early_stopping=False
    ).fit(table[:400], label[:400])
    found = baseline.logits(test, source.observed).exp().numpy()
    assert np.allclose(found, own.predict_proba(table[500:600]), atol=1e-6)


def test_a_feature_without_any_training_value_is_left_out() -> None:
    source = patchy()
    one = source.inputs["one"].clone()
    one[:400, 0] = float("nan")
    empty = Source("empty", {"one": one, "two": source.inputs["two"]}, source.label, 2)
    baseline = Boosting(iterations=5).fit(
        empty, ["one", "two"], ROWS, empty.observed, ROWS[:50] + 400, judged=[["one"]]
    )
    before = baseline.logits(torch.arange(500, 600), empty.observed)
    one[500:, 0] = 3.0
    assert torch.equal(baseline.logits(torch.arange(500, 600), empty.observed), before)


@pytest.mark.parametrize("settings", [{"leaves": []}, {"leaves": [1]}, {"iterations": 0}, {"rate": 0.0}, {"bins": 1}])
def test_settings_out_of_range_are_refused(settings: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        Boosting(**settings)
