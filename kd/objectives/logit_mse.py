"""Squared differences of outputs: of logits, or of the values that a regression predicts."""

from __future__ import annotations

from torch import Tensor

from kd.objectives.base import Objective, Read, Rows


class LogitMSE(Objective):
    """Mean over outputs of `(z_s - z_t)^2` (Ba & Caruana 2014, arXiv 1312.6184; Kim et al. 2021, arXiv 2105.08919).

    With K teachers, losses weighted by w_k differ from one loss to the weighted mean of their logits by a constant.

    When to use:
        For values, or where a teacher's confidence itself should be matched, with no temperature to choose.
    """

    rowwise = True

    def each(self, student: Read, teacher: Read, rows: Rows) -> Tensor:
        return (student["logits"] - teacher["logits"]).square().mean(dim=-1)
