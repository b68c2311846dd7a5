"""Noise as layers: a stack of networks draws each replica's own, whichever others are left.

A module that holds parameters itself runs under vmap in a stack, where noise cannot be repeated: keep noise in a layer
of its own, beside the layers with parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Normal(nn.Module):
    """Standard normal noise of x's shape while training, zeros in eval mode."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.randn_like(x) if self.training else torch.zeros_like(x)


class Uniform(nn.Module):
    """Noise uniform in [0, 1) of x's shape while training, one half in eval mode."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.rand_like(x) if self.training else torch.full_like(x, 0.5)
