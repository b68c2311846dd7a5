"""A small convolutional encoder of pictures: uint8 [B, 3, H, W] -> one token of width D.

Sources: He et al. 2016 (residual blocks, 1512.03385); Wu & He 2018 (group normalisation, 1803.08494).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from kd.models.encoders import Encoder, check_dropout, check_positive, check_widths
from kd.types import Modality

CHANNELS_PER_GROUP = 16


class CNN(Encoder):
    """Residual blocks of 3x3 convolutions with group normalisation, the mean over the picture, a linear map.

    The defaults take 7 million multiply-accumulates for 48 x 48 pixels.

    Args:
        modality: an image.
        width: D.
        channels: of each stage; every stage after the first halves the resolution.
        blocks: residual blocks per stage.
        stride: of the first convolution.
        dropout: probability in [0, 1) before the linear map.
    """

    takes = ("image",)
    costly = True

    def __init__(
        self,
        modality: Modality,
        width: int,
        /,
        *,
        channels: Sequence[int] = (16, 32, 64),
        blocks: int = 1,
        stride: int = 2,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        check_dropout(dropout)
        check_positive(blocks=blocks, stride=stride, channels=len(channels))
        check_widths("channels", channels)
        side = stride + 1 - stride % 2  # odd, so that the picture's middle stays the middle
        first = channels[0]
        stem = nn.Conv2d(modality.shape[0], first, side, stride, side // 2, bias=False)
        layers: list[nn.Module] = [stem, group_norm(first), nn.ReLU()]
        for stage, (inward, outward) in enumerate(pairwise([first, *channels])):
            layers.append(_Residual(inward, outward, stride=1 if stage == 0 else 2))
            layers += [_Residual(outward, outward, stride=1) for _ in range(blocks - 1)]
        self.layers = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(channels[-1], width)
        # A sixth faster on a CPU.
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Encode x uint8 [B, 3, H, W] to one token each: [B, 1, D], all kept."""
        scaled = x.to(self.project.weight.dtype) / 127.5 - 1
        pooled = self.layers(scaled).mean(dim=(2, 3))
        return one_token(self.project(self.dropout(pooled)))


class _Residual(nn.Module):
    def __init__(self, inward: int, outward: int, *, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inward, outward, 3, stride, 1, bias=False)
        self.first_norm = group_norm(outward)
        self.second = nn.Conv2d(outward, outward, 3, 1, 1, bias=False)
        self.second_norm = group_norm(outward)
        same = inward == outward and stride == 1
        self.skip = nn.Identity() if same else nn.Conv2d(inward, outward, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.first_norm(self.first(x)).relu()
        return (self.skip(x) + self.second_norm(self.second(inner))).relu()


def group_norm(channels: int, eps: float = 1e-5) -> nn.GroupNorm:
    """Return group normalisation with 16 channels per group, or the next number above that divides evenly."""
    groups = max(1, channels // CHANNELS_PER_GROUP)
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels, eps=eps)


def one_token(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return vectors [B, D] as tokens [B, 1, D] and keep [B, 1], all True."""
    return vectors.unsqueeze(1), torch.ones(vectors.shape[0], 1, dtype=torch.bool, device=vectors.device)
