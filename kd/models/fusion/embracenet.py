"""EmbraceNet: every feature comes from one modality, drawn among those present."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kd.models.fusion.base import Fusion, masked_mean
from kd.models.noise import Uniform


class EmbraceNet(Fusion):
    """One modality per feature, drawn uniformly from those present (Choi & Lee 2019, 1904.09078).

    `d_m = relu(W_m h_m + b_m)` (docking), then feature i of the result is `d_{m(i)}[i]`, m(i) drawn for every row and
    feature from the multinomial with probability 1/|K| on each modality present; 0 where nothing is.

    In eval mode it returns the expectation, the mean of the d_m present, so that an answer is a function of its input;
    the released code samples there too. The probabilities of selection are equal, that code's default; others are
    not offered, and `drop` takes the place of the paper's modality dropout. M (D^2 + D) parameters; time O(M D^2).

    Args:
        modalities: M.
        width: D.
    """

    def __init__(self, modalities: int, width: int, /) -> None:
        super().__init__()
        self.width = width
        self.docking = nn.ModuleList(nn.Linear(width, width) for _ in range(modalities))
        self.noise = Uniform()

    def forward(self, tokens: Mapping[str, Tensor], keep: Mapping[str, Tensor], present: Tensor) -> Tensor:
        parts = self.parts(tokens, keep).unbind(dim=1)
        docked = torch.stack([dock(part).relu() for dock, part in zip(self.docking, parts, strict=True)], dim=1)
        if not self.training:
            return masked_mean(docked, present)
        return (docked * _drawn(self.noise(docked[:, 0]), present)).sum(dim=1)


def _drawn(noise: Tensor, present: Tensor) -> Tensor:
    """Return bool [B, M, D]: for every feature, True at one of the modalities present.

    Args:
        noise: [B, D], uniform in [0, 1).
        present: bool [B, M].
    """
    rank = present.long().cumsum(dim=1) - 1  # [B, M], the place of a modality among those present
    chosen = (noise * present.sum(dim=1, keepdim=True)).long()  # [B, D]
    return (rank.unsqueeze(-1) == chosen.unsqueeze(1)) & present.unsqueeze(-1)
