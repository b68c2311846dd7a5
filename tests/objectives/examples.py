"""Any objective of the table, ready to be called on made answers of a student and a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from kd.objectives import OBJECTIVES
from kd.objectives.base import Objective
from kd.seeding import initialise
from kd.types import Output

ROWS, CLASSES, WIDTH, PARTS = 8, 5, 6, 3
PARTS_READ = {"student": "parts", "teacher": "parts"}
SETTINGS: dict[str, dict[str, Any]] = {
    "at": PARTS_READ,
    "nst": PARTS_READ,
    "logit_std": {"loss": {"name": "kl", "temperature": 2.0}},
    "shuffled": {"loss": {"name": "kl", "temperature": 2.0}},
    "uncertainty_weighted": {"loss": {"name": "kl", "temperature": 2.0}},
}
"""What an objective cannot be built without."""


class Headed(nn.Module):
    """A teacher as far as objectives ask for it: its last layer."""

    def __init__(self, classes: int = CLASSES, width: int = WIDTH) -> None:
        super().__init__()
        self.head = nn.Linear(width, classes).double()
        with torch.no_grad():
            self.head.weight.copy_(torch.linspace(-1, 1, classes * width).view(classes, width))
            self.head.bias.copy_(torch.linspace(0, 1, classes))


def answers(rows: int = ROWS, classes: int = CLASSES, width: int = WIDTH, seed: int = 0, scale: float = 1.0) -> Output:
    """Return what a network might give, float64."""
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64) * scale

    return Output(draw(rows, classes), feature=draw(rows, width), parts=draw(rows, PARTS, width))


def labels(rows: int = ROWS, classes: int = CLASSES) -> Tensor:
    return torch.arange(rows) * 7 % classes


def prepared(
    name: str, classes: int = CLASSES, student_width: int = WIDTH, settings: Mapping[str, Any] | None = None
) -> Objective:
    """Return an objective with its defaults, what it learns drawn from a seed, in float64."""
    part = {"name": name, **SETTINGS.get(name, {}), **(settings or {})}
    objective: Objective = OBJECTIVES.build(part)
    objective.remember(ROWS)
    student, teacher = answers(2, classes, student_width), answers(2, classes)
    objective.prepare(student, teacher, Headed(classes))
    initialise(objective, 0)
    return objective.double()


def loss(
    objective: nn.Module,
    student: Output,
    teacher: Output,
    valid: Tensor | None = None,
    *,
    label: Tensor | None = None,
    labelled: Tensor | None = None,
    index: Tensor | None = None,
) -> Tensor:
    rows, classes = student.logits.shape
    valid = torch.ones(rows, dtype=torch.bool) if valid is None else valid
    known = {
        "label": labels(rows, classes) if label is None else label,
        "labelled": torch.ones(rows, dtype=torch.bool) if labelled is None else labelled,
        "index": torch.arange(rows) if index is None else index,
    }
    found: Tensor = objective(student, teacher, **known, valid=valid)
    return found


def learning(output: Output) -> list[Tensor]:
    """Make what a network gave leaves of the gradient's graph, in place, and return them."""
    found = []
    for name in ("logits", "feature", "parts"):
        leaf = getattr(output, name).detach().clone().requires_grad_()
        setattr(output, name, leaf)
        found.append(leaf)
    return found


def changed(output: Output, change: Any) -> Output:
    """Return an answer with a function applied to everything in it."""
    assert output.feature is not None
    assert output.parts is not None
    return replace(output, logits=change(output.logits), feature=change(output.feature), parts=change(output.parts))
