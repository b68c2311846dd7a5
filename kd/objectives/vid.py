"""How much of the teacher's layer the student's tells: a Gaussian bound on their mutual information."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.objectives.base import Rows
from kd.objectives.hint import FEATURE, Projected, channels_last

LEAST_VARIANCE = 1e-5
"""The epsilon below the learnt variance; the paper leaves its size open, this is the released code's."""
FIRST_VARIANCE = 5.0
"""At which it starts, as in the released code."""


class VID(Projected):
    """`sum over features of log s_c + (t - m(h_s))^2 / (2 s_c^2)`, m linear, s_c learnt per channel.

    Ahn et al. 2019 (arXiv 1904.05835), equations 4 to 6, `s_c^2 = softplus(a_c) + epsilon`. The released code takes the
    mean over features, and m of three layers.

    When to use:
        A teacher that knows more than its student can: features out of reach get a wide variance, and count less.

    Args:
        student: a layer or output, see `kd.objectives.hint.Hint`.
        teacher: the same, of the teacher.
        form: `paper`, or `code` for the mean over features.
    """

    raw: Tensor

    def __init__(
        self, *, student: str = FEATURE, teacher: str = FEATURE, form: Literal["paper", "code"] = "paper"
    ) -> None:
        super().__init__(student=student, teacher=teacher)
        self.form = form

    def fit_to(self, student: Tensor, teacher: Tensor) -> None:
        super().fit_to(student, teacher)
        self.raw = nn.Parameter(torch.empty(channels_last(teacher).shape[-1]))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set every variance to where it starts."""
        nn.init.constant_(self.raw, float(torch.tensor(FIRST_VARIANCE - LEAST_VARIANCE).expm1().log()))

    def compare(self, student: Tensor, teacher: Tensor, rows: Rows) -> Tensor:
        mean, target = self.projection(channels_last(student)), channels_last(teacher)
        variance = F.softplus(self.raw) + LEAST_VARIANCE
        each = ((variance.log() + (target - mean).square() / variance) / 2).flatten(1)
        return each.mean(dim=-1) if self.form == "code" else each.sum(dim=-1)
