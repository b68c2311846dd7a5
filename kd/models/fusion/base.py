"""Fusions: tokens and keep by modality, present [B, M] -> one representation [B, width].

Tokens of an absent modality, and those that stand for nothing, arrive as zeros with keep False. All are free of
data-dependent branches, so they export and run under vmap. Empty rows (nothing present) give a finite constant.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kd.errors import ConfigError


def pool(tokens: Tensor, keep: Tensor) -> Tensor:
    """Return the mean of the kept tokens: [B, T, D], [B, T] -> [B, D], zeros where none is kept."""
    weight = keep.unsqueeze(-1).to(tokens.dtype)
    return (tokens * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


def pool_zeroed(tokens: Tensor, keep: Tensor) -> Tensor:
    """Return the same as `pool` where tokens that are not kept are zeros, as fusions get them."""
    return tokens.squeeze(1) if tokens.shape[1] == 1 else tokens.sum(dim=1) / keep.sum(dim=1, keepdim=True).clamp(min=1)


def masked_softmax(score: Tensor, present: Tensor) -> Tensor:
    """Return a softmax over the last axis restricted to `present`, zeros where nothing is."""
    lowest = torch.finfo(score.dtype).min / 2
    weight = torch.where(present, score, lowest).softmax(dim=-1)
    return torch.where(present, weight, 0.0)


def masked_mean(parts: Tensor, present: Tensor) -> Tensor:
    """Return the mean over the modalities present: [B, M, D], bool [B, M] -> [B, D], zeros where nothing is."""
    weight = present.to(parts.dtype).unsqueeze(-1)
    return (parts * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


def expect(holds: bool, field: str, expected: str, got: object) -> None:
    """Refuse an argument of a fusion.

    Raises:
        ConfigError: it does not hold.
    """
    if not holds:
        raise ConfigError(f"fusion.{field}: expected {expected}, got {got}")


class Fusion(nn.Module):
    """Base of all fusions; `width` is the size of what `forward` returns."""

    replicable = True
    width: int

    def forward(
        self, tokens: Mapping[str, Tensor], keep: Mapping[str, Tensor], present: Tensor
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Fuse tokens [B, T, D] by modality under present bool [B, M] to [B, width].

        One that has a loss of its own returns it beside that in training mode, weighted, [B].
        """
        raise NotImplementedError

    @staticmethod
    def parts(tokens: Mapping[str, Tensor], keep: Mapping[str, Tensor]) -> Tensor:
        """Return one representation per modality [B, M, D], zeros where absent."""
        return torch.stack([pool_zeroed(tokens[name], keep[name]) for name in tokens], dim=1)
