"""A teacher that counts the less, the less certain it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from kd.objectives.base import Read, Rows, entropy
from kd.objectives.wrapper import Wrapper


class UncertaintyWeighted(Wrapper):
    """Another objective times `1 - H(p_t) / log C`, H the entropy of the teacher's answer to the row.

    Ours, a control: the weighting of several teachers by entropy (Kwon et al. 2020,
    doi:10.1109/ICASSP40776.2020.9054698) for one.

    When to use:
        A teacher that knows when it does not know, as one of few rows may; and as a control for weighing several by
        entropy.

    Args:
        loss: any objective, as `{name: kl, temperature: 2}`.
    """

    def __init__(self, *, loss: Mapping[str, Any]) -> None:
        super().__init__(loss=loss)
        self.tasks = ("multiclass",)
        self.teacher_reads = tuple(dict.fromkeys((*self.loss.teacher_reads, "logits")))

    def each(self, student: Read, teacher: Read, rows: Rows) -> Tensor:
        logits = teacher["logits"]
        certainty = 1 - entropy(logits) / math.log(max(2, logits.shape[-1]))
        return certainty * self.loss.each(student, teacher, rows)
