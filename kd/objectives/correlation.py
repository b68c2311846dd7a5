"""How much rows of a batch are alike, under a kernel that sees more than their angle."""

from __future__ import annotations

import math

from torch import Tensor

from kd.errors import ConfigError
from kd.objectives.base import Rows, masked_mean, unit
from kd.objectives.hint import FEATURE, Hint, vectors


class CC(Hint):
    """`||K_s - K_t||_F^2 / b^2`, K a Gaussian kernel of the rows, scaled to length 1, by its Taylor series.

    Peng et al. 2019 (arXiv 1904.01802), equations 7 and 11: `K(x, y) = sum_p exp(-2 g) (2 g)^p / p! (x . y)^p` for p
    from 0 to `order`, which is the series of `exp(-g ||x - y||^2)` for vectors of length 1. b counts valid rows. Public
    code differs from the paper and from each other: the root of the sum, rows not scaled, or only neighbouring rows.

    When to use:
        As `sp`, where neighbours should matter more than rows far apart.

    Args:
        student: a layer or output, see `kd.objectives.hint.Hint`.
        teacher: the same, of the teacher.
        gamma: g > 0.
        order: highest power, at least 1.
    """

    gamma: Tensor

    def __init__(self, *, student: str = FEATURE, teacher: str = FEATURE, gamma: float = 0.4, order: int = 2) -> None:
        super().__init__(student=student, teacher=teacher)
        self.number("gamma", gamma, above=0)
        if order < 1:
            raise ConfigError(f"order: expected at least 1, got {order}")
        self.order = order

    def compare(self, student: Tensor, teacher: Tensor, rows: Rows) -> Tensor:
        squares = (self.kernel(student) - self.kernel(teacher)).square()
        return masked_mean(squares, rows.valid.expand_as(squares))

    def kernel(self, x: Tensor) -> Tensor:
        """Return K [B, B] of rows [B, ...]."""
        scaled = unit(vectors(x))
        product, g = scaled @ scaled.T, self.gamma.to(x.dtype)
        terms = [(2 * g) ** p / float(math.factorial(p)) * product**p for p in range(self.order + 1)]
        return (-2 * g).exp() * sum(terms[1:], terms[0])
