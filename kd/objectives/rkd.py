"""Distances and angles between the rows of a batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.objectives.base import Rows, masked_mean, root, unit
from kd.objectives.hint import FEATURE, Hint, vectors


def pairs(valid: Tensor) -> Tensor:
    """Return bool [B, B]: pairs of two different valid rows."""
    different = ~torch.eye(len(valid), dtype=torch.bool, device=valid.device)
    return valid.unsqueeze(0) & valid.unsqueeze(1) & different


def distances(differences: Tensor, counted: Tensor) -> Tensor:
    """Return distances [B, B] divided by their mean over the pairs that count (equation 6)."""
    found = root(differences.square().sum(dim=-1))
    mean = masked_mean(found, counted, dim=(-2, -1))
    return found / torch.where(mean > 0, mean, 1.0)


def angles(differences: Tensor) -> Tensor:
    """Return the cosine of the angle at row j between rows i and k, as [j, i, k] (equation 8)."""
    toward = unit(differences)  # [j, i, D]: from j to i
    return toward @ toward.transpose(1, 2)


class RKD(Hint):
    """`d * mean_i huber(D_t, D_s) + a * mean_ik huber(A_t, A_s)` for row j: its distances and the angles at it.

    Park et al. 2019 (arXiv 1904.05068), equations 4 to 9; huber turns linear at 1. Means are over tuples of different
    valid rows. The released code counts tuples that name a row twice, which are 0 whatever the networks do: its mean
    over n rows is (n - 1) / n of ours for distances, (n - 1)(n - 2) / n^2 for angles.

    When to use:
        Representations that are compared by distance, as in retrieval.

    Args:
        student: a layer or output, see `kd.objectives.hint.Hint`.
        teacher: the same, of the teacher.
        distance: d, of the distances.
        angle: a, of the angles.
    """

    distance: Tensor
    angle: Tensor

    def __init__(
        self, *, student: str = FEATURE, teacher: str = FEATURE, distance: float = 1.0, angle: float = 2.0
    ) -> None:
        super().__init__(student=student, teacher=teacher)
        self.number("distance", distance, least=0)
        self.number("angle", angle, least=0)

    def compare(self, student: Tensor, teacher: Tensor, rows: Rows) -> Tensor:
        counted = pairs(rows.valid)
        own, given = (_differences(x) for x in (student, teacher))
        far = F.smooth_l1_loss(distances(own, counted), distances(given, counted), reduction="none")
        wide = F.smooth_l1_loss(angles(own), angles(given), reduction="none")
        # At row j: two others, i and k, different from it and from each other.
        triplets = counted.unsqueeze(2) & counted.unsqueeze(1) & counted.unsqueeze(0)
        return self.distance * masked_mean(far, counted) + self.angle * masked_mean(wide, triplets, dim=(-2, -1))


def _differences(x: Tensor) -> Tensor:
    """Return [j, i, D]: row i minus row j."""
    rows = vectors(x)
    return rows.unsqueeze(0) - rows.unsqueeze(1)
