"""Teachers weighed so that their gradients agree: AE-KD."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kd.errors import ConfigError
from kd.objectives.teacher_weights import Of, TeacherWeights


class GradientSpace(TeacherWeights):
    """Weights that make the combined gradient at the student's logits shortest, none above `tolerance`.

    `min ||sum_k w_k g_k||^2 / 2` for weights that add up to 1, `0 <= w_k <= C`, g_k the mean over rows of the gradient
    of teacher k's loss (Du et al. 2020, NeurIPS, "Agree to Disagree", equations 7 and 8): a direction that no teacher
    much objects to. As in the paper the problem is the dual of a one-class support vector machine, which scikit-learn
    solves. One weight vector per batch and set of teachers that saw the row; of two teachers C = 1/2 is their mean.

    When to use:
        Three teachers or more that pull in different directions. It trains one student at a time.

    Args:
        teachers: the edges' names.
        of: `losses`, which are what gradients are taken of.
        tolerance: C in (0, 1]; at least 1 / K, or it is taken as that, which weighs all alike.
    """

    replicable = False
    reads_losses = True

    def __init__(self, teachers: Sequence[str], /, *, tolerance: float = 0.6, of: Of = "losses") -> None:
        super().__init__(teachers, of=of)
        if of != "losses":
            raise ConfigError(f"of: ae_kd weighs the gradients of losses, got {of}")
        if not 0 < tolerance <= 1:
            raise ConfigError(f"tolerance: expected a number in (0, 1], got {tolerance}")
        self.tolerance = tolerance

    def weigh(self, losses: Tensor, logits: Tensor, valid: Tensor) -> Tensor:
        """Return the weights [B, K].

        Args:
            losses: [B, K], of every teacher and row, on the graph of the student's logits; 0 where not valid.
            logits: [B, C] of the student.
            valid: bool [B, K].
        """
        each = [torch.autograd.grad(loss.sum(), logits, retain_graph=True)[0] for loss in losses.unbind(dim=1)]
        gradients = torch.stack(each, dim=1).detach().double()  # [B, K, C]
        found = torch.zeros_like(losses)
        patterns, place = valid.unique(dim=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            there = pattern.nonzero().flatten()
            rows = (place == number).nonzero().flatten()
            if len(there):
                mean = gradients[rows][:, there].mean(dim=0)
                shares = torch.from_numpy(shortest((mean @ mean.T).cpu().numpy(), self.tolerance))
                found[rows.unsqueeze(1), there] = shares.to(found)
        return found


def shortest(gram: NDArray[np.float64], most: float) -> NDArray[np.float64]:
    """Return the weights of the shortest convex combination of K vectors, none above `most`.

    Args:
        gram: [K, K], the vectors' products with each other.
        most: largest weight; below 1 / K it is 1 / K.
    """
    from sklearn.svm import OneClassSVM

    count, scale = len(gram), float(np.trace(gram))
    if most * count <= 1 or not scale > 0:
        return np.full(count, 1 / count)
    # nu is the reciprocal of K times the largest weight.
    machine = OneClassSVM(kernel="precomputed", nu=min(1.0, 1 / (most * count)), tol=1e-9).fit(gram / scale * count)
    found = np.zeros(count)
    found[machine.support_] = machine.dual_coef_[0]
    return np.asarray(found / found.sum())
