"""Whole batches of row ids: an endless shuffled stream by step, and the parts of one batch that processes share."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, distributed
from torch.utils.data.distributed import DistributedSampler

from kd.errors import DataError
from kd.seeding import generator


class GlobalBatches(DistributedSampler[Tensor]):
    """Base of samplers that yield whole batches and, among several processes, share each of them out themselves.

    Lightning puts every sampler that is no `DistributedSampler` into one that deals its items out in turn and repeats
    some of them; ours are one, so they stay as they are. Ranks are asked for when batches are drawn, since a loader may
    be made before the processes meet.
    """

    def __init__(self) -> None:
        # Not the base's: it wants a data set and a process group, and deals out rows.
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, or round; Lightning calls this before each one, also on resuming."""
        self.epoch = epoch


def processes() -> tuple[int, int]:
    """Return (rank, number of processes that train together)."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def shared(rows: Tensor) -> Tensor:
    """Return this process's rows of a global batch, never none: of fewer rows than processes each takes all.

    Parts differ by one row at most; the loss weighs them by their size (`kd.distill.module`), so that the student is
    the one that a single process with the whole batch would train.
    """
    rank, world = processes()
    return rows if len(rows) < world else rows.tensor_split(world)[rank]


class StepBatches(GlobalBatches):
    """Yield `steps` batches per round; round r continues where round r - 1 ended.

    The stream is shuffled passes over the rows, one after another without a seam, so that every method compared takes
    the same number of steps whatever its number of rows.

    Args:
        ids: row ids to draw from.
        batch_size: rows per batch and process; every batch is full.
        steps: batches per round.
        seed: of the order.
    """

    def __init__(self, ids: Tensor, *, batch_size: int, steps: int, seed: int) -> None:
        super().__init__()
        self.ids, self.batch_size, self.steps, self.seed = ids, batch_size, steps, seed

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Tensor]:
        for batch in self.round():
            yield shared(batch)

    def round(self) -> Tensor:
        """Return the rows of this epoch's steps, int64 [steps, rows of a batch of all processes]."""
        return self._drawn(self.ids, self.size, "order")

    @property
    def size(self) -> int:
        """Rows of a batch of all processes."""
        return self.batch_size * processes()[1]

    def _drawn(self, ids: Tensor, size: int, name: str) -> Tensor:
        """Return int64 [steps, size]: this epoch's part of the shuffled passes over some rows."""
        wanted, rows = self.steps * size, len(ids)
        number, skipped = divmod(self.epoch * wanted, rows)
        orders = [
            torch.randperm(rows, generator=generator(self.seed, name, number + later))
            for later in range(-(-(skipped + wanted) // rows))
        ]
        return ids[torch.cat(orders)[skipped : skipped + wanted]].view(self.steps, size)


class SharedBatches(StepBatches):
    """The same, each batch shared out between labelled rows and rows without a label, at one ratio.

    As rows come, a batch of few labelled among many holds hardly a label; semi-supervised training fixes their ratio
    (FixMatch, Sohn et al. 2020, arXiv 2001.07685). Both kinds are streams of their own, and lie evenly in a batch, so
    that each process and each accumulated batch has its share of them.

    Args:
        labelled: row ids to draw from.
        others: row ids of the other kind.
        share: of labelled rows in a batch, in (0, 1), rounded to rows; at least one of each kind.
        batch_size: at least 2.
        steps: batches per round.
        seed: of the order.

    Raises:
        DataError: the share or the batch leaves one kind out.
    """

    def __init__(
        self, labelled: Tensor, others: Tensor, *, share: float, batch_size: int, steps: int, seed: int
    ) -> None:
        if not shares_out(share, batch_size):
            got = f"got {share} of {batch_size}"
            raise DataError(f"labelled_share: expected a share in (0, 1) of batches of at least 2 rows, {got}")
        super().__init__(torch.cat([labelled, others]), batch_size=batch_size, steps=steps, seed=seed)
        self.labelled, self.others, self.share = labelled, others, share

    def round(self) -> Tensor:
        own = min(max(round(self.share * self.size), 1), self.size - 1)
        kinds = (self.labelled, own, "labelled"), (self.others, self.size - own, "others")
        rows = torch.cat([self._drawn(ids, size, name) for ids, size, name in kinds], dim=1)
        evenly = torch.cat([(torch.arange(size) + 0.5) / size for _, size, _ in kinds])
        return rows[:, evenly.argsort(stable=True)]


def shares_out(share: float, batch_size: int) -> bool:
    """Say whether a share in (0, 1) of a batch leaves room for rows of both kinds."""
    return 0 < share < 1 and batch_size > 1


def step_batches(
    ids: Tensor, labelled: Tensor, share: float | None, *, batch_size: int, steps: int, seed: int
) -> StepBatches:
    """Return the stream over some rows: as they come, or with a share of labelled ones where there are both kinds.

    Args:
        ids: row ids to draw from.
        labelled: bool, of each of them.
        share: of labelled rows in a batch, see `SharedBatches`; None takes rows as they come.
        batch_size: rows per batch and process.
        steps: batches per round.
        seed: of the order.
    """
    if share is None or bool(labelled.all()) or not bool(labelled.any()):
        return StepBatches(ids, batch_size=batch_size, steps=steps, seed=seed)
    own, others = ids[labelled], ids[~labelled]
    return SharedBatches(own, others, share=share, batch_size=batch_size, steps=steps, seed=seed)
