"""Where a network looks: its activation's energy over positions."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from kd.objectives.base import Rows, root, unit
from kd.objectives.hint import FEATURE, Hint, need_positions, positions


class AttentionTransfer(Hint):
    """`||q_s - q_t||_2 / 2`, q the channels' sum of squares per position, scaled to length 1.

    Zagoruyko & Komodakis 2017 (arXiv 1612.03928), equation 2 with p = 2: the norm itself, not its square. The released
    code takes the mean of squares over positions.

    When to use:
        Networks with positions: pictures and sequences of one size, or `parts`, where it says which modality counts.

    Args:
        student: a layer that gives tokens or pictures, or `parts`: positions are modalities then.
        teacher: the same, of the teacher; as many positions.
        form: `paper`, or `code`.
    """

    def __init__(
        self, *, student: str = FEATURE, teacher: str = FEATURE, form: Literal["paper", "code"] = "paper"
    ) -> None:
        super().__init__(student=student, teacher=teacher)
        self.form = form

    def fit_to(self, student: Tensor, teacher: Tensor) -> None:
        need_positions("attention transfer", student, teacher)

    def compare(self, student: Tensor, teacher: Tensor, rows: Rows) -> Tensor:
        own, given = (unit(positions(x).square().sum(dim=1)) for x in (student, teacher))
        squares = (own - given).square()
        return squares.mean(dim=-1) if self.form == "code" else root(squares.sum(dim=-1)) / 2
