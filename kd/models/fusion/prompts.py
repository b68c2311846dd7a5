"""Missing-aware prompts: a transformer that is told the missing pattern by learnt tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from kd.models.fusion.base import expect
from kd.models.fusion.transformer import Embedding, Transformer

MOST = 8
"""Modalities up to which every missing pattern has prompts of its own."""


class Prompts(Transformer):
    """The fusion `transformer` with learnt tokens for each missing pattern (Lee et al. 2023, 2303.03369).

    Input-level prompts: `length` tokens of the row's pattern are put beside what a layer reads, for each of the first
    `depth` layers, and stay in the sequence after it; the learnt token reads them with all others. There are 2^M - 1
    patterns, and one more for rows that show nothing, which the paper does not know.

    The paper adds prompts to a pre-trained transformer of one stream (ViLT) and trains only them, the pooler and the
    head; nothing of this fusion is pre-trained, so all of it trains unless `learning_rates` holds a part. Beside a
    stand-in that fills what is absent, all rows look complete and share one prompt. 2^M depth length D weights beside
    the transformer's.

    Args:
        modalities: M, at most 8.
        width: D, divisible by `heads`.
        length: tokens per prompt, at least 1.
        depth: layers, from the first, that get prompts of their own, at least 1.
        layers: at least `depth`.
        heads: of attention.
        hidden: width of the feed-forward layers; by default 2 D.
        dropout: probability in [0, 1), of what each half of a layer adds.

    Raises:
        ConfigError: an argument is out of range, or there are more than 8 modalities.
    """

    def __init__(
        self,
        modalities: int,
        width: int,
        /,
        *,
        length: int = 4,
        depth: int = 1,
        layers: int = 2,
        heads: int = 4,
        hidden: int | None = None,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(modalities, width, layers=layers, heads=heads, hidden=hidden, dropout=dropout)
        expect(modalities <= MOST, "name", f"at most {MOST} modalities for prompts; transformer takes more", modalities)
        expect(length > 0, "length", "at least 1", length)
        expect(0 < depth <= layers, "depth", f"1 to {layers}, the layers", depth)
        self.length, self.depth = length, depth
        self.prompts = Embedding(2**modalities * depth * length, width)

    def extended(self, place: int, x: Tensor, kept: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        if place >= self.depth:
            return x, kept
        bits = torch.tensor([2**m for m in range(self.modalities)], device=x.device)
        pattern = (present.long() * bits).sum(dim=1)  # [B]
        tokens = torch.arange(self.length, device=x.device)
        prompts = self.prompts(((pattern * self.depth + place) * self.length).unsqueeze(1) + tokens)
        return torch.cat([x, prompts], dim=1), torch.cat([kept, torch.ones_like(prompts[..., 0]).bool()], dim=1)
