"""Objectives on the outputs of teacher and student (logits [B, C] -> loss [B]).

Sources: Hinton et al. 2015 (arXiv 1503.02531), Ba & Caruana 2014 (arXiv 1312.6184).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.errors import ConfigError
from kd.types import Output


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


def bernoulli_kl_divergence(student: Tensor, teacher: Tensor, temperature: float | Tensor) -> Tensor:
    """Return the mean over labels of T^2 KL between Bernoulli(sigmoid(z / T)), per row."""
    student, teacher = student.movedim(-1, 0) / temperature, teacher.movedim(-1, 0) / temperature
    positive = teacher.sigmoid() * (F.logsigmoid(teacher) - F.logsigmoid(student))
    negative = (-teacher).sigmoid() * (F.logsigmoid(-teacher) - F.logsigmoid(-student))
    return temperature**2 * (positive + negative).mean(dim=0)


class ResponseObjective(nn.Module):
    """A divergence between logits, 0 on rows that are not valid.

    Attributes:
        rowwise: a row's loss depends on that row alone, and the numbers in its buffers may be one per row.
    """

    replicable = True
    rowwise = True

    def divergence(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return one value per row [B] from logits [B, C]."""
        raise NotImplementedError

    def forward(self, student: Output, teacher: Output, *, label: Tensor, index: Tensor, valid: Tensor) -> Tensor:
        """Return the loss per sample [B]; in float32 at least, whatever the precision of the logits."""
        dtype = torch.promote_types(student.logits.dtype, torch.float32)
        # A teacher may hold NaN where it saw nothing: replaced before the product, or its gradient would be NaN too.
        teacher_logits = torch.where(valid.unsqueeze(-1), teacher.logits.to(dtype), 0.0)
        return torch.where(valid, self.divergence(student.logits.to(dtype), teacher_logits), 0.0)


class _Softened(ResponseObjective):
    temperature: Tensor

    def __init__(self, *, temperature: float = 1.0) -> None:
        super().__init__()
        if not temperature > 0:
            raise ConfigError(f"temperature: expected a number above 0, got {temperature}")
        # A buffer, so that replicas with temperatures of their own stack; in float64, so that it is the number written.
        self.register_buffer("temperature", torch.tensor(temperature, dtype=torch.float64), persistent=False)


class KL(_Softened):
    """`T^2 KL(p_t || p_s)` over classes (Hinton et al. 2015).

    Args:
        temperature: T > 0; higher spreads the teacher's probability over more classes.
    """

    def divergence(self, student: Tensor, teacher: Tensor) -> Tensor:
        return kl_divergence(student, teacher, self.temperature)


class BernoulliKL(_Softened):
    """Mean over labels of the binary `T^2 KL(p_t || p_s)`, for multilabel tasks.

    Args:
        temperature: T > 0.
    """

    def divergence(self, student: Tensor, teacher: Tensor) -> Tensor:
        return bernoulli_kl_divergence(student, teacher, self.temperature)


class SquaredError(ResponseObjective):
    """Mean over outputs of `(z_s - z_t)^2`, for regression."""

    def divergence(self, student: Tensor, teacher: Tensor) -> Tensor:
        return (student - teacher).square().mean(dim=-1)
