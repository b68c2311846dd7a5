"""Encoders: one modality's input [B, ...] -> tokens [B, T, D] and keep bool [B, T] (T = 1 for vectors).

Source of the MLP: released code of Wang et al., KDD 2020 (Linear-ReLU-Dropout(.5), twice).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from kd.errors import ConfigError


class Standardise(nn.Module):
    """`(x - mean) / deviation` with constants fitted on training rows; users pass raw features.

    Constant columns have deviation 1.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Fit to rows [N, F] that are present; the caller chooses and records them."""
        self.mean.copy_(x.double().mean(dim=0))
        deviation = x.double().std(dim=0, correction=0)
        self.deviation.copy_(torch.where(deviation > 0, deviation, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.deviation


class _VectorEncoder(nn.Module):
    """Flatten, standardise, map to one token of width D."""

    replicable = True

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.features = math.prod(shape)
        self.standardise = Standardise(self.features)
        self.layers = nn.Sequential()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Encode x [B, ...] to one token each: [B, 1, D], all kept."""
        tokens = self.layers(self.standardise(x.flatten(1))).unsqueeze(1)
        return tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=x.device)


class Linear(_VectorEncoder):
    """One linear map.

    Args:
        shape: of one sample.
        width: D.
    """

    def __init__(self, shape: Sequence[int], width: int, /) -> None:
        super().__init__(shape)
        self.layers = nn.Sequential(nn.Linear(self.features, width))


class MLP(_VectorEncoder):
    """The branch of KDD 2020: hidden layers with ReLU and dropout, the last of width D.

    Args:
        shape: of one sample.
        width: D, of the last layer.
        hidden: widths of the layers before it.
        dropout: probability in [0, 1) after every layer.
    """

    def __init__(
        self, shape: Sequence[int], width: int, /, *, hidden: Sequence[int] = (64,), dropout: float = 0.5
    ) -> None:
        super().__init__(shape)
        if not 0 <= dropout < 1:
            raise ConfigError(f"dropout: expected a probability in [0, 1), got {dropout}")
        if min(hidden, default=1) < 1:
            raise ConfigError(f"hidden: expected widths of at least 1, got {list(hidden)}")
        widths = [self.features, *hidden, width]
        layers: list[nn.Module] = []
        for inward, outward in pairwise(widths):
            layers += [nn.Linear(inward, outward), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers)
