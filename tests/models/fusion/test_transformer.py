"""The transformer's layer is torch's own; prompts are of the row's pattern."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from kd.errors import ConfigError
from kd.models.fusion.prompts import Prompts
from kd.models.fusion.transformer import Layer, Transformer

from .conftest import PRESENT, WIDTH, represented


@torch.no_grad()
def test_layer_is_that_of_torch() -> None:
    torch.manual_seed(0)
    ours = Layer(WIDTH, 2, 12, 0.0).double()
    theirs = nn.TransformerEncoderLayer(
        WIDTH, 2, 12, dropout=0.0, activation="gelu", batch_first=True, norm_first=True, dtype=torch.float64
    )
    attention = theirs.self_attn
    attention.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
    attention.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
    for own, other in (
        (attention.out_proj, ours.out),
        (theirs.norm1, ours.norm),
        (theirs.norm2, ours.feed[0]),
        (theirs.linear1, ours.feed[1]),
        (theirs.linear2, ours.feed[3]),
    ):
        own.load_state_dict(other.state_dict())
    x = torch.randn(3, 5, WIDTH, dtype=torch.float64)
    keep = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 1, 0, 1], [1, 0, 0, 0, 0]]).bool()
    expected = theirs(x, src_key_padding_mask=~keep)
    torch.testing.assert_close(ours(x, keep)[keep], expected[keep], rtol=0, atol=1e-12)


def test_the_learnt_token_tells_modalities_apart() -> None:
    fusion = Transformer(2, WIDTH).double().eval()
    nn.init.normal_(fusion.embedding.weight)
    present = torch.ones(1, 2, dtype=torch.bool)
    tokens, keep = represented(present)
    swapped = {"a": tokens["b"], "b": tokens["a"]}
    assert not torch.allclose(fusion(tokens, keep, present), fusion(swapped, keep, present))


def test_prompts_learn_from_the_rows_of_their_pattern_alone() -> None:
    fusion = Prompts(3, WIDTH, length=2, depth=2, layers=2, dropout=0.0).double()
    tokens, keep = represented()
    weight = torch.randn(2, WIDTH).double()  # a plain sum of what a norm gives is constant
    (fusion(tokens, keep, PRESENT)[:2] * weight).sum().backward()  # rows with patterns a + b + c and a + c
    learnt = fusion.prompts.weight.grad.view(8, 4, WIDTH).abs().sum(dim=-1) > 0
    assert learnt.all(dim=1).nonzero().flatten().tolist() == [0b101, 0b111]
    assert int(learnt.any(dim=1).sum()) == 2


def test_the_same_token_under_another_pattern_is_read_otherwise() -> None:
    fusion = Prompts(3, WIDTH).double().eval()
    tokens, keep = represented()
    other = PRESENT.clone()
    other[2] = torch.tensor([True, True, False])  # the pattern alone: nothing of modality a is kept
    assert not torch.allclose(fusion(tokens, keep, PRESENT)[2], fusion(tokens, keep, other)[2])


@pytest.mark.parametrize(
    ("made", "arguments", "message"),
    [
        (Transformer, {"heads": 3}, r"fusion\.heads: expected a divisor of width 8, got 3"),
        (Transformer, {"layers": 0}, r"fusion\.layers: expected at least 1, got 0"),
        (Transformer, {"hidden": 0}, r"fusion\.hidden: expected at least 1, got 0"),
        (Transformer, {"dropout": 1.0}, r"fusion\.dropout: expected a probability in \[0, 1\), got 1.0"),
        (Prompts, {"length": 0}, r"fusion\.length: expected at least 1, got 0"),
        (Prompts, {"depth": 3}, r"fusion\.depth: expected 1 to 2, the layers, got 3"),
    ],
)
def test_argument_out_of_range_is_refused(made: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(3, WIDTH, **arguments)


def test_more_patterns_than_can_be_learnt_are_refused() -> None:
    Prompts(8, WIDTH)
    with pytest.raises(ConfigError, match=r"fusion\.name: expected at most 8 modalities for prompts.*, got 9"):
        Prompts(9, WIDTH)
