"""Correlation instead of divergence: what a much stronger teacher says, up to scale and shift."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kd.objectives.base import Objective, Read, Rows


def pearson(a: Tensor, b: Tensor, counted: Tensor, dim: int) -> Tensor:
    """Return the correlation of a and b along an axis over what is counted; 0, and no gradient, where one is constant.

    Args:
        a: any shape.
        b: of the same shape.
        counted: bool, broadcast to it.
        dim: axis.
    """
    weight = counted.to(a.dtype)
    total = weight.sum(dim=dim, keepdim=True).clamp(min=1)
    a, b = (weight * (x - (weight * x).sum(dim=dim, keepdim=True) / total) for x in (a, b))
    first, second = a.square().sum(dim=dim), b.square().sum(dim=dim)
    # What rounding leaves of a constant is no variance.
    least = (8 * torch.finfo(a.dtype).eps) ** 2
    varies = (first > least) & (second > least)
    length = torch.where(varies, first, 1.0).sqrt() * torch.where(varies, second, 1.0).sqrt()
    return torch.where(varies, (a * b).sum(dim=dim) / length, 0.0)


class DIST(Objective):
    """`beta (1 - r of the row over classes) + gamma (1 - mean over classes of r over rows)` on softmax(z / T).

    Huang et al. 2022 (arXiv 2205.10536), equations 5, 8 and 9; r is Pearson's. The second term is of the batch, and
    every valid row has it. A constant has correlation 0 and gets no gradient, where the released code adds 1e-8.

    When to use:
        A teacher much larger or much surer than its student: proportions must agree, values need not. Batches should
        hold several rows of most classes.

    Args:
        temperature: T > 0.
        beta: of the relation between classes.
        gamma: of the relation between rows.
        form: `paper`, or `code` for the released code's factor T^2 on both terms.
    """

    tasks = ("multiclass",)
    temperature: Tensor
    beta: Tensor
    gamma: Tensor

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        beta: float = 1.0,
        gamma: float = 1.0,
        form: Literal["paper", "code"] = "paper",
    ) -> None:
        super().__init__()
        self.number("temperature", temperature, above=0)
        self.number("beta", beta, least=0)
        self.number("gamma", gamma, least=0)
        self.form = form

    def each(self, student: Read, teacher: Read, rows: Rows) -> Tensor:
        own = (student["logits"] / self.temperature).softmax(dim=-1)
        given = (teacher["logits"] / self.temperature).softmax(dim=-1)
        between_classes = 1 - pearson(own, given, torch.ones_like(own, dtype=torch.bool), dim=-1)
        between_rows = 1 - pearson(own, given, rows.valid.unsqueeze(-1), dim=0).mean()
        scale = self.temperature**2 if self.form == "code" else 1.0
        return scale * (self.beta * between_classes + self.gamma * between_rows)
