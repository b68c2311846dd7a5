"""A small transformer over the tokens of all modalities, absent keys masked."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kd.models.fusion.base import Fusion, expect, masked_softmax


class Layer(nn.Module):
    """Pre-norm attention over the tokens kept, then a pre-norm feed-forward layer (1706.03762; 2002.04745).

    `x + attention(norm(x))`, then `x + W2 gelu(W1 norm(x))`, as `nn.TransformerEncoderLayer(norm_first=True)`, but of
    leaves that a stack of networks holds natively; the fused weights of torch's layer are none.

    Args:
        width: D.
        heads: of attention; they divide D.
        hidden: width of the feed-forward layer.
        dropout: probability in [0, 1), of what either half adds.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        # The number of heads follows from the layers' widths, so that a network that lost heads needs no other number.
        self.head_size = width // heads
        self.norm, self.query, self.key, self.value, self.out = nn.LayerNorm(width), *_linears(width, 4)
        self.feed = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        """Return x [B, L, D] after attention to the tokens in keep, bool [B, L]."""
        x = x + self.dropout(self._attention(self.norm(x), keep))
        return x + self.dropout(self.feed(x))

    def _attention(self, x: Tensor, keep: Tensor) -> Tensor:
        query, key, value = (self._split(each(x)) for each in (self.query, self.key, self.value))  # [B, H, L, D/H]
        score = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        weight = masked_softmax(score, keep[:, None, None, :])
        return self.out((weight @ value).transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_size)).transpose(1, 2)


def _linears(width: int, count: int) -> list[nn.Linear]:
    return [nn.Linear(width, width) for _ in range(count)]


class Embedding(nn.Embedding):
    """Embeddings drawn small, so that tokens are not drowned before they are told apart (Devlin et al., 1810.04805)."""

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=0.02)


class Transformer(Fusion):
    """A learnt token that reads the tokens of all modalities through layers of attention, absent keys masked.

    Each token has its modality's embedding added; there are no positions, encoders give tokens their own. With unimodal
    encoders that are given (`init`) and frozen (`learning_rates` of 0) this is late fusion by a transformer, which
    complex methods did not reliably beat once it was tuned (SimBaMM, 2512.22991); the layers are checked against
    torch's, not against that paper's code. Where nothing is present the token reads itself: a finite constant.

    About `layers` (4 D^2 + 2 D hidden) weights; time O(layers (L D^2 + L^2 D)) for L tokens, one per vector.

    Args:
        modalities: M.
        width: D, divisible by `heads`.
        layers: at least 1.
        heads: of attention.
        hidden: width of the feed-forward layers; by default 2 D.
        dropout: probability in [0, 1), of what each half of a layer adds.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        modalities: int,
        width: int,
        /,
        *,
        layers: int = 2,
        heads: int = 4,
        hidden: int | None = None,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        hidden = 2 * width if hidden is None else hidden
        expect(layers > 0, "layers", "at least 1", layers)
        expect(heads > 0 and width % heads == 0, "heads", f"a divisor of width {width}", heads)
        expect(hidden > 0, "hidden", "at least 1", hidden)
        expect(0 <= dropout < 1, "dropout", "a probability in [0, 1)", dropout)
        self.width, self.modalities = width, modalities
        self.embedding = Embedding(modalities + 1, width)  # the last is the learnt token
        self.layers = nn.ModuleList(Layer(width, heads, hidden, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Mapping[str, Tensor], keep: Mapping[str, Tensor], present: Tensor) -> Tensor:
        # Layers are called on rows, also where all rows are alike, so that a stack of networks can hold its own.
        number = torch.zeros_like(present[:, :1], dtype=torch.int64)  # [B, 1]
        own = [tokens[name] + self.embedding(number + i) for i, name in enumerate(tokens)]
        x = torch.cat([self.embedding(number + self.modalities), *own], dim=1)  # [B, L, D]
        kept = torch.cat([number == 0, *(keep[name] for name in tokens)], dim=1)
        for place, layer in enumerate(self.layers):
            x, kept = self.extended(place, x, kept, present)
            x = layer(x, kept)
        return self.norm(x[:, 0])

    def extended(self, place: int, x: Tensor, kept: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Return what a layer reads: by default what it is given.

        Args:
            place: of the layer, from 0.
            x: [B, L, D], the learnt token first.
            kept: bool [B, L].
            present: bool [B, M].
        """
        return x, kept
