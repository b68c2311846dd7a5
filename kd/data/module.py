"""Source, split and mask as a LightningDataModule whose order is a function of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from kd.data.mask import Mask
from kd.data.masks import MaskRequest
from kd.data.masks import complete as complete_mask
from kd.data.source import Source
from kd.data.splits import Split
from kd.data.splits import split as split_rows
from kd.data.stream import GlobalBatches, processes, shared, step_batches
from kd.errors import DataError, MaskError
from kd.record import digest
from kd.registry import suggest
from kd.seeding import generator
from kd.types import Batch, eligible

Rows = Literal["any", "complete", "labelled"]
"""Training rows of a node: with any modality it sees, with all modalities of the source, or with one and a label."""
RULES = get_args(Rows)


class BatchRows(GlobalBatches):
    """Yield row ids batch by batch; the order of epoch e is a function of (seed, e), so a resumed run repeats it.

    Args:
        ids: int64 rows to walk through, each once per epoch.
        batch_size: rows per batch, and per process where shuffled; the last one may be smaller.
        seed: of the order, each batch being shared out among the processes that train; None walks in the order of
            `ids`, every process over all rows, since a metric counts each row once.
    """

    def __init__(self, ids: Tensor, batch_size: int, seed: int | None) -> None:
        super().__init__()
        self.ids, self.batch_size, self.order_seed = ids, batch_size, seed

    @property
    def rows(self) -> int:
        """Rows of a whole batch, over all processes."""
        return self.batch_size * (1 if self.order_seed is None else processes()[1])

    def __len__(self) -> int:
        return -(-len(self.ids) // self.rows)

    def __iter__(self) -> Iterator[Tensor]:
        if self.order_seed is None:
            yield from self.ids.split(self.rows)
            return
        order = torch.randperm(len(self.ids), generator=generator(self.order_seed, "order", self.epoch))
        for batch in self.ids[order].split(self.rows):
            yield shared(batch)


class SourceRows(Dataset[Batch]):
    """Whole batches of a source: indexed by a list of row ids, never by one.

    Args:
        source: N rows.
        available: bool [N, M], what each row may show.
    """

    def __init__(self, source: Source, available: Tensor) -> None:
        self.source, self.available = source, available

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, rows: Sequence[int] | Tensor) -> Batch:
        ids = torch.as_tensor(rows)
        return self.source.batch(ids, self.available[ids])


def loader(
    source: Source, available: Tensor, ids: Tensor, *, batch_size: int = 32, seed: int | None = None, workers: int = 0
) -> DataLoader[Batch]:
    """Return a loader of whole batches over some rows, the last one partial.

    Args:
        available: bool [N, M], for all rows of the source.
        ids: int64, the rows to walk through.
        seed: of the order in each epoch; None keeps the order of `ids`.
        workers: processes that read ahead.

    Raises:
        DataError: there is no row, or the batch size is below 1.
    """
    if len(ids) == 0 or batch_size < 1:
        raise DataError(f"{source.name}: loader: {len(ids)} rows in batches of {batch_size}; give at least one of each")
    sampler = BatchRows(ids, batch_size, seed)
    return batches(source, available, sampler, workers)


def batches(source: Source, available: Tensor, sampler: Sampler[Tensor], workers: int = 0) -> DataLoader[Batch]:
    """Return a loader of the whole batches of rows that a sampler names."""
    persistent = workers > 0
    return DataLoader(
        SourceRows(source, available),
        sampler=sampler,
        batch_size=None,
        num_workers=workers,
        persistent_workers=persistent,
    )


def rows_with(source: Source, available: Tensor, ids: Tensor) -> dict[str, Tensor]:
    """Return, by modality, those of the rows `ids` that have it: what its processor may learn from.

    Args:
        available: bool [N, M].
        ids: int64, training rows.
    """
    return {name: ids[available[ids, column]] for column, name in enumerate(source.modalities)}


class DataModule(pl.LightningDataModule):
    """A source, its split and its mask, for a plain `Trainer`.

    The mask acts on training rows; validation and test batches show everything nature left.

    Args:
        source: validated here; vocabularies and categories are learnt from the training rows that have the modality.
        mask: drawn, or a request that is drawn for this source and split; None hides nothing.
        split: by default `kd.data.split(source, seed=seed)`.
        batch_size: rows per batch; the last one of an epoch is partial.
        seed: of the order of training rows and of the default split.
        workers: processes that read rows ahead; the batches are the same for any number.
        rows: training rows, `any` with at least one modality available, `complete` with all, or `labelled`.
        labelled_share: of every training batch, in (0, 1), where some rows have no label, see
            `kd.data.stream.SharedBatches`; an epoch is as many batches as its rows fill. None takes rows as they come.

    Raises:
        DataError: the source breaks a promise, or no training row is left.
        MaskError: the mask is of another source or split.

    >>> from kd.data import load_source, masks
    >>> data = DataModule(load_source("synthetic", rows=400), mask=masks.severe(complete=20))
    >>> len(data.rows_for(["m0"], "complete"))
    20
    """

    def __init__(
        self,
        source: Source,
        *,
        mask: Mask | MaskRequest | None = None,
        split: Split | None = None,
        batch_size: int = 32,
        seed: int = 0,
        rows: Rows = "any",
        workers: int = 0,
        labelled_share: float | None = None,
    ) -> None:
        super().__init__()
        self.labelled_share = labelled_share
        source.validate()
        self.split = split_rows(source, seed=seed) if split is None else split.validate(source)
        self.batch_size, self.seed, self.rows, self.workers = batch_size, seed, rows, workers
        request = complete_mask() if mask is None else mask
        drawn = request.draw(source, self.split) if isinstance(request, MaskRequest) else request
        self.mask = drawn.check(source, self.split)
        self.available = self.mask.available(source)
        """What nature left and, in training rows, the mask keeps: bool [N, M]."""
        hidden = self.mask.hide(source)
        self.source = hidden.prepare(rows_with(hidden, self.available, self.split.train))

    @property
    def modalities(self) -> list[str]:
        """Names of the source's modalities, in column order."""
        return self.source.modalities

    @property
    def data_fingerprint(self) -> str:
        """The sha256 of source and split."""
        return digest([self.source.fingerprint, self.split.fingerprint])

    @property
    def mask_fingerprint(self) -> str:
        """The sha256 of the mask."""
        return self.mask.fingerprint

    def rows_for(self, sees: Sequence[str], rows: Rows | None = None) -> Tensor:
        """Return the training ids of a node, int64, ascending.

        Args:
            sees: the node's modalities.
            rows: `any`: at least one of `sees` is available; `complete`: all modalities of the source are, whatever
                the node sees; `labelled`: one of `sees` is, and the label as well. By default the module's own.

        Raises:
            DataError: a modality or the rule is unknown.
        """
        rule = self.rows if rows is None else rows
        for name in sees:
            if name not in self.source.inputs:
                raise DataError(
                    f"{self.source.name}: unknown modality {name!r}; {suggest(str(name), self.source.inputs)}"
                )
        if rule not in RULES:
            raise DataError(f"{self.source.name}: rows: unknown rule {rule!r}; {suggest(str(rule), RULES)}")
        ids, own = self.split.train, [self.modalities.index(name) for name in sees]
        return ids[eligible(self.available[ids], rule, own, self.source.labelled[ids])]

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return training batches, shuffled by (seed, epoch), under the mask."""
        ids = self.rows_for(self.modalities)
        if len(ids) == 0:
            raise MaskError(
                f"{self.source.name}: no training row is {self.rows!r} under {self.mask.mechanism}; change one"
            )
        size, seed = self.batch_size, self.seed
        if self.labelled_share is None:
            return loader(self.source, self.available, ids, batch_size=size, seed=seed, workers=self.workers)
        labelled, steps = self.source.labelled[ids], -(-len(ids) // size)
        order = step_batches(ids, labelled, self.labelled_share, batch_size=size, steps=steps, seed=seed)
        return batches(self.source, self.available, order, self.workers)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return validation batches in fixed order, everything observed present."""
        return self._everything(self.split.validation)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return test batches in fixed order, everything observed present."""
        return self._everything(self.split.test)

    def _everything(self, ids: Tensor) -> DataLoader[Batch]:
        observed = self.source.observed
        return loader(self.source, observed, ids, batch_size=self.batch_size, workers=self.workers)
