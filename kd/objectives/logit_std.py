"""Logits standardised before they are compared, so that a student need not match the teacher's scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from kd.errors import ConfigError
from kd.objectives.base import Read, Rows, root
from kd.objectives.wrapper import Wrapper


def standardised(logits: Tensor, unbiased: bool) -> Tensor:
    """Return each row of [B, C] with mean 0 and deviation 1; a constant row becomes zeros.

    Args:
        logits: [B, C].
        unbiased: divide the squares by C - 1 and not by C.
    """
    classes = logits.shape[-1]
    centred = logits - logits.mean(dim=-1, keepdim=True)
    deviation = root(centred.square().sum(dim=-1, keepdim=True) / max(1, classes - 1 if unbiased else classes))
    return centred / torch.where(deviation > 0, deviation, 1.0)


class LogitStandardisation(Wrapper):
    """Another objective on z-scored logits of both (Sun et al. 2024, arXiv 2403.01427, equation 12).

    The temperature is the inner objective's. The deviation is over C classes as in the paper's algorithm; the released
    code divides by C - 1.

    When to use:
        Logits of very different scale, as of teachers and students of different size; around any objective on logits.

    Args:
        loss: an objective that compares logits, as `{name: kl, temperature: 2}`.
        form: `paper`, or `code` for C - 1.
    """

    def __init__(self, *, loss: Mapping[str, Any], form: Literal["paper", "code"] = "paper") -> None:
        super().__init__(loss=loss)
        if not self.loss.compares_logits:
            raise ConfigError(f"loss: expected an objective that compares logits, got {loss['name']}")
        self.form = form

    def each(self, student: Read, teacher: Read, rows: Rows) -> Tensor:
        unbiased = self.form == "code"
        own = {"logits": standardised(student["logits"], unbiased)}
        return self.loss.each(own, {"logits": standardised(teacher["logits"], unbiased)}, rows)
