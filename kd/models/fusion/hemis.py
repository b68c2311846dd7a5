"""HeMIS: the first two moments over the modalities present."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kd.models.fusion.base import Fusion, masked_mean


class HeMIS(Fusion):
    """Mean and variance over the modalities present, side by side (Havaei et al. 2016, 1607.05194).

    `[E, V]` with `E = 1/|K| sum_{k in K} h_k` and `V = 1/(|K| - 1) sum_{k in K} (h_k - E)^2`, K the modalities present;
    V is 0 where one is present, and both are 0 where none is.

    The variance is the unbiased one; implementations that divide by |K| differ by the factor (|K| - 1) / |K|, which
    changes with the subset. The paper's moments are of feature maps, ours of one vector per modality, and `drop` takes
    the place of its curriculum of dropped modalities. No parameters; time O(M D), and a head of 2 D inputs.

    Args:
        modalities: M.
        width: D; the result has 2 D.
    """

    def __init__(self, modalities: int, width: int, /) -> None:
        super().__init__()
        self.width = 2 * width

    def forward(self, tokens: Mapping[str, Tensor], keep: Mapping[str, Tensor], present: Tensor) -> Tensor:
        parts = self.parts(tokens, keep)
        mean = masked_mean(parts, present)
        squares = (parts - mean.unsqueeze(1)).square() * present.unsqueeze(-1)
        others = (present.sum(dim=1, keepdim=True) - 1).clamp(min=1)
        return torch.cat([mean, squares.sum(dim=1) / others], dim=-1)
