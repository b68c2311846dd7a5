"""Contrast: a row's two representations belong together, those of different rows do not."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.errors import ConfigError
from kd.objectives.base import Objective, Read, Rows, unit
from kd.objectives.hint import FEATURE, vectors
from kd.types import Output


class CRD(Objective):
    """`-log h(t_i, s_i) - sum_j log(1 - h(t_j, s_i))`, `h(t, s) = e^(t.s/T) / (e^(t.s/T) + N/M)`.

    Tian et al. 2020 (arXiv 1910.10699), equations 10 to 12 and 19, the student's row against the teacher's; t and s are
    learnt linear maps of the representations, scaled to length 1. N negatives j come from a memory of the M rows that
    the teacher was seen on so far, by default all others; fewer are drawn for each row and step from `seed`. The memory
    holds the teacher's own representations, which are frozen, and maps them anew: the released code keeps mapped ones,
    which age, estimates a constant from its first batch, and adds the teacher's row against the student's.

    When to use:
        Many rows, and representations that should tell each from all others. It keeps all of the teacher's rows and
        trains one student at a time.

    Args:
        student: its representation.
        teacher: the teacher's.
        width: of the two maps.
        temperature: T > 0.
        negatives: N; by default every other row of the memory.
        seed: of the draws.
    """

    replicable = False
    memory: Tensor
    seen: Tensor
    drawn: Tensor
    temperature: Tensor

    def __init__(
        self,
        *,
        student: str = FEATURE,
        teacher: str = FEATURE,
        width: int = 64,
        temperature: float = 0.1,
        negatives: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if width < 1 or (negatives is not None and negatives < 1):
            raise ConfigError(f"expected width and negatives of at least 1, got {width} and {negatives}")
        self.student_reads, self.teacher_reads = (student,), (teacher,)
        self.width, self.negatives, self.seed, self.rows = width, negatives, seed, 0
        self.number("temperature", temperature, above=0)

    def remember(self, rows: int) -> None:
        """Say how many rows the source has, before `prepare`."""
        self.rows = rows

    def prepare(self, student: Output, teacher: Output, network: nn.Module | None) -> None:
        if self.rows < 1:
            raise ConfigError("crd remembers the source's rows; tell it how many there are, objective.remember(rows)")
        own, given = vectors(student.read(self.student_reads[0])), vectors(teacher.read(self.teacher_reads[0]))
        self.of_student, self.of_teacher = (nn.Linear(x.shape[1], self.width) for x in (own, given))
        # In the checkpoint: a resumed training remembers what it has seen.
        self.register_buffer("memory", torch.zeros(self.rows, given.shape[1], dtype=given.dtype))
        self.register_buffer("seen", torch.zeros(self.rows, dtype=torch.bool))
        self.register_buffer("drawn", torch.zeros((), dtype=torch.int64))

    def each(self, student: Read, teacher: Read, rows: Rows) -> Tensor:
        own, given = vectors(student[self.student_reads[0]]), vectors(teacher[self.teacher_reads[0]])
        self._keep(given, rows)
        anchor, positive = unit(self.of_student(own)), unit(self.of_teacher(given))
        bank = unit(self.of_teacher(self.memory.to(given.dtype)))
        counted = self._negatives(rows.index)
        number = counted.sum(dim=1)
        ratio = (number.clamp(min=1).to(own.dtype) / self.seen.sum().clamp(min=1)).log()
        close = (anchor * positive).sum(dim=1) / self.temperature
        far = anchor @ bank.T / self.temperature - ratio.unsqueeze(1)
        found = F.softplus(ratio - close) + torch.where(counted, F.softplus(far), 0.0).sum(dim=1)
        return torch.where(number > 0, found, 0.0)

    @torch.no_grad()
    def _keep(self, given: Tensor, rows: Rows) -> None:
        places = rows.index[rows.valid]
        self.memory[places] = given[rows.valid].to(self.memory.dtype)
        self.seen[places] = True

    def _negatives(self, index: Tensor) -> Tensor:
        """Return bool [B, rows]: what each row is told apart from."""
        others = self.seen.unsqueeze(0) & (torch.arange(self.rows, device=index.device) != index.unsqueeze(1))
        if self.negatives is None or not len(index):
            return others
        self.drawn += 1
        random = torch.Generator().manual_seed(self.seed + int(self.drawn))
        # A draw for every pair of rows, so that a row's negatives do not hang on which others are in the batch.
        order = torch.rand(self.rows, generator=random).to(index.device)
        place = (order.unsqueeze(0) + order[index].unsqueeze(1) * 0.6180339887498949) % 1.0
        chosen = torch.where(others, place, 2.0).argsort(dim=1)[:, : self.negatives]
        return others & torch.zeros_like(others).scatter(1, chosen, True)
