"""Which answer a node gives to a subset."""

from __future__ import annotations

import torch

from kd.evaluate.predictions import answer


def test_a_node_answers_a_subset_with_what_it_sees_of_it() -> None:
    logits = {"a": torch.zeros(1, 2), "b": torch.ones(1, 2), "a+b": torch.full((1, 2), 2.0)}
    found = answer(logits, "b+c")
    assert found is not None
    assert torch.equal(found, torch.ones(1, 2))
    assert answer(logits, "c") is None
