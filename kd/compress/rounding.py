"""Weights and activations rounded to int8 and back, as ONNX Runtime's pairs do it; gradients pass straight through.

Sources: Zafrir et al. 2019, Q8BERT (1910.06188); Bengio et al. 2013 (1308.3432) for the straight-through gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LARGEST = 127
"""Of a signed grid, as scales count it."""
MULTIPLIED = 64
"""The same of weights that are multiplied: 7 bits, see `Calibrated.quantised`."""
UNSIGNED = 255


class RoundedWeight(nn.Module):
    """A weight rounded to int8 by its largest absolute value, as ONNX Runtime rounds it; the gradient passes as is.

    Args:
        multiplied: one of products or convolutions, rounded per output channel; else a table of embeddings.
    """

    def __init__(self, *, multiplied: bool) -> None:
        super().__init__()
        self.multiplied = multiplied

    def forward(self, weight: Tensor) -> Tensor:
        largest = weight.detach().abs()
        largest = largest.flatten(1).amax(dim=1) if self.multiplied else largest.max()
        limit = MULTIPLIED if self.multiplied else LARGEST
        scale = torch.where(largest > 0, largest / limit, 1.0).float()
        zero = torch.zeros_like(scale, dtype=torch.int32)
        if self.multiplied:
            return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -limit, limit)
        return torch.fake_quantize_per_tensor_affine(weight, scale, zero, -limit, limit)


class Entering(nn.Module):
    """What enters a layer, rounded to int8 in the moving range of its smallest and largest values.

    All calls within one answer of the network, such as a cell's over the steps of a sequence, share one range and move
    it once.

    Args:
        known: range to begin with; None until something was met.
        average: see `Qat`.
        unsigned: on a grid with a zero point, in the place of one symmetric to 0.

    Attributes:
        counts: what enters now moves the range.
    """

    low: Tensor
    high: Tensor

    def __init__(self, known: tuple[float, float] | None, average: float, *, unsigned: bool) -> None:
        super().__init__()
        low, high = known or (torch.inf, -torch.inf)
        self.register_buffer("low", torch.tensor(low))
        self.register_buffer("high", torch.tensor(high))
        self.average, self.unsigned, self.counts = average, unsigned, True
        self._met: list[tuple[Tensor, Tensor]] = []

    @property
    def range(self) -> tuple[float, float] | None:
        """Its range; None where nothing was met."""
        return (self.low.item(), self.high.item()) if self.low <= self.high else None

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.low.dtype)  # half of it under mixed precision
        if self.training and self.counts:
            self._met.append(torch.aminmax(x.detach()))
        if self.low > self.high:
            return x
        low, high = self.low.clamp(max=0), self.high.clamp(min=0)
        width = high - low if self.unsigned else torch.maximum(-low, high)
        scale = torch.where(width > 0, width / (UNSIGNED if self.unsigned else LARGEST), 1.0).float()
        if self.unsigned:
            return torch.fake_quantize_per_tensor_affine(x, scale, (-low / scale).round().int(), 0, UNSIGNED)
        return torch.fake_quantize_per_tensor_affine(x, scale, torch.zeros_like(scale).int(), -LARGEST - 1, LARGEST)

    def move(self) -> None:
        """Let what was met since the last time move the range."""
        if not self._met:
            return
        lows, highs = zip(*self._met, strict=True)
        low, high = torch.stack(lows).min(), torch.stack(highs).max()
        if self.low <= self.high:
            low, high = torch.lerp(low, self.low, self.average), torch.lerp(high, self.high, self.average)
        self.low.copy_(low)
        self.high.copy_(high)
        self._met.clear()
