"""A learnt query that attends to the tokens present."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kd.models.fusion.base import Fusion, expect, masked_softmax


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
        expect(heads > 0 and width % heads == 0, "heads", f"a divisor of width {width}", heads)
        self.width, self.head_size = width, width // heads
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
        query = self.query(torch.ones_like(sequence[:, 0, :1])).view(batch, -1, 1, self.head_size)
        key = self.key(sequence).view(batch, length, -1, self.head_size).transpose(1, 2)  # [B, H, L, D/H]
        value = self.value(sequence).view(batch, length, -1, self.head_size).transpose(1, 2)
        score = (query * key).sum(dim=-1) / key.shape[-1] ** 0.5  # [B, H, L]
        weight = masked_softmax(score, kept.unsqueeze(1))
        pooled = (weight.unsqueeze(-1) * value).sum(dim=2)  # [B, H, D/H]
        return self.out(pooled.flatten(1))
