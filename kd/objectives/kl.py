"""Soft labels: the KL divergence from the student's softened class probabilities to the teacher's."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kd.objectives.base import Read, Rows, Softened


def kl_divergence(student: Tensor, teacher: Tensor, temperature: float | Tensor) -> Tensor:
    """Return T^2 KL(softmax(teacher / T) || softmax(student / T)) per row.

    T^2 keeps the gradient's size independent of T (Hinton 2015, section 2).

    Args:
        student: logits [B, C].
        teacher: logits [B, C].
        temperature: T > 0, one for all or one per row [B].
    """
    # Classes first: along a short last axis torch's softmax takes several times as long.
    log_student = F.log_softmax(student.movedim(-1, 0) / temperature, dim=0)
    log_teacher = F.log_softmax(teacher.movedim(-1, 0) / temperature, dim=0)
    divergence = (log_teacher.exp() * (log_teacher - log_student)).sum(dim=0)
    return temperature**2 * divergence


class KL(Softened):
    """`T^2 KL(p_t || p_s)` over classes (Hinton et al. 2015, arXiv 1503.02531).

    When to use:
        First: it needs answers only, so that teacher and student may be any networks. Temperatures of 2 to 4; higher
        ones say more of the unlikely classes.

    Args:
        temperature: T > 0; higher spreads the teacher's probability over more classes.
    """

    tasks = ("multiclass",)

    def each(self, student: Read, teacher: Read, rows: Rows) -> Tensor:
        return kl_divergence(student["logits"], teacher["logits"], self.temperature)
