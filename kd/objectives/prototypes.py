"""Where a row stands among the classes: its cosine to the mean representation of each."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.objectives.base import Read, Rows, masked_mean, unit
from kd.objectives.hint import Hint, vectors
from kd.types import Output


class ProtoKD(Hint):
    """Mean over classes of `(cos(h_s, c_s) - cos(h_t, c_t))^2`, c each network's own mean over a class's labelled rows.

    Wang et al. 2023 (arXiv 2303.09830), equations 3 to 5, with rows in the place of voxels. Classes without a labelled
    valid row in the batch are left out; a row without a label is compared with the prototypes of the others.

    When to use:
        Few classes: most should have labelled rows in every batch.
    """

    tasks = ("multiclass",)
    classes = 0

    def prepare(self, student: Output, teacher: Output, network: nn.Module | None) -> None:
        self.classes = student.read("logits").shape[-1]

    def each(self, student: Read, teacher: Read, rows: Rows) -> Tensor:
        member = F.one_hot(torch.where(rows.labelled, rows.label, 0), self.classes).bool() & rows.labelled.unsqueeze(-1)
        own, given = student[self.student_reads[0]], teacher[self.teacher_reads[0]]
        squares = (_closeness(own, member) - _closeness(given, member)).square()
        return masked_mean(squares, member.any(dim=0).expand_as(squares))


def _closeness(x: Tensor, member: Tensor) -> Tensor:
    """Return the cosine of each row to each class's mean, [B, C], from rows [B, ...] and members bool [B, C]."""
    rows = vectors(x)
    weight = member.to(rows.dtype)
    prototypes = weight.T @ rows / weight.sum(dim=0).clamp(min=1).unsqueeze(-1)
    return unit(rows) @ unit(prototypes).T
