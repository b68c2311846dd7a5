"""Copies and near copies: pairs of rows that no split should separate.

Two rows are a pair when they share an observed modality and are alike in every one that they share:

- numbers: each column within 1% of its spread, the scale on which rounding, another export or a resampling moves a
  value; a picture: each of its 16 x 16 x 3 averaged colours within 4 of 255 levels;
- categories: equal; text: the same words whatever their case, order and punctuation, or nearly all of them (Jaccard).

Coarse data hold equal rows by chance, so a pair counts only when it is surprising. Its surprise is the sum over columns
of -log2 P(another row is as close to this value), times the share of columns that count where they depend on each
other; it must exceed 2 log2(N) + 10 bits. Among the N^2 / 2 pairs of N independent rows one is then expected in two
thousand data sets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import numpy as np
import torch

from kd.data.leaks.comparable import comparable
from kd.data.leaks.likeness import Columns
from kd.data.leaks.wordsets import WordSets
from kd.data.source import Source
from kd.data.splits import Split
from kd.errors import LeakError
from kd.seeding import generator

SPARE_BITS = 10.0
"""Surprise beyond 2 log2(N), where the number of chance pairs that is expected is a half: 2^-10 of that is left."""
ROWS_AT_MOST = 200_000
"""Rows that are looked at; of more, so many are drawn, the same ones every time."""
PATTERNS_AT_MOST = 32
"""Sets of shared modalities that are looked at, those with most rows first."""
NEIGHBOURS, DIRECTIONS, WIDTH = 8, 5, 256
"""Nearest rows compared with each row, in so many directions, made from so many columns at most."""
CHUNK = 4096
"""Pairs compared at once."""


@dataclass(frozen=True)
class Copies:
    """What was found in a source.

    Attributes:
        pairs: int64 [P, 2], rows of different groups, ascending.
        rows: how many rows were looked at.
        notes: what was not looked at, and why.
    """

    pairs: np.ndarray
    rows: int
    notes: list[str] = field(default_factory=list)

    def across(self, split: Split) -> np.ndarray:
        """Return the pairs that lie in two parts of a split, int64 [P, 2]; rows in no part do not count."""
        part = np.full(int(self.pairs.max(initial=0)) + 1, -1)
        for number, ids in enumerate((split.train, split.validation, split.test)):
            inside = ids.numpy()[ids.numpy() < len(part)]
            part[inside] = number
        first, second = part[self.pairs[:, 0]], part[self.pairs[:, 1]]
        return self.pairs[(first != second) & (first >= 0) & (second >= 0)]


_FOUND: WeakKeyDictionary[Source, Copies] = WeakKeyDictionary()


def copies(source: Source) -> Copies:
    """Return the pairs of rows of different groups that are copies or near copies; looked for once per source.

    Of a set of equal rows each later one is paired with the first, which suffices to tell that a split divides them.
    """
    if source not in _FOUND:
        _FOUND[source] = _look(source)
    return _FOUND[source]


def refuse_copies(source: Source, split: Split) -> None:
    """Do nothing when no part of a split holds a copy of another part's row.

    Raises:
        LeakError: naming two such rows, how many pairs there are, and the fix.
    """
    pairs = copies(source).across(split)
    if len(pairs):
        first, second = (int(row) for row in pairs[0])
        raise LeakError(
            f"data.{source.name}: {source.named(first)} ({_part(split, first)}) and {source.named(second)} "
            f"({_part(split, second)}) are copies or near copies of each other, the first of {len(pairs)} such pairs; "
            "give both one group or remove one, or set duplicates: allow"
        )


def _part(split: Split, row: int) -> str:
    return next(name for name in ("train", "validation", "test") if bool((getattr(split, name) == row).any()))


def _look(source: Source) -> Copies:
    rows, notes = _rows(source)
    parts = {name: comparable(value, rows, notes, name) for name, value in source.inputs.items()}
    shared = _shared_sets(source.observed.numpy()[rows], notes)
    found = [_pairs(source, rows, parts, names) for names in shared]
    pairs = np.unique(np.concatenate([np.empty((0, 2), np.int64), *found]), axis=0)
    return Copies(pairs, len(rows), notes)


def _rows(source: Source) -> tuple[np.ndarray, list[str]]:
    if len(source) <= ROWS_AT_MOST:
        return np.arange(len(source)), []
    chosen = torch.randperm(len(source), generator=generator(0, "copies"))[:ROWS_AT_MOST].sort().values
    return chosen.numpy(), [f"{ROWS_AT_MOST} of {len(source)} rows were compared, drawn at random"]


def _shared_sets(observed: np.ndarray, notes: list[str]) -> list[np.ndarray]:
    """Return which modalities pairs of rows may share, bool [M] each: all meets of two patterns of gaps."""
    patterns, counts = np.unique(observed, axis=0, return_counts=True)
    if len(patterns) > 2 * PATTERNS_AT_MOST:
        patterns = patterns[np.argsort(-counts, kind="stable")[: 2 * PATTERNS_AT_MOST]]
    meets = np.unique((patterns[:, None] & patterns[None]).reshape(-1, observed.shape[1]), axis=0)
    meets = meets[meets.any(axis=1)]
    reach = np.asarray([(observed | ~meet).all(axis=1).sum() for meet in meets])
    if len(meets) > PATTERNS_AT_MOST:
        notes.append(f"{len(meets) - PATTERNS_AT_MOST} rare patterns of gaps were not compared")
    return list(meets[np.argsort(-reach, kind="stable")[:PATTERNS_AT_MOST]])


def _pairs(source: Source, rows: np.ndarray, parts: dict[str, Columns | WordSets], shared: np.ndarray) -> np.ndarray:
    """Return the pairs, as rows of the source, that share exactly these modalities and are alike in them."""
    observed = source.observed.numpy()[rows]
    own = np.flatnonzero((observed | ~shared).all(axis=1))
    if len(own) < 2:
        return np.empty((0, 2), np.int64)
    names = [name for name, inside in zip(source.inputs, shared, strict=True) if inside]
    numbers = Columns.joined([part.at(own) for name in names if isinstance(part := parts[name], Columns)])
    texts = [part.at(own) for name in names if isinstance(part := parts[name], WordSets)]
    group = source.group.numpy()[rows[own]]
    near = _candidates(numbers, texts, len(own))
    near = near[group[near[:, 0]] != group[near[:, 1]]]
    # Pairs that share more are compared in all they share, where that set has its turn.
    near = near[((observed[own[near[:, 0]]] & observed[own[near[:, 1]]]) == shared).all(axis=1)]
    alike = _surprising(numbers, texts, near, len(own))
    return np.sort(rows[own[near[alike]]], axis=1)


def _candidates(numbers: Columns, texts: Sequence[WordSets], rows: int) -> np.ndarray:
    """Return pairs worth comparing, int64 [P, 2]: equal rows with the first of them, and each one's nearest."""
    keys = [part.keys() for part in ([numbers] if numbers.width else []) + list(texts)]
    _, first, which = np.unique(np.stack(keys, axis=1), axis=0, return_index=True, return_inverse=True)
    equal = np.stack([first[which.reshape(-1)], np.arange(rows)], axis=1)
    found = [equal[equal[:, 0] != equal[:, 1]]]
    if numbers.width:
        found.append(first[_nearest(numbers.at(first))])
    for text in texts:
        found.append(first[text.at(first).candidates()])
    pairs = np.concatenate(found)
    return np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)


def _nearest(numbers: Columns) -> np.ndarray:
    """Return each row with its nearest ones within the tolerance, looked for along the directions of most variance."""
    from scipy.spatial import cKDTree

    scaled = numbers.filled(WIDTH)
    if len(scaled) < 2:
        return np.empty((0, 2), np.int64)
    directions = np.linalg.eigh(np.cov(scaled, rowvar=False).reshape(scaled.shape[1], -1))[1][:, ::-1][:, :DIRECTIONS]
    # Where no column moves by more than 1, a projection moves by no more than the sum of its loadings.
    projected = scaled @ directions / np.abs(directions).sum(axis=0)
    distance, other = cKDTree(projected).query(
        projected, k=min(NEIGHBOURS + 1, len(scaled)), p=np.inf, distance_upper_bound=1.0 + 1e-6
    )
    row, place = np.nonzero(np.isfinite(distance))
    return np.stack([row, other[row, place]], axis=1)


def _surprising(numbers: Columns, texts: Sequence[WordSets], pairs: np.ndarray, rows: int) -> np.ndarray:
    """Return which pairs are alike, and more so than chance allows: bool [P]."""
    alike, bits, told = np.zeros(len(pairs), dtype=bool), np.zeros(len(pairs)), np.zeros(len(pairs))
    for start in range(0, len(pairs), CHUNK):
        place = slice(start, start + CHUNK)
        a, b = pairs[place].T
        alike[place], bits[place] = numbers.compared(a, b)
        for text in texts:
            same, own = text.compared(a, b)
            alike[place], told[place] = alike[place] & same, told[place] + own
    if not alike.any():
        return alike
    surprise = bits * numbers.counting() / max(numbers.width, 1) + told
    return np.asarray(alike & (surprise > 2 * math.log2(rows) + SPARE_BITS))
