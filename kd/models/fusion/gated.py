"""A softmax gate over the modalities present."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from kd.models.fusion.base import Fusion, masked_softmax


class Gated(Fusion):
    """`sum_m softmax(w . h)_m h_m` over the modalities present (a softmax form of GMU, 1702.01992).

    Args:
        modalities: M.
        width: D.
    """

    def __init__(self, modalities: int, width: int, /) -> None:
        super().__init__()
        self.width = width
        self.score = nn.Linear(width, 1)

    def forward(self, tokens: Mapping[str, Tensor], keep: Mapping[str, Tensor], present: Tensor) -> Tensor:
        parts = self.parts(tokens, keep)
        weight = masked_softmax(self.score(parts.tanh()).squeeze(-1), present)
        return (parts * weight.unsqueeze(-1)).sum(dim=1)
