"""Base of objectives that change what another one is given, or how much its loss counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from kd.objectives.base import Objective
from kd.types import Output


class Wrapper(Objective):
    """An objective around another, whose reads, tasks and shapes are its own.

    Args:
        loss: the other one, as `{name: kl, temperature: 2}`.
    """

    def __init__(self, *, loss: Mapping[str, Any]) -> None:
        super().__init__()
        from kd.objectives import OBJECTIVES

        self.loss: Objective = OBJECTIVES.build(loss, where="loss")
        self.replicable, self.rowwise = self.loss.replicable, self.loss.rowwise
        self.tasks = self.loss.tasks
        self.student_reads, self.teacher_reads = self.loss.student_reads, self.loss.teacher_reads

    def remember(self, rows: int) -> None:
        self.loss.remember(rows)

    def prepare(self, student: Output, teacher: Output, network: nn.Module | None) -> None:
        self.loss.prepare(student, teacher, network)


def inner_faults(arguments: Mapping[str, Any], where: str) -> list[str]:
    """Return the faults of the objective inside another."""
    from kd.objectives import OBJECTIVES

    return OBJECTIVES.faults(arguments["loss"], f"{where}.loss") if "loss" in arguments else []
