"""What stand-ins share that compute an absent vector from the vectors present: standard scores in, raw values out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kd.errors import ConfigError
from kd.models.absent.base import StandIn, spread
from kd.models.encoders import Standardise
from kd.registry import article
from kd.types import Modality


@dataclass(frozen=True)
class Scored:
    """Training rows as standard scores, and what turns scores into values again.

    Attributes:
        scores: modality -> [N, F], 0, the mean, where the modality or a cell is empty.
        present: bool [N, M].
        mean: modality -> [F].
        deviation: modality -> [F].
    """

    scores: dict[str, Tensor]
    present: Tensor
    mean: dict[str, Tensor]
    deviation: dict[str, Tensor]

    @property
    def modalities(self) -> list[str]:
        """Names in the order of the columns of `present`."""
        return list(self.scores)


class VectorStandIn(StandIn):
    """Base of those that hand the encoder values computed from the modalities present, as if they had been measured.

    Constants are fitted on the training rows that have a modality; an empty cell of one that is there counts as its
    mean.

    Args:
        modality: name -> what it is, vectors only.
        width: not used.

    Raises:
        ConfigError: a modality is no vector.
    """

    filled = True

    def __init__(self, modality: Mapping[str, Modality], width: int, /) -> None:
        super().__init__(modality, width)
        for name, described in modality.items():
            if described.kind != "vector":
                method, kind = type(self).__name__.lower(), article(described.kind)
                raise ConfigError(
                    f"absent: {method} computes vectors, and {name!r} is {kind}; choose another stand-in, such as token"
                )
        self.features = {name: math.prod(described.shape) for name, described in modality.items()}
        self.standardise = nn.ModuleDict({name: Standardise(size, holes=True) for name, size in self.features.items()})

    def fit_scores(self, scored: Scored) -> None:
        """Fit what predicts to training rows."""
        raise NotImplementedError

    def predict(self, scores: dict[str, Tensor], present: Tensor) -> dict[str, Tensor]:
        """Return values [B, F] by modality, in the inputs' units; those of modalities present are not used.

        Args:
            scores: modality -> [B, F], 0 where absent.
            present: bool [B, M].
        """
        raise NotImplementedError

    @property
    def fits(self) -> list[str]:
        return list(self.features)

    @torch.no_grad()
    def fit(self, inputs: Mapping[str, Tensor], present: Tensor) -> None:
        scales: dict[str, Standardise] = dict(self.standardise.items())  # type: ignore[arg-type]
        for column, (name, scale) in enumerate(scales.items()):
            scale.fit(inputs[name][present[:, column]].flatten(1))
        mean = {name: scale.mean for name, scale in scales.items()}
        deviation = {name: scale.deviation for name, scale in scales.items()}
        self.fit_scores(Scored(self._scores(inputs, present), present, mean, deviation))

    def fill(self, inputs: Mapping[str, Tensor], present: Tensor) -> tuple[Mapping[str, Tensor], Tensor]:
        predicted = self.predict(self._scores(inputs, present), present)
        filled = {}
        for column, name in enumerate(self.features):
            x = inputs[name]
            filled[name] = torch.where(spread(present[:, column], x.dim()), x, predicted[name].view(x.shape))
        return filled, torch.ones_like(present)

    def _scores(self, inputs: Mapping[str, Tensor], present: Tensor) -> dict[str, Tensor]:
        scores = {}
        for column, (name, scale) in enumerate(self.standardise.items()):
            seen = present[:, column].unsqueeze(-1)
            # Twice: an absent NaN must reach no product, and an absent zero is no score of 0.
            scores[name] = torch.where(seen, scale(torch.where(seen, inputs[name].flatten(1), 0.0)), 0.0)
        return scores
