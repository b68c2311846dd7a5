"""Batches by step: an endless shuffled stream of row ids, each step a function of (seed, step)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler

from kd.seeding import generator


class StepBatches(Sampler[Tensor]):
    """Yield `steps` batches per round; round r continues where round r - 1 ended.

    The stream is shuffled passes over the rows, one after another without a seam, so that every method compared takes
    the same number of steps whatever its number of rows. Lightning calls `set_epoch` with the round, also on resuming.

    Args:
        ids: row ids to draw from.
        batch_size: rows per batch; every batch is full.
        steps: batches per round.
        seed: of the order.
    """

    def __init__(self, ids: Tensor, *, batch_size: int, steps: int, seed: int) -> None:
        self.ids, self.batch_size, self.steps, self.seed = ids, batch_size, steps, seed
        self.round = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the round."""
        self.round = epoch

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Tensor]:
        first = self.round * self.steps * self.batch_size
        positions = torch.arange(first, first + self.steps * self.batch_size)
        rows = len(self.ids)
        passes = {int(p): self._order(int(p)) for p in torch.unique(positions // rows)}
        table = torch.stack([passes[p] for p in sorted(passes)])
        picked = table[positions // rows - min(passes), positions % rows]
        yield from self.ids[picked].split(self.batch_size)

    def _order(self, number: int) -> Tensor:
        return torch.randperm(len(self.ids), generator=generator(self.seed, "order", number))
