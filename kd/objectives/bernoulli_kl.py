"""Soft labels where a row may have any of several labels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kd.objectives.base import Read, Rows, Softened


def bernoulli_kl_divergence(student: Tensor, teacher: Tensor, temperature: float | Tensor) -> Tensor:
    """Return the mean over labels of T^2 KL between Bernoulli(sigmoid(z / T)), per row."""
    student, teacher = student.movedim(-1, 0) / temperature, teacher.movedim(-1, 0) / temperature
    positive = teacher.sigmoid() * (F.logsigmoid(teacher) - F.logsigmoid(student))
    negative = (-teacher).sigmoid() * (F.logsigmoid(-teacher) - F.logsigmoid(-student))
    return temperature**2 * (positive + negative).mean(dim=0)


class BernoulliKL(Softened):
    """Mean over labels of the binary `T^2 KL(p_t || p_s)` (Hinton et al. 2015, arXiv 1503.02531, per label).

    When to use:
        Where a row has several labels: what `kl` is for classes.

    Args:
        temperature: T > 0.
    """

    tasks = ("multilabel",)

    def each(self, student: Read, teacher: Read, rows: Rows) -> Tensor:
        return bernoulli_kl_divergence(student["logits"], teacher["logits"], self.temperature)
