"""EmbraceNet: every feature is one modality's, drawn evenly; eval mode is the expectation."""

from __future__ import annotations

import torch
from torch import Tensor

from kd.models.fusion.embracenet import EmbraceNet

from .conftest import represented

ROWS, WIDE = 2_000, 10


def docked(fusion: EmbraceNet, tokens: dict[str, Tensor]) -> Tensor:
    return torch.stack(
        [layer(x.squeeze(1)).relu() for layer, x in zip(fusion.docking, tokens.values(), strict=True)], dim=1
    )


def test_every_feature_is_one_modality_present_drawn_with_equal_probability() -> None:
    torch.manual_seed(0)
    fusion = EmbraceNet(3, WIDE).double().train()
    for layer in fusion.docking:
        torch.nn.init.constant_(layer.bias, 3.0)  # no feature of two modalities is 0, and so the same
    present = torch.tensor([True, False, True]).expand(ROWS, 3)
    tokens, keep = represented(present, WIDE)
    found, each = fusion(tokens, keep, present), docked(fusion, tokens)
    chosen = found.unsqueeze(1) == each  # [B, M, D]
    assert (chosen.sum(dim=1) == 1).all()
    assert not chosen[:, 1].any()
    # 20,000 draws of a half: five standard errors.
    assert abs(float(chosen[:, 0].double().mean()) - 0.5) < 5 * 0.5 / (ROWS * WIDE) ** 0.5


def test_eval_mode_gives_the_expectation_of_training_mode() -> None:
    torch.manual_seed(0)
    fusion = EmbraceNet(3, WIDE).double()
    present = torch.ones(1, 3, dtype=torch.bool)
    tokens, keep = represented(present, WIDE)
    many = [{name: value.expand(20_000, *value.shape[1:]) for name, value in each.items()} for each in (tokens, keep)]
    drawn = fusion.train()(many[0], many[1], present.expand(20_000, 3))
    expected = fusion.eval()(tokens, keep, present)[0]
    error = drawn.std(dim=0) / 20_000**0.5
    assert ((drawn.mean(dim=0) - expected).abs() <= 5 * error + 1e-12).all()


def test_one_modality_passes_its_docking_in_either_mode() -> None:
    fusion = EmbraceNet(3, WIDE).double()
    present = torch.tensor([[False, True, False]])
    tokens, keep = represented(present, WIDE)
    expected = docked(fusion, tokens)[:, 1]
    assert torch.equal(fusion.train()(tokens, keep, present), expected)
    assert torch.equal(fusion.eval()(tokens, keep, present), expected)
