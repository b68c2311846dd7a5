"""An absent vector as the mean of the training rows that are nearest in the modalities present."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kd.errors import ConfigError
from kd.models.absent.vectors import Scored, VectorStandIn
from kd.models.encoders import check_positive
from kd.seeding import generator
from kd.types import Modality


class KNN(VectorStandIn):
    """An absent vector is the mean over its k nearest training rows that have it, in standard scores.

    `d(x, r) = mean of (x - r)^2 over the features of the modalities that x and r share`; a row that shares none is no
    neighbour, fewer than k are averaged as they are, and with none the mean stands in. This is scikit-learn's
    KNNImputer (uniform weights, nan-euclidean distance) with whole modalities missing. Empty cells of a modality that
    is there count as its mean, where KNNImputer leaves them out.

    The training rows, at most `references` of them drawn with a fixed seed, are buffers, so a package holds them. Per
    row a product of references x F and, for each modality, a selection of k among the references.

    Source: Troyanskaya et al. 2001, Bioinformatics 17(6), as scikit-learn's KNNImputer computes it.

    Args:
        modality: name -> what it is, vectors only.
        width: not used.
        neighbours: k, at least 1.
        references: training rows that are kept, at least k.
    """

    def __init__(
        self, modality: Mapping[str, Modality], width: int, /, *, neighbours: int = 5, references: int = 1000
    ) -> None:
        super().__init__(modality, width)
        check_positive(**{"absent.neighbours": neighbours})
        if references < neighbours:
            raise ConfigError(f"absent.references: expected at least absent.neighbours, {neighbours}, got {references}")
        self.nearest = _Nearest(self.features, neighbours, references)

    def fit_scores(self, scored: Scored) -> None:
        self.nearest.fit(scored)

    def predict(self, scores: dict[str, Tensor], present: Tensor) -> dict[str, Tensor]:
        values: dict[str, Tensor] = self.nearest(scores, present)
        return values


class _Nearest(nn.Module):
    """References [N, F + 2 M]: scores, which modalities there are, the squared length of each; and the way back."""

    references: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, features: Mapping[str, int], neighbours: int, references: int) -> None:
        super().__init__()
        self.features, self.neighbours, self.total = dict(features), neighbours, sum(features.values())
        self.register_buffer("references", torch.zeros(references, self.total + 2 * len(features)))
        self.register_buffer("mean", torch.zeros(self.total))
        self.register_buffer("deviation", torch.ones(self.total))

    def fit(self, scored: Scored) -> None:
        chosen = _choose(len(scored.present), len(self.references))
        rows = torch.cat(list(scored.scores.values()), dim=1)[chosen]
        there = scored.present[chosen].to(rows.dtype)
        self.references.zero_()[: len(chosen)] = torch.cat([rows, there, self._squares(rows)], dim=1)
        self.mean.copy_(torch.cat(list(scored.mean.values())))
        self.deviation.copy_(torch.cat(list(scored.deviation.values())))

    def forward(self, scores: dict[str, Tensor], present: Tensor) -> dict[str, Tensor]:
        there = self.references[:, self.total : self.total + len(self.features)]  # [N, M], 0 throughout where padded
        distance = self._distances(torch.cat(list(scores.values()), dim=1), present, there)
        lacking = torch.where(there > 0, 0.0, torch.inf)
        found, first = {}, 0
        for column, (name, size) in enumerate(self.features.items()):
            own = slice(first, first + size)
            mean = self._mean_of_nearest(distance + lacking[:, column], self.references[:, own])
            found[name] = mean * self.deviation[own] + self.mean[own]
            first += size
        return found

    def _distances(self, x: Tensor, present: Tensor, there: Tensor) -> Tensor:
        """Return the mean squared difference of the features shared [B, N], infinite where none is.

        By sums and one quotient: on a stack's rows times N, a mask costs as much as the product.
        """
        # Scores are 0 where absent, so one product covers the features of all modalities shared:
        # sum (x - r)^2 = -2 x.r + sum over modalities of |x_m|^2 [r has m] + [x has m] |r_m|^2.
        here = present.to(x.dtype)
        squares = torch.cat([-2 * x, self._squares(x), here], dim=1) @ self.references.T
        sizes = torch.tensor(list(self.features.values()), dtype=x.dtype, device=x.device)
        shared = (here * sizes) @ there.T
        return (squares + torch.finfo(x.dtype).tiny) / shared  # a little over 0 is infinite, 0 / 0 is not

    def _squares(self, x: Tensor) -> Tensor:
        """Return the squared length of each modality's scores, [N, M]."""
        parts = x.square().split(list(self.features.values()), dim=-1)
        return torch.stack([part.sum(dim=-1) for part in parts], dim=-1)

    def _mean_of_nearest(self, distance: Tensor, rows: Tensor) -> Tensor:
        nearest, index = distance.topk(self.neighbours, dim=-1, largest=False)
        counted = nearest.isfinite().to(rows.dtype).unsqueeze(-1)  # [B, k, 1]
        return (rows[index] * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)


def _choose(rows: int, most: int) -> Tensor:
    """Return which rows to keep, ascending: all, or a draw that depends on nothing but their number."""
    if rows <= most:
        return torch.arange(rows)
    return torch.randperm(rows, generator=generator(0, "references"))[:most].sort().values
