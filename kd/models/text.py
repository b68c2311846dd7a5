"""Encoders of words: token ids int64 [B, L] -> tokens of width D, or one. A row of padding alone stands for nothing.

Sources: Iyyer et al. 2015 (deep averaging networks, ACL P15-1162); Devlin et al. 2019 (BERT, 1810.04805), as
transformers builds it; Reimers & Gurevych 2019 (the mean over tokens, 1908.10084).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from kd.errors import ConfigError
from kd.models.encoders import Borrowed, Encoder, check_dropout, check_positive, check_widths
from kd.models.fusion.base import pool as mean_of
from kd.types import Modality

Pool = Literal["mean", "cls", "tokens"]
ATTENTION = "eager"
"""The form of attention whose bits do not depend on the padding of other rows; as fast as any on short texts."""


class Bag(Encoder):
    """The mean of the tokens' embeddings, then Linear-ReLU-Dropout layers: no order of words, and little to compute.

    Args:
        modality: a text.
        width: D.
        embedding: width of an embedding.
        hidden: widths of the layers before the last.
        dropout: probability in [0, 1) before every layer.
    """

    takes = ("text",)

    def __init__(
        self,
        modality: Modality,
        width: int,
        /,
        *,
        embedding: int = 64,
        hidden: Sequence[int] = (),
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        check_dropout(dropout)
        check_positive(embedding=embedding)
        check_widths("hidden", hidden)
        self.pad = modality.pad
        self.embed = _Embedding(modality.vocabulary, embedding, padding_idx=modality.pad)
        layers: list[nn.Module] = [nn.Dropout(dropout)]
        for inward, outward in pairwise([embedding, *hidden]):
            layers += [nn.Linear(inward, outward), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear([embedding, *hidden][-1], width))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Encode x int64 [B, L] to one token each, [B, 1, D], kept unless all is padding."""
        keep = x != self.pad
        return self.layers(mean_of(self.embed(x), keep)).unsqueeze(1), keep.any(dim=1, keepdim=True)


class _Embedding(nn.Embedding):
    """Embeddings small enough for what is learnt of a rare token to outweigh what was drawn for it."""

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=0.1)
        self._fill_padding_idx_with_zero()


class Language(Borrowed):
    """A model of transformers, pooled and mapped to the shared width.

    Args:
        modality: a text.
        width: D.
        network: ids and mask [B, L] -> `last_hidden_state` [B, L, hidden].
        hidden: its width.
        pool: give the mean of the tokens, the first token, or all tokens.
    """

    takes = ("text",)

    def __init__(self, modality: Modality, width: int, network: nn.Module, hidden: int, pool: Pool) -> None:
        super().__init__()
        self.pad, self.pool, self.network = modality.pad, pool, network
        self.project = nn.Linear(hidden, width)

    def last(self) -> nn.Module:
        return self.project

    def _mask(self, attend: Tensor) -> Tensor:
        return attend.long()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Encode x int64 [B, L] to tokens [B, L, D], or [B, 1, D] where pooled."""
        keep = x != self.pad
        # Attention over nothing has no value: such a row attends to its padding, and nothing of it is kept.
        attend = keep | ~keep.any(dim=1, keepdim=True)
        hidden = self.network(input_ids=x, attention_mask=self._mask(attend)).last_hidden_state
        if self.pool == "tokens":
            return self.project(hidden), keep
        pooled = mean_of(hidden, keep) if self.pool == "mean" else hidden[:, 0]
        return self.project(pooled).unsqueeze(1), keep.any(dim=1, keepdim=True)


class Words(Language):
    """A small transformer from random weights: BERT's layers, as transformers builds them.

    Args:
        modality: a text.
        width: D.
        layers: of attention.
        heads: of attention; they divide `hidden`.
        hidden: width of the layers.
        dropout: probability in [0, 1), of layers and of attention.
        pool: give the mean of the tokens, the first token, or all tokens.
    """

    def __init__(
        self,
        modality: Modality,
        width: int,
        /,
        *,
        layers: int = 2,
        heads: int = 4,
        hidden: int = 64,
        dropout: float = 0.1,
        pool: Pool = "mean",
    ) -> None:
        from transformers import BertConfig

        check_dropout(dropout)
        check_positive(layers=layers, heads=heads, hidden=hidden)
        if hidden % heads:
            raise ConfigError(f"heads: hidden {hidden} is not divisible by {heads} heads")
        self.config = BertConfig(
            vocab_size=modality.vocabulary,
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * hidden,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            max_position_embeddings=modality.shape[0],
            type_vocab_size=1,
            pad_token_id=modality.pad,
            attn_implementation=ATTENTION,  # type: ignore[call-arg]
        )
        super().__init__(modality, width, self.fresh(), hidden, pool)

    def fresh(self) -> nn.Module:
        from transformers import BertModel

        return BertModel(self.config, add_pooling_layer=False)

    def _mask(self, attend: Tensor) -> Tensor:
        # In the form that attention adds, so that the graph needs no branch to make it.
        dtype = self.project.weight.dtype
        added = torch.zeros_like(attend, dtype=dtype).masked_fill(~attend, torch.finfo(dtype).min)
        return added[:, None, None, :].expand(-1, 1, attend.shape[1], -1)
