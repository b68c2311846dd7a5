"""Decoupled distillation: what a teacher says of the target class, and of how the others compare, weighed apart."""

from __future__ import annotations

import torch
from torch import Tensor

from kd.objectives.base import Objective, Read, Rows


def decoupled(student: Tensor, teacher: Tensor, target: Tensor, temperature: float | Tensor) -> tuple[Tensor, Tensor]:
    """Return TCKD and NCKD per row: KL of (target, rest), and KL over the classes but the target, renormalised.

    Args:
        student: logits [B, C].
        teacher: logits [B, C].
        target: int64 [B].
        temperature: one for all or one per row [B].
    """
    own, rest_own, others_own = _split(student, target, temperature)
    given, rest_given, others_given = _split(teacher, target, temperature)
    target_term = given.exp() * (given - own) + rest_given.exp() * (rest_given - rest_own)
    return target_term, (others_given.exp() * (others_given - others_own)).sum(dim=0)


def _split(logits: Tensor, target: Tensor, temperature: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return log p of the target [B], of all others together [B], and of each given that it is one of them [C, B].

    The target's place in the last has a large negative number, whose exponential is 0.
    """
    log = (logits.movedim(-1, 0) / temperature).log_softmax(dim=0)
    is_target = torch.arange(len(log), device=log.device).unsqueeze(1) == target
    lowest = torch.finfo(log.dtype).min / 4
    others = torch.where(is_target, lowest, log)
    rest = others.logsumexp(dim=0)
    return torch.where(is_target, log, 0.0).sum(dim=0), rest, torch.where(is_target, lowest, others - rest)


class DKD(Objective):
    """`T^2 (alpha TCKD + beta NCKD)` (Zhao et al. 2022, arXiv 2203.08679, equation 7).

    Deliberate differences: T^2 is in the released code, not in the equation; everything is computed from log-softmax,
    where the code is NaN in float32 at logits times 200. A row without a label takes the teacher's first class.

    When to use:
        Many classes and a confident teacher, of whose other classes `kl` hears little.

    Args:
        temperature: T > 0.
        alpha: of the target's share.
        beta: of the other classes.
    """

    rowwise = True
    tasks = ("multiclass",)
    temperature: Tensor
    alpha: Tensor
    beta: Tensor

    def __init__(self, *, temperature: float = 4.0, alpha: float = 1.0, beta: float = 8.0) -> None:
        super().__init__()
        self.number("temperature", temperature, above=0)
        self.number("alpha", alpha, least=0)
        self.number("beta", beta, least=0)

    def each(self, student: Read, teacher: Read, rows: Rows) -> Tensor:
        target = torch.where(rows.labelled, rows.label, teacher["logits"].argmax(dim=-1))
        target_term, other_term = decoupled(student["logits"], teacher["logits"], target, self.temperature)
        return self.temperature**2 * (self.alpha * target_term + self.beta * other_term)
