"""Zeros handed to the encoder as if they had been measured."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kd.models.absent.base import StandIn, spread
from kd.types import Modality


class Zero(StandIn):
    """An absent modality is read as zeros: `x' = x` where present, else 0; padding in a text, black in a picture.

    The encoder answers to them with its biases, so an absent modality has a representation that is learnt with the
    encoder. Raw zeros, as most released code has them: for a vector or a sequence they are no mean unless the values
    were centred before; `mean` is the other choice. No parameters, no cost.

    Source: the zero filling that methods are compared with, e.g. Ma et al. 2021, SMIL (2103.05677).

    Args:
        modality: name -> what it is.
        width: not used.
    """

    filled = True

    def __init__(self, modality: Mapping[str, Modality], width: int, /) -> None:
        super().__init__(modality, width)
        self.value = {name: described.pad if described.kind == "text" else 0 for name, described in modality.items()}

    def fill(self, inputs: Mapping[str, Tensor], present: Tensor) -> tuple[Mapping[str, Tensor], Tensor]:
        filled = {
            name: torch.where(spread(present[:, column], inputs[name].dim()), inputs[name], value)
            for column, (name, value) in enumerate(self.value.items())
        }
        return filled, torch.ones_like(present)
