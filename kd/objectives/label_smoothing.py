"""Soft labels without a teacher: the control that tells whether a gain needs one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.errors import ConfigError
from kd.objectives.base import Objective, Read, Rows
from kd.objectives.kl import kl_divergence


class LabelSmoothing(Objective):
    """`T^2 KL(u || p_s)`, u the label with a share spread over all classes, softened by T; the teacher is not asked.

    On an edge it counts on the rows of that edge's teacher, so that it differs from distillation in nothing but what is
    taught. Szegedy et al. 2016 (arXiv 1512.00567) at T = 1; the virtual teacher of Yuan et al. 2020 (arXiv 1909.11723).
    A row without a label gets 0.

    When to use:
        As a control: a gain that this has too is not the teacher's.

    Args:
        smoothing: share in (0, 1] that is spread over all classes.
        temperature: T > 0.
    """

    rowwise = True
    tasks = ("multiclass",)
    teacher_reads = ()
    smoothing: Tensor
    temperature: Tensor

    def __init__(self, *, smoothing: float = 0.1, temperature: float = 1.0) -> None:
        super().__init__()
        if not 0 < smoothing <= 1:
            raise ConfigError(f"smoothing: expected a share in (0, 1], got {smoothing}")
        self.number("smoothing", smoothing)
        self.number("temperature", temperature, above=0)

    def each(self, student: Read, teacher: Read, rows: Rows) -> Tensor:
        logits = student["logits"]
        classes = logits.shape[-1]
        label = torch.where(rows.labelled, rows.label, 0)
        one_hot = F.one_hot(label, classes).to(logits.dtype).movedim(-1, 0)
        taught = (1 - self.smoothing) * one_hot + self.smoothing / classes
        each = kl_divergence(logits, taught.log().movedim(0, -1), self.temperature)
        return torch.where(rows.labelled, each, 0.0)
