"""Optimisers and learning-rate schedules as parts; torch computes them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from kd.errors import ConfigError


def _rate(lr: float) -> float:
    if not (lr > 0 and math.isfinite(lr)):
        raise ConfigError(f"lr: expected a number above 0, got {lr}")
    return lr


def adam(
    parameters: Iterable[Parameter],
    /,
    *,
    lr: float = 1e-3,
    betas: Sequence[float] = (0.9, 0.999),
    weight_decay: float = 0.0,
) -> Optimizer:
    """Adam (1412.6980); the defaults are KDD 2020's."""
    return torch.optim.Adam(parameters, lr=_rate(lr), betas=(betas[0], betas[1]), weight_decay=weight_decay)


def adamw(
    parameters: Iterable[Parameter],
    /,
    *,
    lr: float = 1e-3,
    betas: Sequence[float] = (0.9, 0.999),
    weight_decay: float = 0.01,
) -> Optimizer:
    """Adam with decoupled weight decay (1711.05101)."""
    return torch.optim.AdamW(
        parameters, lr=_rate(lr), betas=(betas[0], betas[1]), weight_decay=weight_decay, fused=True
    )


def sgd(
    parameters: Iterable[Parameter], /, *, lr: float = 0.1, momentum: float = 0.9, weight_decay: float = 0.0
) -> Optimizer:
    """Stochastic gradient descent with momentum."""
    return torch.optim.SGD(parameters, lr=_rate(lr), momentum=momentum, weight_decay=weight_decay)


def constant(optimizer: Optimizer, steps: int, /) -> LambdaLR:
    """Keep the learning rate."""
    return LambdaLR(optimizer, lambda step: 1.0)


def cosine(optimizer: Optimizer, steps: int, /, *, warmup: float = 0.0) -> LambdaLR:
    """Linear warm-up over the share `warmup` of all steps, then half a cosine to zero (1608.03983).

    Args:
        optimizer: its learning rates are the peak.
        steps: all steps of the training.
        warmup: share in [0, 1).
    """
    rising = round(warmup * steps)

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))

    return LambdaLR(optimizer, factor)
