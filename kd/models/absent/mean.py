"""The training mean of an input handed to the encoder as if it had been measured."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kd.errors import ConfigError
from kd.models.absent.base import StandIn, spread
from kd.types import Modality

AT_ONCE = 1024
"""Rows that are summed at a time: pictures of all rows in float64 would be eight times their size."""


class Mean(StandIn):
    """An absent modality is read as its mean over training rows: `x' = x` where present, else `mean(x)` by position.

    The mean is over training rows that have the modality; empty cells and padded steps (NaN) count in none, and a
    position that no row has is 0. A picture's is the mean picture, rounded. Buffers of one sample's size, no cost.

    Source: single mean imputation, Little & Rubin, Statistical Analysis with Missing Data, chapter 4.

    Args:
        modality: name -> what it is.
        width: not used.

    Raises:
        ConfigError: a modality is a text, which has no mean.
    """

    filled = True

    def __init__(self, modality: Mapping[str, Modality], width: int, /) -> None:
        super().__init__(modality, width)
        texts = [name for name, described in modality.items() if described.kind == "text"]
        if texts:
            raise ConfigError(
                f"absent: the text {texts[0]!r} has no mean; choose another stand-in, such as zero or token"
            )
        self.means = nn.ModuleDict({name: _Constant(described) for name, described in modality.items()})

    @property
    def fits(self) -> list[str]:
        return list(self.means)

    def fit(self, inputs: Mapping[str, Tensor], present: Tensor) -> None:
        for column, (name, constant) in enumerate(self.means.items()):
            constant.fit(inputs[name][present[:, column]])  # type: ignore[operator]

    def fill(self, inputs: Mapping[str, Tensor], present: Tensor) -> tuple[Mapping[str, Tensor], Tensor]:
        filled = {
            name: constant(inputs[name], present[:, column])
            for column, (name, constant) in enumerate(self.means.items())
        }
        return filled, torch.ones_like(present)


class _Constant(nn.Module):
    value: Tensor

    def __init__(self, modality: Modality) -> None:
        super().__init__()
        self.register_buffer("value", torch.zeros(modality.shape, dtype=modality.dtype))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        parts = x.split(AT_ONCE)
        total = torch.stack([part.double().nansum(dim=0) for part in parts]).sum(dim=0)
        count = torch.stack([(~part.isnan()).sum(dim=0) for part in parts]).sum(dim=0)
        mean = total / count.clamp(min=1)
        self.value.copy_(mean if self.value.is_floating_point() else mean.round())

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        return torch.where(spread(seen, x.dim()), x, self.value)
