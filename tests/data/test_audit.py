"""The leak audit: what it refuses, and what it finds in the data."""

import pytest
import torch

from kd.data.audit import Audit
from kd.data.source import Source
from kd.data.splits import Split
from kd.errors import LeakError


def test_object_that_saw_test_rows_is_named_with_how_many_and_which():
    audit = Audit()
    audit.saw("teacher fou", torch.tensor([1, 2]))
    audit.saw("scaler", [3, 9, 8])
    audit.check(test_ids=[5])
    with pytest.raises(LeakError, match=r"scaler: saw 2 test rows, the first \[8, 9\]"):
        audit.check(test_ids=torch.tensor([9, 8, 7]))


def test_locked_rows_are_refused_too():
    audit = Audit()
    audit.saw("student", [4])
    with pytest.raises(LeakError, match="1 locked rows"):
        audit.check(test_ids=[0], locked_ids=[4])


def test_what_is_seen_adds_up_and_its_hash_ignores_order():
    audit, other = Audit(), Audit()
    audit.saw("scaler", [2])
    audit.saw("scaler", [1])
    other.saw("scaler", torch.tensor([1, 2]))
    assert audit.evidence() == other.evidence()


def source(x, label, **fields):
    return Source(name="rows", inputs={"a": x}, label=label, classes=3, **fields)


LABEL = torch.tensor([0, 1, 2, 0, 1, 2])


def test_column_that_renames_the_classes_is_found():
    x = torch.stack([torch.arange(6.0), torch.tensor([7.0, -1, 3])[LABEL], torch.tensor([7.0, 7, 3])[LABEL]], dim=1)
    assert label_columns(source(x, LABEL)) == ["a[1]"]


def test_column_that_gives_the_label_away_on_its_observed_rows_is_found():
    x = LABEL.float()[:, None].clone()
    x[0] = float("nan")
    observed = torch.tensor([[False]] + [[True]] * 5)
    assert label_columns(source(x, LABEL, observed=observed)) == ["a[0]"]
    x[1] = 5.0
    assert label_columns(source(x, LABEL, observed=observed)) == []


def test_affine_copy_of_a_regression_target_is_found():
    target = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    x = torch.stack([target[:, 1] * 2, target[:, 0] + 0.1 * target[:, 1], torch.ones(20)], dim=1)
    assert label_columns(source(x, target, task="regression")) == ["a[0]"]


def test_copies_across_parts_are_found_and_within_a_part_are_not():
    x = torch.tensor([[1.0], [1.0], [2.0], [3.0], [1.0], [2.0]])
    parts = Split(torch.tensor([0, 1, 2]), torch.tensor([3]), torch.tensor([4, 5]))
    assert duplicate_rows(source(x, LABEL), parts) == [(0, 4), (2, 5)]


def test_what_is_not_observed_makes_no_copy():
    x = torch.zeros(6, 1)
    parts = Split(torch.tensor([0, 1, 2]), torch.tensor([3]), torch.tensor([4, 5]))
    assert duplicate_rows(source(x, LABEL, observed=torch.zeros(6, 1, dtype=torch.bool)), parts) == []
