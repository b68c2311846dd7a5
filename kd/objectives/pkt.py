"""Each row's neighbours as a probability distribution."""

from __future__ import annotations

import torch
from torch import Tensor

from kd.objectives.base import Rows, unit
from kd.objectives.hint import Hint, vectors
from kd.objectives.rkd import pairs


class PKT(Hint):
    """`sum_j p_t(j | i) log (p_t(j | i) / p_s(j | i))`, p proportional to `(cos + 1) / 2` over the other valid rows.

    Passalis & Tefas 2018 (arXiv 1803.10837), equations 4 to 8 with the cosine kernel. The paper sums over all pairs, a
    row's share of which this is; the released code counts a row as its own neighbour, takes the mean over pairs and has
    no finite gradient at a row of zeros.

    When to use:
        As `rkd`, where only a row's nearest neighbours matter.
    """

    def compare(self, student: Tensor, teacher: Tensor, rows: Rows) -> Tensor:
        counted = pairs(rows.valid)
        own, given = (_log_neighbours(x, counted) for x in (student, teacher))
        return torch.where(counted, given.exp() * (given - own), 0.0).sum(dim=-1)


def _log_neighbours(x: Tensor, counted: Tensor) -> Tensor:
    """Return log p(j | i) as [i, j], 0 where the pair does not count."""
    scaled = unit(vectors(x))
    kernel = (scaled @ scaled.T + 1) / 2
    kernel = torch.where(counted, kernel.clamp(min=torch.finfo(x.dtype).eps), 0.0)
    share = kernel / kernel.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
    return torch.where(counted, torch.where(counted, share, 1.0).log(), 0.0)
