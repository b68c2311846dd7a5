"""What every stand-in for absent modalities is asked: before the encoders, and after them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kd.types import Modality


@dataclass
class Represented:
    """Representations as the fusion gets them.

    Attributes:
        tokens: name -> [B, T, D]; zeros where nothing stands in.
        keep: name -> bool [B, T].
        present: bool [B, M + extra]: what the fusion may read, columns in the order of `tokens`.
        loss: [B], what the stand-in wants to be small while it trains, weighted; None where it wants nothing.
    """

    tokens: dict[str, Tensor]
    keep: dict[str, Tensor]
    present: Tensor
    loss: Tensor | None = None


class StandIn(nn.Module):
    """Base of all; this one leaves absent modalities absent, their representations zeros.

    Parameters and buffers belong to children that are called (`forward`), never to the stand-in itself: a stack of
    networks replaces what its children do, and calls `fill` and `represent` once for all rows.

    Args:
        modality: name -> what it is, in the order of `present`'s columns.
        width: D of every representation.

    Attributes:
        replicable: runs in a stack.
        extra: representations that it adds to those of the modalities.
        filled: a modality that was absent reaches encoder and fusion as if it were there.
    """

    replicable = True
    extra = 0
    filled = False

    def __init__(self, modality: Mapping[str, Modality], width: int, /) -> None:
        super().__init__()

    @property
    def fits(self) -> list[str]:
        """Modalities whose values it is fitted on, all at once; by default none."""
        return []

    def fit(self, inputs: Mapping[str, Tensor], present: Tensor) -> None:
        """Fit constants on training rows.

        Args:
            inputs: those in `fits`; an absent row may hold anything.
            present: bool [B, M].
        """

    def fill(self, inputs: Mapping[str, Tensor], present: Tensor) -> tuple[Mapping[str, Tensor], Tensor]:
        """Return inputs and what of them encoders may read, bool [B, M]; an absent row may hold anything before."""
        return inputs, present

    def represent(self, tokens: dict[str, Tensor], keep: dict[str, Tensor], present: Tensor) -> Represented:
        """Return representations by name; those of absent modalities arrive as zeros with keep False.

        Args:
            tokens: modality -> [B, T, D].
            keep: modality -> bool [B, T].
            present: bool [B, M], what really is there.
        """
        return Represented(tokens, keep, present)


def spread(seen: Tensor, dimensions: int) -> Tensor:
    """Return bool [B] as [B, 1, ...], for `torch.where` with a tensor of so many dimensions."""
    return seen.view(-1, *[1] * (dimensions - 1))


def place(tokens: Tensor, keep: Tensor, seen: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
    """Return tokens and keep with a vector as the first, and only, token of each row that lacks the modality.

    Args:
        tokens: [B, T, D], zeros where the modality is absent.
        keep: bool [B, T].
        seen: bool [B], rows that have the modality; they stay as they are.
        vector: [B, D].

    >>> tokens, keep = torch.zeros(2, 1, 3), torch.tensor([[True], [False]])
    >>> place(tokens, keep, keep[:, 0], torch.ones(2, 3))[0].sum(dim=(1, 2))
    tensor([0., 3.])
    """
    there = seen.unsqueeze(-1)
    kept = keep[:, :1] | ~there
    if tokens.shape[1] == 1:  # pruning cannot follow channels through the general form
        return torch.where(there, tokens.squeeze(1), vector).unsqueeze(1), kept
    first = torch.where(there, tokens[:, 0], vector)
    return torch.cat([first.unsqueeze(1), tokens[:, 1:]], dim=1), torch.cat([kept, keep[:, 1:]], dim=1)
