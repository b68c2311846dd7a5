"""Gradient boosting on the concatenated features, for which a modality that is absent is missing values."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from kd.baselines.baseline import Baseline
from kd.baselines.examples import Examples
from kd.baselines.features import Reading
from kd.errors import ConfigError


class Boosting(Baseline):
    """Histogram gradient boosting; a split sends missing values to the side that gains more.

    Vectors go in as they are, single missing values included; pictures and texts as principal components.

    Args:
        leaves: most leaves of a tree, values to choose from by validation accuracy; the first of the best wins.
        iterations: most trees per class; the best number of them is chosen alike.
        rate: learning rate.
        bins: histogram bins per feature.
        components: see `Reading`.
        pixels: see `Reading`.
        words: see `Reading`.
        letters: see `Reading`.
        copies: see `Baseline`.
        drop: see `Baseline`.
    """

    form = "dense"
    chosen = "leaves and number of trees"

    def __init__(
        self,
        *,
        leaves: Sequence[int] = (4,),
        iterations: int = 80,
        rate: float = 0.2,
        bins: int = 31,
        components: int = 100,
        pixels: int = 32,
        words: int = 2,
        letters: int = 5,
        copies: int = 4,
        drop: float = 0.5,
    ) -> None:
        super().__init__(Reading(components, pixels, words, letters), copies=copies, drop=drop)
        if not leaves or min(leaves) < 2:
            raise ConfigError(f"leaves: expected numbers of at least 2, got {list(leaves)}")
        if iterations < 1:
            raise ConfigError(f"iterations: expected at least 1, got {iterations}")
        if rate <= 0:
            raise ConfigError(f"rate: expected a number above 0, got {rate}")
        if not 2 <= bins <= 255:
            raise ConfigError(f"bins: expected 2..255, got {bins}")
        self.leaves, self.iterations, self.rate, self.bins = list(leaves), iterations, rate, bins

    def _learn(self, train: Examples, validation: Examples, judged: Sequence[Examples]) -> None:
        shown = train.with_copies(self.copies, self.drop)
        table = shown.gapped()
        self.told = ~np.isnan(table).all(axis=0)  # scikit-learn fails at a column without any value
        fitted = [self._trees(leaves).fit(table[:, self.told], shown.target) for leaves in self.leaves]
        scores = np.mean([[self._accuracies(model, rows) for model in fitted] for rows in judged], axis=0)
        place, trees = np.unravel_index(int(scores.argmax()), scores.shape)
        self.model, self.trees = fitted[place], int(trees) + 1

    def _trees(self, leaves: int) -> HistGradientBoostingClassifier:
        return HistGradientBoostingClassifier(
            learning_rate=self.rate,
            max_iter=self.iterations,
            max_leaf_nodes=leaves,
            max_bins=self.bins,
            early_stopping=False,
            random_state=0,
        )

    def _probabilities(self, rows: Examples) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        staged = self.model.staged_predict_proba(rows.gapped()[:, self.told])
        return next(islice(staged, self.trees - 1, None)), self.model.classes_

    def _accuracies(self, model: HistGradientBoostingClassifier, rows: Examples) -> list[float]:
        """Return the accuracy after each iteration."""
        staged = model.staged_predict(rows.gapped()[:, self.told])
        return [float(np.mean(answer == rows.target)) for answer in staged]
