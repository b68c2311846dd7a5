"""Bases of objectives that compare representations: which of either network, brought to one shape where needed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd.errors import ConfigError
from kd.objectives.base import Objective, Read, Rows
from kd.types import Output

FEATURE = "feature"
"""What is compared unless a config says otherwise: the representation after fusion."""


class Hint(Objective):
    """Base of objectives that compare one representation of the student with one of the teacher.

    Args:
        student: `feature` (after fusion), `parts` (one per modality), `logits`, or a layer's path: `encoders.a.layers`.
        teacher: the same, of the teacher.
    """

    def __init__(self, *, student: str = FEATURE, teacher: str = FEATURE) -> None:
        super().__init__()
        self.student_reads, self.teacher_reads = (student,), (teacher,)

    def each(self, student: Read, teacher: Read, rows: Rows) -> Tensor:
        return self.compare(student[self.student_reads[0]], teacher[self.teacher_reads[0]], rows)

    def compare(self, student: Tensor, teacher: Tensor, rows: Rows) -> Tensor:
        """Return the loss per sample [B] from two representations [B, ...]."""
        raise NotImplementedError

    def prepare(self, student: Output, teacher: Output, network: nn.Module | None) -> None:
        self.fit_to(student.read(self.student_reads[0]), teacher.read(self.teacher_reads[0]))

    def fit_to(self, student: Tensor, teacher: Tensor) -> None:
        """Make what the shapes [B, ...] of the two representations ask for.

        Raises:
            ConfigError: they cannot be compared.
        """


class Projected(Hint):
    """Base of hints that bring the student's channels to the teacher's by a learnt linear map.

    Channels are the last axis of vectors [B, D] and tokens [B, T, D], the second of pictures [B, D, H, W]. All other
    axes have to agree.
    """

    always = True
    """Whether there is a map where the channels agree as well."""
    projection: nn.Module

    def fit_to(self, student: Tensor, teacher: Tensor) -> None:
        own, given = (list(channels_last(x).shape[1:]) for x in (student, teacher))
        if own[:-1] != given[:-1]:
            raise ConfigError(
                f"student: {self.student_reads[0]} is {own}, the teacher's {self.teacher_reads[0]} is {given}; only "
                "the last number may differ, choose layers of one layout"
            )
        same = own[-1] == given[-1] and not self.always
        self.projection = nn.Identity() if same else nn.Linear(own[-1], given[-1])

    def compare(self, student: Tensor, teacher: Tensor, rows: Rows) -> Tensor:
        return self.gap(self.projection(channels_last(student)).flatten(1), channels_last(teacher).flatten(1))

    def gap(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss per sample [B] from representations of one size [B, D]."""
        raise NotImplementedError


def channels_last(x: Tensor) -> Tensor:
    """Return [B, ..., D] from vectors [B, D], tokens [B, T, D] or pictures [B, D, H, W]."""
    return x.movedim(1, -1) if x.dim() == 4 else x


def positions(x: Tensor) -> Tensor:
    """Return what every channel shows at every position, [B, D, P], from tokens [B, T, D] or pictures [B, D, H, W]."""
    return channels_last(x).flatten(1, -2).transpose(1, 2)


def need_positions(name: str, student: Tensor, teacher: Tensor) -> None:
    """Refuse representations without positions, or with different ones.

    Raises:
        ConfigError: which, and what to name instead.
    """
    for role, x in (("student", student), ("teacher", teacher)):
        if x.dim() not in (3, 4):
            raise ConfigError(
                f"{role}: {name} compares positions, and a vector has none; name `parts`, or a layer that gives tokens "
                "or pictures"
            )
    own, given = (list(channels_last(x).shape[1:-1]) for x in (student, teacher))
    if own != given:
        raise ConfigError(f"student: {name} compares positions, {own} with the teacher's {given}; choose layers alike")


def vectors(x: Tensor) -> Tensor:
    """Return one vector per row, [B, D]."""
    return torch.flatten(x, 1)
