"""Which rows of a batch a network finds alike."""

from __future__ import annotations

from torch import Tensor

from kd.objectives.base import Rows, masked_mean, unit
from kd.objectives.hint import Hint, vectors


def similarities(x: Tensor) -> Tensor:
    """Return [B, B]: products of rows with each other, every row scaled to length 1; 0 with rows that are zeros."""
    x = vectors(x)
    return unit(x @ x.T)


class SP(Hint):
    """`||G_s - G_t||_F^2 / b^2`, G the rows' products with each other, each row of it scaled to length 1.

    Tung & Mori 2019 (arXiv 1907.09682), equations 1 to 4; b counts valid rows. A row's loss is the mean over its pairs.
    torchdistill 1.1.5 scales rows by their L1 norm, which the paper does not mean.

    When to use:
        Networks of any two sizes, with no map to learn; batches of 32 and more.
    """

    def compare(self, student: Tensor, teacher: Tensor, rows: Rows) -> Tensor:
        squares = (similarities(student) - similarities(teacher)).square()
        return masked_mean(squares, rows.valid.expand_as(squares))
