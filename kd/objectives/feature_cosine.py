"""The angle between two representations."""

from __future__ import annotations

from torch import Tensor

from kd.objectives.base import unit
from kd.objectives.hint import Projected


class FeatureCosine(Projected):
    """`1 - cos(h_t, r(h_s))`; r is linear and learnt, and there only where sizes differ.

    The cosine loss of DistilBERT (Sanh et al. 2019, arXiv 1910.01108, section 2). A zero vector has cosine 0.

    When to use:
        Representations whose length says little, as those of transformers.
    """

    always = False

    def gap(self, student: Tensor, teacher: Tensor) -> Tensor:
        return 1 - (unit(student) * unit(teacher)).sum(dim=-1)
