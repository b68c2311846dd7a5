"""Representations side by side."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kd.models.fusion.base import Fusion, pool_zeroed


class Concat(Fusion):
    """Pooled representations side by side (KDD 2020's student).

    Args:
        modalities: M.
        width: D of one modality; the result has M * D.
    """

    def __init__(self, modalities: int, width: int, /) -> None:
        super().__init__()
        self.width = modalities * width

    def forward(self, tokens: Mapping[str, Tensor], keep: Mapping[str, Tensor], present: Tensor) -> Tensor:
        return torch.cat([pool_zeroed(tokens[name], keep[name]) for name in tokens], dim=-1)
