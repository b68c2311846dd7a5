"""A regression's teacher taken as a noisy measurement, the noise of every output learnt."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.objectives.base import Objective, Read, Rows
from kd.types import Output

LEAST_VARIANCE = 1e-5


class GaussianNLL(Objective):
    """Mean over outputs of `((z_s - z_t)^2 / v + log v) / 2` (Kendall & Gal 2017, arXiv 1703.04977, equation 5).

    v is learnt, one per output, the same for all rows; it starts at 1. Where the teacher is far off, v grows and the
    teacher counts less.

    When to use:
        For values, where a teacher is good at some outputs and poor at others.
    """

    tasks = ("regression",)
    raw: Tensor

    def prepare(self, student: Output, teacher: Output, network: nn.Module | None) -> None:
        self.raw = nn.Parameter(torch.empty(student.read("logits").shape[-1]))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set v to 1."""
        nn.init.constant_(self.raw, float(torch.tensor(1.0).expm1().log()))

    def each(self, student: Read, teacher: Read, rows: Rows) -> Tensor:
        variance = F.softplus(self.raw) + LEAST_VARIANCE
        squared = (student["logits"] - teacher["logits"]).square()
        return ((squared / variance + variance.log()) / 2).mean(dim=-1)
