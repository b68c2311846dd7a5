"""Encoders of sequences: float32 [B, T, F] -> a token per step, or one. A step that is NaN throughout is padding.

Source of the GRU: Cho et al. 2014, 1406.1078, in the form of torch.nn.GRU.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from kd.models.encoders import Encoder, Standardise, check_dropout, check_positive
from kd.models.fusion.base import pool as mean_of
from kd.types import Modality


class GRU(Encoder):
    """Gated recurrent units over the steps that are there; padding may stand anywhere and is passed over.

    Single holes in a step become the feature's mean. `torch.nn.GRU` gives the same where nothing is padded, but what it
    has for padding neither exports nor runs under vmap. An exported graph holds the cell once for each of T steps.

    Args:
        modality: a sequence.
        width: D.
        hidden: units of each direction.
        layers: one on the other.
        bidirectional: read from both ends.
        dropout: probability in [0, 1) before the linear map.
        pool: give the mean over steps, or a token per step.
    """

    takes = ("sequence",)

    def __init__(
        self,
        modality: Modality,
        width: int,
        /,
        *,
        hidden: int = 64,
        layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.2,
        pool: Literal["mean", "tokens"] = "mean",
    ) -> None:
        super().__init__()
        check_dropout(dropout)
        check_positive(hidden=hidden, layers=layers)
        features, directions = modality.shape[-1], 2 if bidirectional else 1
        self.pool = pool
        self.standardise = Standardise(features, holes=True)
        inward = [features] + [directions * hidden] * (layers - 1)
        self.layers = nn.ModuleList(_Layer(size, hidden, directions) for size in inward)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(directions * hidden, width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Encode x [B, T, F] to tokens [B, T, D] and keep [B, T], or to their mean [B, 1, D]."""
        keep = ~x.isnan().all(dim=-1)
        hidden = self.standardise(x)
        for layer in self.layers:
            hidden = layer(hidden, keep)
        hidden = self.dropout(hidden)
        if self.pool == "tokens":
            return self.project(hidden), keep
        return self.project(mean_of(hidden, keep)).unsqueeze(1), keep.any(dim=1, keepdim=True)


class _Layer(nn.Module):
    def __init__(self, inward: int, hidden: int, directions: int) -> None:
        super().__init__()
        self.directions = nn.ModuleList(_Direction(inward, hidden, backwards=k == 1) for k in range(directions))

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        return torch.cat([direction(x, keep) for direction in self.directions], dim=-1)


class _Direction(nn.Module):
    """One layer read one way: x [B, T, F], keep [B, T] -> its state after every step [B, T, H]."""

    def __init__(self, inward: int, hidden: int, *, backwards: bool) -> None:
        super().__init__()
        self.backwards = backwards
        self.input = nn.Linear(inward, 3 * hidden)
        self.state = nn.Linear(hidden, 3 * hidden)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        given = self.input(x).unbind(dim=1)
        kept = keep.unsqueeze(-1).unbind(dim=1)
        state = x.new_zeros(x.shape[0], self.state.in_features)
        states = []
        order = range(len(given))
        for step in reversed(order) if self.backwards else order:
            state = torch.where(kept[step], self._next(given[step], state), state)
            states.append(state)
        return torch.stack(states[::-1] if self.backwards else states, dim=1)

    def _next(self, given: Tensor, state: Tensor) -> Tensor:
        reset, update, new = given.chunk(3, dim=-1)
        own_reset, own_update, own_new = self.state(state).chunk(3, dim=-1)
        update = (update + own_update).sigmoid()
        candidate = (new + (reset + own_reset).sigmoid() * own_new).tanh()
        return (1 - update) * candidate + update * state
