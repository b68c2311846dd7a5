"""A student's representation judged by the teacher's own classifier."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.errors import ConfigError
from kd.objectives.base import Objective, Read, Rows
from kd.objectives.hint import FEATURE
from kd.types import Output


class SRRL(Objective):
    """`mean (r(h_s) - h_t)^2 + mean (W_t r(h_s) + b_t - z_t)^2`, r linear and learnt, W_t and b_t the teacher's head.

    Yang et al. 2021 (ICLR, openreview ZzwDy_wiWv), feature matching and softmax regression with the L2 distance between
    logits, both weighted 1. The released connector adds batch normalisation and a ReLU, which ours leaves out: it would
    make a row's loss depend on rows whose teacher is absent.

    When to use:
        A student whose representation should serve the teacher's head as well.

    Args:
        student: its representation, a vector per row.
        teacher: what the teacher's head reads, a vector per row.
        head: path of the teacher's last linear layer.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, *, student: str = FEATURE, teacher: str = FEATURE, head: str = "head") -> None:
        super().__init__()
        self.student_reads, self.teacher_reads, self.head = (student,), (teacher, "logits"), head

    def prepare(self, student: Output, teacher: Output, network: nn.Module | None) -> None:
        own, given = student.read(self.student_reads[0]), teacher.read(self.teacher_reads[0])
        head = None if network is None else dict(network.named_modules()).get(self.head)
        if not isinstance(head, nn.Linear) or given.dim() != 2 or head.in_features != given.shape[1]:
            raise ConfigError(
                f"head: expected the teacher's linear layer that reads {self.teacher_reads[0]} "
                f"{list(given.shape[1:])}, got {self.head!r} ({type(head).__name__})"
            )
        self.projection = nn.Linear(own.shape[-1], given.shape[-1])
        # Constants: the teacher stays as it is, and a stack holds one head for every replica.
        bias = torch.zeros(head.out_features) if head.bias is None else head.bias
        self.register_buffer("weight", head.weight.detach().clone(), persistent=False)
        self.register_buffer("bias", bias.detach().clone(), persistent=False)

    def each(self, student: Read, teacher: Read, rows: Rows) -> Tensor:
        projected = self.projection(student[self.student_reads[0]])
        feature = (projected - teacher[self.teacher_reads[0]]).square().mean(dim=-1)
        judged = F.linear(projected, self.weight, self.bias)
        return feature + (judged - teacher["logits"]).square().mean(dim=-1)
