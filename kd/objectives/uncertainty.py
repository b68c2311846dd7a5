"""A teacher that counts the less, the less certain it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from kd.objectives.base import Objective, Read, Rows, entropy
from kd.objectives.logit_std import inner
from kd.types import Output


class UncertaintyWeighted(Objective):
    """Another objective times `1 - H(p_t) / log C`, H the entropy of the teacher's answer to the row.

    Ours, a control: the weighting of several teachers by entropy (Kwon et al. 2020,
    doi:10.1109/ICASSP40776.2020.9054698) for one.

    Args:
        loss: any objective, as `{name: kl, temperature: 2}`.
    """

    tasks = ("multiclass",)

    def __init__(self, *, loss: Mapping[str, Any]) -> None:
        super().__init__()
        self.loss = inner(loss)
        self.replicable, self.rowwise = self.loss.replicable, self.loss.rowwise
        self.student_reads = self.loss.student_reads
        self.teacher_reads = tuple(dict.fromkeys((*self.loss.teacher_reads, "logits")))

    def prepare(self, student: Output, teacher: Output, network: nn.Module | None) -> None:
        self.loss.prepare(student, teacher, network)

    def each(self, student: Read, teacher: Read, rows: Rows) -> Tensor:
        logits = teacher["logits"]
        certainty = 1 - entropy(logits) / math.log(max(2, logits.shape[-1]))
        return certainty * self.loss.each(student, teacher, rows)
