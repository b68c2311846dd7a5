"""The mean over the modalities present."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from kd.models.fusion.base import Fusion


class Mean(Fusion):
    """Mean over the modalities present.

    Args:
        modalities: M.
        width: D.
    """

    def __init__(self, modalities: int, width: int, /) -> None:
        super().__init__()
        self.width = width

    def forward(self, tokens: Mapping[str, Tensor], keep: Mapping[str, Tensor], present: Tensor) -> Tensor:
        weight = present.to(next(iter(tokens.values())).dtype).unsqueeze(-1)
        return (self.parts(tokens, keep) * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
