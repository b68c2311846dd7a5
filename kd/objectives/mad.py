"""Similarities of rows, weighed by how uncertain the teacher is of each: rows near its margins count most."""

from __future__ import annotations

from torch import Tensor

from kd.objectives.base import Objective, Read, Rows, entropy
from kd.objectives.hint import FEATURE
from kd.objectives.similarity import similarities


class MAD(Objective):
    """`b w_i sum_j (G_s - G_t)_ij^2`, w_i the teacher's entropy at row i over the entropies' sum, b the valid rows.

    The margin-aware distillation of MMANet (Wei et al. 2023, arXiv 2304.08028), G as in `sp`: the mean over the batch
    is the paper's sum over rows. The released classification code weighs columns in place of rows, by broadcasting, and
    is NaN for a confident teacher; entropies here come from log-softmax. A teacher certain of all rows gives 0.

    When to use:
        As `sp`, where the teacher's uncertain rows matter most: those between classes.

    Args:
        student: a layer or output, see `kd.objectives.hint.Hint`.
        teacher: the same, of the teacher.
    """

    tasks = ("multiclass",)

    def __init__(self, *, student: str = FEATURE, teacher: str = FEATURE) -> None:
        super().__init__()
        self.student_reads, self.teacher_reads = (student,), (teacher, "logits")

    def each(self, student: Read, teacher: Read, rows: Rows) -> Tensor:
        own, given = student[self.student_reads[0]], teacher[self.teacher_reads[0]]
        # Rows that do not count are zeros, and so are their similarities.
        squares = (similarities(own) - similarities(given)).square().sum(dim=-1)
        counted = rows.valid.to(squares.dtype)
        uncertainty = counted * entropy(teacher["logits"])
        total = uncertainty.sum()
        share = uncertainty / total.clamp(min=1e-12)
        return counted.sum() * share * squares
