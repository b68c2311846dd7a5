"""Rows of numbers and categories: which are alike, and how surprising that is.

Used by `kd.data.leaks.duplicates`, which says when two rows are copies; `kd.data.leaks.comparable` makes the columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from kd.seeding import generator

DRAWN, SAMPLED, MEASURED = 2_000, 20_000, 256
"""Rows, pairs of them, and columns at most, on which it is measured how far columns depend on each other."""
QUANTILES = (0.005, 0.05)
"""Of the distances between rows, where their dimension is measured."""


@dataclass(frozen=True, eq=False)
class Columns:
    """Numbers in units of their tolerance, categories as whole numbers that are 4 units apart; NaN is a hole.

    Attributes:
        values: float64 [N, F]; two values are alike when they differ by at most 1.
    """

    values: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence[Columns]) -> Columns:
        """Return several modalities' columns side by side."""
        return cls(np.concatenate([part.values for part in parts], axis=1) if parts else np.empty((0, 0)))

    @property
    def width(self) -> int:
        """How many columns there are."""
        return self.values.shape[1]

    def at(self, rows: np.ndarray) -> Columns:
        """Return some rows."""
        return Columns(self.values[rows])

    def keys(self) -> np.ndarray:
        """Return a number per row that equal rows share, int64 [N]."""
        return _hashes(np.ascontiguousarray(self.values + 0.0))  # + 0.0: minus zero equals zero

    def filled(self, width: int) -> np.ndarray:
        """Return at most so many columns that vary, those of most variance, holes at the column's mean."""
        mean = np.nan_to_num(mean_of(self.values))
        x = np.where(np.isnan(self.values), mean, self.values) - mean
        chosen = np.argsort(-x.var(axis=0), kind="stable")[:width]
        return x[:, chosen]

    def compared(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which pairs are alike in every column that both have, bool [P], and their surprise in bits, [P]."""
        if not self.width:
            return np.ones(len(a), dtype=bool), np.zeros(len(a))
        x, y = self.values[a], self.values[b]
        alike = (np.abs(x - y) <= 1) | np.isnan(x) | np.isnan(y)
        every = alike.all(axis=1)
        bits = np.zeros(len(a))
        bits[every] = self._bits(x[every], y[every])
        return every, bits

    def _bits(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the sum over columns of -log2 of the share of other rows as close to the pair's value, [P].

        Values that are equal are compared with equal ones; the pair itself does not count.
        """
        total = np.zeros(len(x))
        for column, (ordered, told) in enumerate(zip(self._sorted, self._told, strict=True)):
            if not told:
                continue
            value, reach = x[:, column], np.where(x[:, column] == y[:, column], 0.0, 1.0)
            low = np.searchsorted(ordered, value - reach, "left")
            others = np.searchsorted(ordered, value + reach, "right") - low - 2
            share = np.minimum((np.maximum(others, 0) + 0.5) / max(len(ordered) - 1, 1), 1.0)
            total += np.where(np.isnan(value) | np.isnan(y[:, column]), 0.0, -np.log2(share))
        return total

    @cached_property
    def _sorted(self) -> list[np.ndarray]:
        return [np.sort(column[~np.isnan(column)]) for column in self.values.T]

    @cached_property
    def _told(self) -> np.ndarray:
        return np.asarray([len(column) > 0 and column[-1] > column[0] for column in self._sorted])

    def counting(self) -> float:
        """Return for how many independent columns all of them count, at most as many as vary.

        The smaller of two estimates. Columns that repeat one another count once: each is told given the one that it
        depends on most (`_independent`). Columns that are all made from a few numbers count as those few: the
        correlation dimension d of the rows, P(distance <= r) ~ r^d, the distance being the largest over columns, in
        ranks.
        """
        count = int(self._told.sum())
        if count < 2 or len(self.values) < 2:
            return float(count)
        x, (a, b) = self._drawn()
        apart = np.nan_to_num(np.abs(x[a] - x[b]))
        differ = (apart > 1).any(axis=1)  # copies say nothing about chance
        if not differ.any():
            return 1.0
        ranks = self._ranks(x)
        distances = np.nan_to_num(np.abs(ranks[a] - ranks[b])).max(axis=1)
        return count * min(_independent(apart[differ] <= 1), _dimension(distances[differ]) / count, 1.0)

    def _drawn(self) -> tuple[np.ndarray, np.ndarray]:
        """Return some rows in some columns that vary, [rows, columns], and pairs of them, int64 [2, pairs]."""
        random = generator(0, "copies", "pairs")
        rows = torch.randperm(len(self.values), generator=random)[:DRAWN].numpy()
        return self.values[np.ix_(rows, self._some)], torch.randint(len(rows), (2, SAMPLED), generator=random).numpy()

    def _ranks(self, x: np.ndarray) -> np.ndarray:
        """Return values as shares of the rows below them, so that no outlier decides what is far."""
        found = [
            np.where(np.isnan(x[:, place]), np.nan, np.searchsorted(self._sorted[column], x[:, place]))
            for place, column in enumerate(self._some.tolist())
        ]
        return np.stack(found, axis=1) / len(self.values)

    @cached_property
    def _some(self) -> np.ndarray:
        vary = np.flatnonzero(self._told)
        return vary[np.unique(np.linspace(0, len(vary) - 1, min(len(vary), MEASURED)).astype(int))]


def _independent(alike: np.ndarray) -> float:
    """Return the share of columns' surprises that is left once each is told given the one it depends on most.

    E_k says that column k of two rows is alike. With independent columns the bits of a pair add up to
    sum_k -log2 P(E_k); here each column but one is conditioned on another, along the tree of greatest savings
    (Chow & Liu 1968, doi:10.1109/TIT.1968.1054142).

    Args:
        alike: bool [pairs, columns].
    """
    alone = -np.log2((alike.sum(axis=0) + 0.5) / (len(alike) + 1.0))
    both = alike.T.astype(np.float32) @ alike.astype(np.float32)
    given = -np.log2((both + 0.5) / (alike.sum(axis=0)[None, :] + 1.0))  # [k, j]: k given j
    return float((alone.sum() - _saved(alone[:, None] - given)) / alone.sum()) if alone.sum() else 1.0


def _dimension(distances: np.ndarray) -> float:
    """Return the correlation dimension (Grassberger & Procaccia 1983, doi:10.1016/0167-2789(83)90298-1)."""
    near, far = np.quantile(distances, QUANTILES)
    if near <= 0 or far <= near:  # distances of categories are all alike, and say nothing
        return float("inf")
    return float(np.log(QUANTILES[1] / QUANTILES[0]) / np.log(far / near))


def _saved(saving: np.ndarray) -> float:
    """Return the greatest sum of savings along a tree, saving[k, j] of telling k given j."""
    from scipy.sparse.csgraph import minimum_spanning_tree

    either = np.maximum(np.minimum(saving, saving.T), 0.0)
    np.fill_diagonal(either, 0.0)
    return float(-minimum_spanning_tree(-either).sum())


def mean_of(x: np.ndarray) -> np.ndarray:
    """Return each column's mean over the values that are there, 0 where none is."""
    there = ~np.isnan(x)
    return np.where(there, x, 0.0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)


def _hashes(x: np.ndarray) -> np.ndarray:
    """Return a hash per row, int64 [N]."""
    import pandas as pd

    total = np.zeros(len(x), dtype=np.uint64)
    for column in x.T:
        total = total * np.uint64(0x9E3779B97F4A7C15) + pd.util.hash_array(np.ascontiguousarray(column))
    return total.view(np.int64)
