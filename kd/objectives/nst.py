"""Which positions excite a neuron: the distribution of such patterns over the channels."""

from __future__ import annotations

from torch import Tensor

from kd.objectives.base import Rows, unit
from kd.objectives.hint import Hint, need_positions, positions


class NST(Hint):
    """Squared maximum mean discrepancy between the channels' patterns over positions, kernel `(x . y)^2`.

    Huang & Wang 2017 (arXiv 1707.01219), equations 2, 3 and 6 (polynomial, d = 2, c = 0); every channel's pattern has
    length 1. Numbers of channels may differ.

    When to use:
        Networks with positions whose numbers of channels differ.
    """

    def fit_to(self, student: Tensor, teacher: Tensor) -> None:
        need_positions("nst", student, teacher)

    def compare(self, student: Tensor, teacher: Tensor, rows: Rows) -> Tensor:
        own, given = unit(positions(student)), unit(positions(teacher))
        return _kernel(given, given) + _kernel(own, own) - 2 * _kernel(given, own)


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean of `(x . y)^2` over the channels x of a [B, D, P] and y of b [B, D', P]: [B]."""
    return (a @ b.transpose(1, 2)).square().mean(dim=(1, 2))
