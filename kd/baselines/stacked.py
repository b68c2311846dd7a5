"""Late fusion of unimodal classifiers by a classifier of their answers: stacked generalisation."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from kd.baselines.baseline import Baseline
from kd.baselines.examples import Block, Examples
from kd.baselines.features import Reading
from kd.baselines.logistic import PENALTIES, known_penalties, regression
from kd.errors import ConfigError

FLOOR = 1e-6
"""Least probability in a unimodal answer, so that one that is surely wrong outvotes nobody for ever."""


class Stacked(Baseline):
    """A logistic regression per modality, fused by one on their logits, zeros where absent, and flags.

    The fusing one learns from answers that each unimodal one gave to training rows it was not fitted on, by
    cross-validation that keeps groups whole (Wolpert 1992). The features are those of all training rows.

    Args:
        penalties: values of C to choose from, for each classifier by its own validation accuracy.
        folds: parts of the cross-validation; fewer where no class or too few groups allow so many.
        components: see `Reading`.
        pixels: see `Reading`.
        words: see `Reading`.
        letters: see `Reading`.
        copies: see `Baseline`; they count as one row together.
        drop: see `Baseline`.
    """

    form = "linear"
    chosen = "penalties"

    def __init__(
        self,
        *,
        penalties: Sequence[float] = PENALTIES,
        folds: int = 5,
        components: int = 100,
        pixels: int = 32,
        words: int = 2,
        letters: int = 5,
        copies: int = 4,
        drop: float = 0.5,
    ) -> None:
        super().__init__(Reading(components, pixels, words, letters), copies=copies, drop=drop)
        if folds < 2:
            raise ConfigError(f"folds: expected at least 2, got {folds}")
        self.penalties, self.folds = known_penalties(penalties), folds

    def _learn(self, train: Examples, validation: Examples, judged: Sequence[Examples]) -> None:
        self.classes = np.unique(train.target)
        columns = range(len(train.blocks))
        self.single = [self._unimodal(train.having(column), validation.having(column), column) for column in columns]
        held_out = [self._held_out(train, column) for column in columns]
        shown = replace(train, blocks=held_out).with_copies(self.copies, self.drop)
        tables = [(self._answered(rows).flagged(), rows.target) for rows in judged]
        self.model = regression(shown.flagged(), shown.target, tables, self.penalties, times=1 + self.copies)

    def _probabilities(self, rows: Examples) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        return self.model.predict_proba(self._answered(rows).flagged()), self.model.classes_

    def _unimodal(self, train: Examples, validation: Examples, column: int) -> LogisticRegression | None:
        """Return the classifier of one modality; None where its rows show a single class."""
        if len(np.unique(train.target)) < 2:
            return None
        judged = [(validation.block(column), validation.target)] if len(validation.target) else []
        return regression(train.block(column), train.target, judged, self.penalties)

    def _answered(self, rows: Examples) -> Examples:
        """Return the same rows with unimodal logits as features."""
        return replace(rows, blocks=[self._logits(m, b) for m, b in zip(self.single, rows.blocks, strict=True)])

    def _logits(self, model: LogisticRegression | None, block: Block) -> NDArray[np.float64]:
        """Return log-probabilities of all classes, each row's mean taken off: 0 says nothing, as where absent."""
        if model is None:
            return np.zeros((block.shape[0], len(self.classes)))
        found = np.full((block.shape[0], len(self.classes)), FLOOR)
        found[:, np.isin(self.classes, model.classes_)] = model.predict_proba(block).clip(FLOOR)
        logits: NDArray[np.float64] = np.log(found)
        return logits - logits.mean(axis=1, keepdims=True)

    def _held_out(self, train: Examples, column: int) -> NDArray[np.float64]:
        """Return [n, C], each row's logits from a classifier that was fitted on other rows and groups."""
        rows, found = train.having(column), np.zeros((len(train.place), len(self.classes)))
        if self.single[column] is None:
            return found
        block, label = rows.block(column), rows.target
        for kept, left in _folds(label, rows.group[rows.place], self.folds):
            if len(np.unique(label[kept])) > 1:
                model = clone(self.single[column]).fit(block[kept], label[kept])
                found[rows.place[left]] = self._logits(model, block[left])
        return found


def _folds(
    label: NDArray[np.int64], group: NDArray[np.int64], folds: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return the rows to fit on and those to answer for, fold by fold; no fold where no class has two rows."""
    groups = len(np.unique(group))
    parts = min(folds, int(np.bincount(label).max()), groups)
    if parts < 2:
        return []
    make = StratifiedKFold if groups == len(label) else StratifiedGroupKFold
    cut = make(parts, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)  # it is missing from some folds
        return list(cut.split(label, label, None if groups == len(label) else group))
