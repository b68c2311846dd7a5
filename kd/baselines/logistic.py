"""Logistic regression on features made in the usual way of each kind.

What a row lacks is zeros in the features of that modality, with a flag that says so.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from kd.baselines.baseline import Baseline
from kd.baselines.examples import Block, Examples
from kd.baselines.features import Reading
from kd.errors import ConfigError

PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0)
"""Values of C to choose from."""


class Logistic(Baseline):
    """Multinomial logistic regression on the features of its modalities.

    Args:
        penalties: values of C to choose from, by validation accuracy; the smallest of the best wins.
        components: see `Reading`.
        pixels: see `Reading`.
        words: see `Reading`.
        letters: see `Reading`.
        copies: see `Baseline`; they count as one row together, so that C means the same with any number of them.
        drop: see `Baseline`.
    """

    form = "linear"
    chosen = "penalty"

    def __init__(
        self,
        *,
        penalties: Sequence[float] = PENALTIES,
        components: int = 100,
        pixels: int = 32,
        words: int = 2,
        letters: int = 5,
        copies: int = 4,
        drop: float = 0.5,
    ) -> None:
        super().__init__(Reading(components, pixels, words, letters), copies=copies, drop=drop)
        self.penalties = known_penalties(penalties)

    def _learn(self, train: Examples, validation: Examples, judged: Sequence[Examples]) -> None:
        shown = train.with_copies(self.copies, self.drop)
        tables = [(rows.flagged(), rows.target) for rows in judged]
        self.model = regression(shown.flagged(), shown.target, tables, self.penalties, times=1 + self.copies)

    def _probabilities(self, rows: Examples) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        return self.model.predict_proba(rows.flagged()), self.model.classes_


def known_penalties(penalties: Sequence[float]) -> list[float]:
    """Return penalties that are there and above 0.

    Raises:
        ConfigError: they are not.
    """
    if not penalties or min(penalties) <= 0:
        raise ConfigError(f"penalties: expected numbers above 0, got {list(penalties)}")
    return list(penalties)


def regression(
    table: Block,
    label: NDArray[np.int64],
    judged: Sequence[tuple[Block, NDArray[np.int64]]],
    penalties: Sequence[float],
    *,
    times: int = 1,
) -> LogisticRegression:
    """Return the logistic regression whose penalty has the best accuracy, the mean over the judged tables.

    From the strongest penalty to the weakest, each fit starts where the one before ended: the same optimum sooner.

    Args:
        table: [R, F].
        label: [R].
        judged: tables and labels of validation rows, one pair per subset.
        penalties: values of C; the smallest of the best wins, of all where nothing is judged.
        times: how often each row stands in the table.
    """
    model, fitted = LogisticRegression(max_iter=2000, warm_start=True), []
    for penalty in sorted(penalties):
        fitted.append(copy.deepcopy(model.set_params(C=penalty / times).fit(table, label)))
    scores = [np.sum([model.score(*rows) for rows in judged]) for model in fitted]
    return fitted[int(np.argmax(scores))]
