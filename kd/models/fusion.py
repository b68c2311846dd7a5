"""Fusions: tokens and keep by modality, present [B, M] -> one representation [B, width].

Tokens of an absent modality, and those that stand for nothing, arrive as zeros with keep False. All are free of
data-dependent branches, so they export and run under vmap. Empty rows (nothing present) give a finite constant.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def pool(tokens: Tensor, keep: Tensor) -> Tensor:
    """Return the mean of the kept tokens: [B, T, D], [B, T] -> [B, D], zeros where none is kept."""
    weight = keep.unsqueeze(-1).to(tokens.dtype)
    return (tokens * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


def pool_zeroed(tokens: Tensor, keep: Tensor) -> Tensor:
    """Return the same as `pool` where tokens that are not kept are zeros, as fusions get them."""
    return tokens.squeeze(1) if tokens.shape[1] == 1 else tokens.sum(dim=1) / keep.sum(dim=1, keepdim=True).clamp(min=1)


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


class Concat(Fusion):
    """Pooled representations side by side (KDD 2020's student).

    Args:
        modalities: M.
        width: D of one modality; the result has M * D.
    """

    def __init__(self, modalities: int, width: int, /) -> None:
        super().__init__()
        self.width = modalities * width

    def forward(self, tokens: Mapping[str, Tensor], keep: Mapping[str, Tensor], present: Tensor) -> Tensor:
        return torch.cat([pool_zeroed(tokens[name], keep[name]) for name in tokens], dim=-1)


class Mean(Fusion):
    """Mean over the modalities present.

    Args:
        modalities: M.
        width: D.
    """

    def __init__(self, modalities: int, width: int, /) -> None:
        super().__init__()
        self.width = width

    def forward(self, tokens: Mapping[str, Tensor], keep: Mapping[str, Tensor], present: Tensor) -> Tensor:
        weight = present.to(next(iter(tokens.values())).dtype).unsqueeze(-1)
        return (self.parts(tokens, keep) * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


def masked_softmax(score: Tensor, present: Tensor) -> Tensor:
    """Return a softmax over the last axis restricted to `present`, zeros where nothing is."""
    lowest = torch.finfo(score.dtype).min / 2
    weight = torch.where(present, score, lowest).softmax(dim=-1)
    return torch.where(present, weight, 0.0)


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


class Attention(Fusion):
    """A learnt query pools the tokens of all modalities; keys that are absent are masked (1706.03762, 1810.00825).

    Each modality adds its learnt embedding to its tokens, so that the query can tell them apart.

    Args:
        modalities: M.
        width: D, divisible by `heads`.
        heads: number of attention heads.
    """

    def __init__(self, modalities: int, width: int, /, *, heads: int = 4) -> None:
        super().__init__()
        if width % heads:
            from kd.errors import ConfigError

            raise ConfigError(f"fusion.heads: width {width} is not divisible by {heads} heads")
        self.width, self.heads = width, heads
        self.embedding = nn.Embedding(modalities, width)
        self.query = nn.Linear(1, width, bias=False)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Mapping[str, Tensor], keep: Mapping[str, Tensor], present: Tensor) -> Tensor:
        # Every layer is called on rows, also where all rows are alike, so that a stack of networks can hold its own.
        number = torch.zeros_like(present[:, :1], dtype=torch.int64)  # [B, 1]
        embedded = [tokens[name] + self.embedding(number + i) for i, name in enumerate(tokens)]
        sequence = torch.cat(embedded, dim=1)  # [B, L, D]
        kept = torch.cat([keep[name] for name in tokens], dim=1)  # [B, L]
        batch, length, _ = sequence.shape
        query = self.query(torch.ones_like(sequence[:, 0, :1])).view(batch, self.heads, 1, -1)
        key = self.key(sequence).view(batch, length, self.heads, -1).transpose(1, 2)  # [B, H, L, D/H]
        value = self.value(sequence).view(batch, length, self.heads, -1).transpose(1, 2)
        score = (query * key).sum(dim=-1) / key.shape[-1] ** 0.5  # [B, H, L]
        weight = masked_softmax(score, kept.unsqueeze(1))
        pooled = (weight.unsqueeze(-1) * value).sum(dim=2)  # [B, H, D/H]
        return self.out(pooled.flatten(1))
