"""The ledger of the leak audit: what it refuses."""

import pytest
import torch

from kd.data.leaks.audit import Audit
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
