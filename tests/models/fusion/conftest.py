"""Representations as a fusion gets them."""

from __future__ import annotations

import torch
from torch import Tensor

WIDTH = 8
NAMES = ("a", "b", "c")
PRESENT = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]]).bool()


def represented(
    present: Tensor = PRESENT, width: int = WIDTH, seed: int = 0
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return tokens [B, 1, D] and keep [B, 1] by modality, in float64, zeros where absent."""
    drawn = torch.randn(*present.shape, 1, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    tokens = torch.where(present[..., None, None], drawn, 0.0)
    names = NAMES[: present.shape[1]]
    return dict(zip(names, tokens.unbind(1), strict=True)), dict(
        zip(names, present.unsqueeze(-1).unbind(1), strict=True)
    )
