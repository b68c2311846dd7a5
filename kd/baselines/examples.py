"""Rows as a classifier is shown them: features by modality, and which modalities of each row are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from kd.seeding import generator
from kd.types import drop

Block: TypeAlias = "NDArray[np.float64] | sparse.csr_matrix"
"""Features of one modality, [n, F]."""


@dataclass(frozen=True, eq=False)
class Examples:
    """R examples made of n rows; a row may stand there several times, with different modalities hidden.

    Attributes:
        blocks: a modality's features each, [n, F].
        label: int [n].
        group: int [n].
        place: int [R], the row of each example.
        present: bool [R, M'].
    """

    blocks: Sequence[Block]
    label: NDArray[np.int64]
    group: NDArray[np.int64]
    place: NDArray[np.int64]
    present: NDArray[np.bool_]

    @property
    def target(self) -> NDArray[np.int64]:
        """The label of each example, [R]."""
        return self.label[self.place]

    def with_copies(self, copies: int, rate: float) -> Examples:
        """Return every example and `copies` more of it, in each of which modalities are dropped; one always stays.

        What is dropped is a function of labels and gaps, so that the same rows are always shown alike.
        """
        facts = (self.target.tobytes().hex(), self.present.tobytes().hex())
        random, present = generator(0, "copies", *facts), torch.from_numpy(self.present)
        draws = [torch.rand(len(present), 2 * present.shape[1], generator=random) for _ in range(copies)]
        shown = torch.cat([present, *(drop(present, rate, each) for each in draws)])
        return replace(self, place=np.tile(self.place, 1 + copies), present=shown.numpy())

    def under(self, pattern: NDArray[np.bool_]) -> Examples:
        """Return the same examples with only a pattern's modalities left, bool [M']."""
        return replace(self, present=self.present & pattern)

    def having(self, column: int) -> Examples:
        """Return the examples that have one modality."""
        there = self.present[:, column]
        return replace(self, place=self.place[there], present=self.present[there])

    def block(self, column: int) -> Block:
        """Return [R, F], one modality's features, of each example."""
        return self.blocks[column][self.place]

    def flagged(self) -> Block:
        """Return [R, F + M']: features, zeros where absent, and a flag for each modality that is there."""
        flags = self.present.astype(np.float64)
        shown = [_zeroed(self.block(m), flags[:, m]) for m in range(len(self.blocks))]
        if any(sparse.issparse(block) for block in shown):
            return sparse.hstack([*shown, sparse.csr_matrix(flags)]).tocsr()
        return np.hstack([*shown, flags])

    def gapped(self) -> NDArray[np.float64]:
        """Return [R, F]: features, NaN where absent. The blocks are dense."""
        return np.hstack([np.where(self.present[:, [m]], self.block(m), np.nan) for m in range(len(self.blocks))])


def _zeroed(block: Block, flag: NDArray[np.float64]) -> Block:
    return sparse.diags(flag) @ block if sparse.issparse(block) else flag[:, None] * block
