"""Which modalities are there, as one more representation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kd.models.absent.base import Represented, StandIn
from kd.types import Modality

FLAGS = "(flags)"
"""The representation's name; no modality can have it."""


class Flags(StandIn):
    """Which modalities are there is one more representation, always present: `h_flags = ReLU(W present + b)`.

    Representations of absent modalities stay zeros. The missing-indicator method with the indicators of whole
    modalities, and zeros after the encoder where the method has an imputed value before it. Their pattern is evidence
    of its own: under MNAR masks a network with flags may answer from what is missing. D * (M + 1) parameters.

    Source: Cohen & Cohen 1975; Van Ness et al., KDD 2023 (2211.09259).

    Args:
        modality: name -> what it is.
        width: D.
    """

    extra = 1

    def __init__(self, modality: Mapping[str, Modality], width: int, /) -> None:
        super().__init__(modality, width)
        self.linear = nn.Linear(len(modality), width)

    def represent(self, tokens: dict[str, Tensor], keep: dict[str, Tensor], present: Tensor) -> Represented:
        here = torch.ones_like(present[:, :1])
        flags = self.linear(present.to(next(iter(tokens.values())).dtype)).relu().unsqueeze(1)  # [B, 1, D]
        return Represented({**tokens, FLAGS: flags}, {**keep, FLAGS: here}, torch.cat([present, here], dim=1))
