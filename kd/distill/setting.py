"""One replicate's data, as every node trained in it sees them."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from kd.config import Baseline, Node
from kd.data.module import loader, rows_with
from kd.errors import MaskError
from kd.record import digest
from kd.types import Batch, eligible

if TYPE_CHECKING:
    from kd.data.mask import Mask
    from kd.data.source import Source
    from kd.data.splits import Split

ROWS_AT_ONCE = 256
"""Rows per batch where nothing is trained, few enough for pictures; no result depends on it."""


@dataclass(frozen=True)
class Fingerprints:
    """What of a replicate's data decides a training, without the data.

    Attributes:
        data: of the source, as the mask changes it where that hides single values.
        processors: modality -> digest of what was learnt from its training rows.
        split: of the rows.
        mask: of the mask.
        seed: of the replicate.
    """

    data: str
    processors: dict[str, str]
    split: str
    mask: str
    seed: int


@dataclass
class Setting:
    """One replicate's data: the same for every node trained in it.

    Attributes:
        source: prepared, see `of`.
        split: of its rows.
        mask: drawn for both.
        seed: of the replicate.
        learnt_from: modality -> training rows that its vocabulary or its categories were learnt from.
    """

    source: Source
    split: Split
    mask: Mask
    seed: int
    learnt_from: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, source: Source, split: Split, mask: Mask, seed: int) -> Setting:
        """Prepare a source: what its columns have to learn, they learn from training rows that have the modality."""
        rows = rows_with(source, mask.available(source), split.train)
        prepared = mask.hide(source).prepare(rows)
        return cls(prepared, split, mask, seed, {name: rows[name] for name in prepared.processors})

    @cached_property
    def available(self) -> Tensor:
        """bool [N, M]: what nature left and the mask keeps."""
        return self.mask.available(self.source)

    @property
    def fingerprints(self) -> Fingerprints:
        """What identifies these data."""
        processors = {modality: processor.digest for modality, processor in self.source.processors.items()}
        source, mask = self.source.fingerprint, self.mask.fingerprint
        # Hidden labels change no input: which they are, the mask's fingerprint tells.
        data = digest([source, mask]) if self.mask.cells else source
        return Fingerprints(data, processors, self.split.fingerprint, mask, self.seed)

    def rows(self, ids: Tensor, available: Tensor) -> Batch:
        """Return rows as one batch under an availability given for all N rows."""
        return self.source.batch(ids, available[ids])

    def chunks(self) -> Iterator[Batch]:
        """Return every row of the source, in order, as the mask shows it, in batches."""
        for ids in torch.arange(len(self.source)).split(ROWS_AT_ONCE):
            yield self.rows(ids, self.available)


def training_rows(node: Node | Baseline, setting: Setting, teachers: Sized = ()) -> Tensor:
    """Return ids of the training rows a node or a baseline learns from.

    Args:
        node: what learns.
        setting: its data.
        teachers: those it has; without any, a row whose label is hidden teaches nothing and is left out.

    Raises:
        MaskError: there is none.
    """
    own = [setting.source.modalities.index(modality) for modality in node.sees]
    ids = setting.split.train
    useful = eligible(setting.available[ids], node.rows, own, setting.source.labelled[ids])
    if not teachers:
        useful &= setting.source.labelled[ids]
    if not bool(useful.any()):
        raise MaskError(
            f"mask: no training row is left for a node that sees {', '.join(node.sees)} on rows={node.rows}; "
            "lower the missing rate or keep more complete rows"
        )
    return ids[useful]


def validation(setting: Setting) -> DataLoader[Batch]:
    """Return every validation row once, as nature left it."""
    return loader(setting.source, setting.source.observed, setting.split.validation, batch_size=ROWS_AT_ONCE)
