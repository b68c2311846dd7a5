"""The mean squared difference of two representations."""

from __future__ import annotations

from torch import Tensor

from kd.objectives.hint import Projected


class FeatureMSE(Projected):
    """Mean over features of `(h_t - r(h_s))^2`; r is linear and learnt, and there only where sizes differ.

    The hint of FitNets (arXiv 1412.6550) as most later code has it.

    When to use:
        As `fitnet`, with a weight that means the same at every width.
    """

    always = False

    def gap(self, student: Tensor, teacher: Tensor) -> Tensor:
        return (teacher - student).square().mean(dim=-1)
