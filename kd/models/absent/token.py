"""A learnt vector in place of an absent modality's representation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kd.models.absent.base import Represented, StandIn, place
from kd.types import Modality


class Token(StandIn):
    """An absent modality is represented by a vector of its own, learnt with the network: `h_m = t_m`.

    The fusion reads it as it reads a representation, so every modality counts as present. It is learnt from the rows
    that lack the modality, hidden ones (`drop`) included; where no training row lacks it, it stays as it was drawn.
    M * D parameters.

    Source: the mask token of Devlin et al. 2019 (1810.04805) and He et al. 2022 (2111.06377), one per modality.

    Args:
        modality: name -> what it is.
        width: D.
    """

    def __init__(self, modality: Mapping[str, Modality], width: int, /) -> None:
        super().__init__(modality, width)
        self.learnt = nn.ModuleDict({name: _Vector(width) for name in modality})

    def represent(self, tokens: dict[str, Tensor], keep: dict[str, Tensor], present: Tensor) -> Represented:
        ones = torch.ones_like(next(iter(tokens.values()))[:, 0, :1])  # on rows, so that a stack can hold its own
        placed = {
            name: place(tokens[name], keep[name], present[:, column], vector(ones))
            for column, (name, vector) in enumerate(self.learnt.items())
        }
        tokens, keep = ({name: both[part] for name, both in placed.items()} for part in (0, 1))
        return Represented(tokens, keep, torch.ones_like(present))


class _Vector(nn.Linear):
    """A vector that pruning can follow and resize; it cannot for an embedding."""

    def __init__(self, width: int) -> None:
        super().__init__(1, width, bias=False)

    def reset_parameters(self) -> None:
        """Draw it as BERT draws its tokens: small beside a representation, so that training begins as with zeros."""
        nn.init.normal_(self.weight, std=0.02)
