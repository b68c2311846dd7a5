"""What every objective is given and gives back, and the few operations that all of them need to stay finite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kd.errors import ConfigError
from kd.types import Output

Read = Mapping[str, Tensor]
"""What an objective reads of one network: name of an output or path of a layer -> [B, ...]."""


@dataclass(frozen=True)
class Rows:
    """What is known of the rows of a batch.

    Attributes:
        label: int64 [B] or float [B, C]; of unlabelled rows it may hold anything.
        labelled: bool [B], never where not valid.
        index: int64 [B], row of the source.
        valid: bool [B], rows on which this teacher counts.
    """

    label: Tensor
    labelled: Tensor
    index: Tensor
    valid: Tensor


class Objective(nn.Module):
    """One loss per sample from what a student and a teacher make of a batch.

    `valid` is a weight, never an index: rows outside it get 0, and take part in no pair and no statistic. Losses are
    computed in float32 at least, whatever the precision of the networks.

    Attributes:
        replicable: runs under `vmap`.
        rowwise: a row's loss depends on that row alone, and the numbers in its buffers may be one per row.
        tasks: kinds of label that it makes sense for.
        student_reads: outputs or layers of the student that it compares.
        teacher_reads: those of the teacher.
    """

    replicable = True
    rowwise = False
    tasks: tuple[str, ...] = ("multiclass", "multilabel", "regression")
    student_reads: tuple[str, ...] = ("logits",)
    teacher_reads: tuple[str, ...] = ("logits",)

    @property
    def compares_logits(self) -> bool:
        """Whether it reads logits of both networks, and nothing else."""
        return (self.student_reads, self.teacher_reads) == (("logits",), ("logits",))

    def each(self, student: Read, teacher: Read, rows: Rows) -> Tensor:
        """Return the loss per sample [B]; what rows outside `valid` get does not matter, as long as it is finite."""
        raise NotImplementedError

    def remember(self, rows: int) -> None:
        """Say how many rows the source has, before `prepare`; only what keeps something of every row asks."""

    def prepare(self, student: Output, teacher: Output, network: nn.Module | None) -> None:
        """Make what depends on shapes, from one answer of either network, before the first step.

        Args:
            student: its answer to a few rows.
            teacher: its answer to the same rows.
            network: the teacher itself; None where a student teaches itself.

        Raises:
            ConfigError: shapes that this objective cannot compare.
        """

    def forward(
        self, student: Output, teacher: Output, *, label: Tensor, labelled: Tensor, index: Tensor, valid: Tensor
    ) -> Tensor:
        """Return the loss per sample [B], 0 where not valid."""
        with torch.autocast(valid.device.type, enabled=False):
            own = {name: _shown(student, name, valid) for name in self.student_reads}
            given = {name: _shown(teacher, name, valid) for name in self.teacher_reads}
            each = self.each(own, given, Rows(label, labelled & valid, index, valid))
            return torch.where(valid, each, 0.0)

    def number(self, name: str, value: float, *, above: float | None = None, least: float | None = None) -> None:
        """Keep a setting as a buffer, so that replicas with numbers of their own stack; in float64, as it was written.

        Raises:
            ConfigError: it is out of range.
        """
        if above is not None and not value > above:
            raise ConfigError(f"{name}: expected a number above {above:g}, got {value}")
        if least is not None and not value >= least:
            raise ConfigError(f"{name}: expected a number of at least {least:g}, got {value}")
        self.register_buffer(name, torch.tensor(value, dtype=torch.float64), persistent=False)


class Softened(Objective):
    """Base of objectives on answers softened by a temperature, and nothing else to set.

    Args:
        temperature: T > 0; higher spreads the teacher's probability over more classes.
    """

    rowwise = True
    temperature: Tensor

    def __init__(self, *, temperature: float = 1.0) -> None:
        super().__init__()
        self.number("temperature", temperature, above=0)


def _shown(output: Output, name: str, valid: Tensor) -> Tensor:
    """Return what valid rows show, zeros elsewhere: a NaN there would reach the gradient through any product."""
    value = output.read(name)
    value = value.to(torch.promote_types(value.dtype, torch.float32))
    return torch.where(valid.view(-1, *[1] * (value.dim() - 1)), value, 0.0)


def root(square: Tensor) -> Tensor:
    """Return the square root with gradient 0 at 0, where that of `sqrt` is infinite."""
    positive = square > 0
    return torch.where(positive, torch.where(positive, square, 1.0).sqrt(), 0.0)


def unit(x: Tensor) -> Tensor:
    """Return vectors along the last axis scaled to length 1; one of length 0 stays as it is, with a finite gradient."""
    length = root(x.square().sum(dim=-1, keepdim=True))
    return x / torch.where(length > 0, length, 1.0)


def masked_mean(values: Tensor, counted: Tensor, dim: int | tuple[int, ...] = -1) -> Tensor:
    """Return the mean of what is counted along the last axes, 0 where nothing is."""
    weight = counted.to(values.dtype)
    return (values * weight).sum(dim=dim) / weight.sum(dim=dim).clamp(min=1)


def entropy(logits: Tensor) -> Tensor:
    """Return the entropy of softmax(logits) per row, in nats; from its logarithm, so that certainty gives 0."""
    log = logits.log_softmax(dim=-1)
    return -(log.exp() * log).sum(dim=-1)
