"""Late fusion of answers, and which answer a node gives to a subset."""

from __future__ import annotations

import torch

from kd.evaluate.predictions import answer, combine


def test_product_multiplies_probabilities_of_those_who_can_answer() -> None:
    one, two = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    members = [{"a": one}, {"b": two}]
    fused = combine(members, "a+b", "product", "multiclass")
    assert fused is not None
    product = one.softmax(-1) * two.softmax(-1)
    assert torch.allclose(fused.softmax(-1), product / product.sum(-1, keepdim=True), atol=1e-6)
    alone = combine(members, "b", "product", "multiclass")
    assert alone is not None
    assert torch.allclose(alone.softmax(-1), two.softmax(-1), atol=1e-6)
    assert combine([{"a": one}], "b", "product", "multiclass") is None


def test_mean_averages_probabilities() -> None:
    one, two = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    fused = combine([{"a": one}, {"b": two}], "a+b", "mean", "multiclass")
    assert fused is not None
    assert torch.allclose(fused.exp(), (one.softmax(-1) + two.softmax(-1)) / 2, atol=1e-6)


def test_a_node_answers_a_subset_with_what_it_sees_of_it() -> None:
    logits = {"a": torch.zeros(1, 2), "b": torch.ones(1, 2), "a+b": torch.full((1, 2), 2.0)}
    found = answer(logits, "b+c")
    assert found is not None
    assert torch.equal(found, torch.ones(1, 2))
    assert answer(logits, "c") is None
