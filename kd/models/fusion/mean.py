"""The mean over the modalities present."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from kd.models.fusion.base import Fusion, masked_mean


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
        return masked_mean(self.parts(tokens, keep), present)
