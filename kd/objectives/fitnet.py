"""Hints: a layer of the student, mapped linearly, tells what a layer of the teacher holds."""

from __future__ import annotations

from torch import Tensor

from kd.objectives.hint import Projected


class FitNet(Projected):
    """`||h_t - r(h_s)||^2 / 2`, r a learnt linear map (Romero et al. 2015, arXiv 1412.6550, equation 3).

    Summed over all features, as in the paper; r is per position, a 1 x 1 convolution on pictures.

    When to use:
        Beside `kl`, where the teacher's representation is worth having. It grows with the teacher's width: its weight
        must shrink with it.
    """

    def gap(self, student: Tensor, teacher: Tensor) -> Tensor:
        return (teacher - student).square().sum(dim=-1) / 2
