"""What each modality contributes: Shapley values of the game whose worth is a model's score on a subset.

    phi_m = sum_{S without m} |S|! (M - |S| - 1)! / M! (v(S + m) - v(S)),   sum_m phi_m = v(all) - v(none)

(Shapley 1953). v(none) is the score of the constant training prior; a subset that a model cannot answer is worth the
same. The value is linear in v, so a score that is a mean over rows has one Shapley value per row, and an interval over
rows. Up to 8 modalities every coalition is there; beyond, fixed random orderings are averaged (Castro, Gomez & Tejada
2009, doi:10.1016/j.cor.2008.04.004) and the error of that is stated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

from kd.distill.view import ENUMERATED, orderings
from kd.evaluate.predictions import SEPARATOR
from kd.statistics.crossed import by_group
from kd.statistics.intervals import crossed_difference, fold_difference, mean_interval

Numbers = NDArray[np.float64]

EMPTY = ""
"""The coalition of nobody."""
MASKED, RETRAINED = "one model under masks", "retrained per subset"
"""What plays the game: one network that is shown less, or another network for every subset (protocol 10)."""


@dataclass(frozen=True)
class Shapley:
    """Shapley values of modalities.

    Attributes:
        rows: [M, R], per modality and row.
        sampling_error: [M], standard error of the mean over rows by sampled orderings; 0 where all coalitions count.
        game: `one model under masks` or `retrained per subset`.
    """

    rows: Numbers
    sampling_error: Numbers
    game: str

    @property
    def values(self) -> Numbers:
        """[M], the means over rows."""
        return np.asarray(self.rows.mean(axis=1))


def shapley(worth: Numbers, coalitions: Sequence[str], modalities: Sequence[str], *, game: str = MASKED) -> Shapley:
    """Return the Shapley value of every modality and row.

    Args:
        worth: [K, R], of each coalition on each row, higher is better.
        coalitions: K subsets, `""` and those of `kd.evaluate.predictions.all_subsets`, in any order.
        modalities: M names.
        game: whether one model answered every coalition or another one was trained for each.

    >>> shapley(np.array([[0.0], [1.0], [1.0], [3.0]]), ["", "a", "b", "a+b"], ["a", "b"]).values
    array([1.5, 1.5])
    """
    if len(modalities) <= ENUMERATED:
        return Shapley(exact_weights(coalitions, modalities) @ worth, np.zeros(len(modalities)), game)
    weights = ordering_weights(coalitions, modalities, orderings(modalities))
    each = weights @ worth.mean(axis=1)
    return Shapley(weights.mean(axis=0) @ worth, each.std(axis=0, ddof=1) / np.sqrt(len(each)), game)


def exact_weights(coalitions: Sequence[str], modalities: Sequence[str]) -> Numbers:
    """Return [M, K], the weights of the worths in the Shapley values; every one of the 2^M coalitions is needed."""
    count = len(modalities)
    found = np.empty((count, len(coalitions)))
    for column, coalition in enumerate(coalitions):
        members = _members(coalition)
        size = len(members)
        for row, name in enumerate(modalities):
            inside = name in members
            found[row, column] = (1 if inside else -1) / (count * comb(count - 1, size - inside))
    return found


def ordering_weights(
    coalitions: Sequence[str], modalities: Sequence[str], orders: Sequence[Sequence[str]]
) -> NDArray[np.float64]:
    """Return [P, M, K]: per ordering, the worth of what a modality joins is taken from the worth with it."""
    column = {_members(coalition): place for place, coalition in enumerate(coalitions)}
    found = np.zeros((len(orders), len(modalities), len(coalitions)))
    for place, order in enumerate(orders):
        for size, name in enumerate(order):
            row = list(modalities).index(name)
            found[place, row, column[frozenset(order[: size + 1])]] += 1
            found[place, row, column[frozenset(order[:size])]] -= 1
    return found


def _members(coalition: str) -> frozenset[str]:
    return frozenset(filter(None, coalition.split(SEPARATOR)))


def crossed_interval(
    per_seed: Numbers, sampling_error: float = 0.0, *, group: NDArray[np.int64] | None = None
) -> tuple[float, float, float]:
    """Return mean and 95% interval of a value per seed and row, both random and crossed; new rows, new trainings.

    One seed says nothing of training randomness: its interval is over rows alone; two to four give none. A score
    without rows, [S, 1], has a t interval over seeds. The error of sampled orderings adds in squares.

    Args:
        per_seed: [S, R].
        sampling_error: standard error of the mean by sampled orderings.
        group: [R]; rows of one group stay together.
    """
    seeds, rows = per_seed.shape
    if rows == 1:
        mean, low, high = mean_interval(per_seed[:, 0])
    elif seeds == 1:
        mean, units = float(per_seed.mean()), by_group(per_seed, group)
        half = 1.96 * float(units.std(ddof=1)) / np.sqrt(units.shape[1])
        low, high = mean - half, mean + half
    else:
        found = crossed_difference(per_seed, margin=0.0, group=group)
        mean, low, high = found.estimate, found.low, found.high
    half = float(np.hypot((high - low) / 2, 1.96 * sampling_error))
    return mean, mean - half, mean + half


def fold_interval(means: Numbers, overlap: float, sampling_error: float = 0.0) -> tuple[float, float, float]:
    """Return mean and 95% interval of a value per seed and fold, corrected for training rows that folds share.

    Args:
        means: [n], n >= 2.
        overlap: n_test / n_train.
        sampling_error: standard error of the mean by sampled orderings.
    """
    found = fold_difference(means, overlap, margin=0.0)
    half = float(np.hypot((found.high - found.low) / 2, 1.96 * sampling_error))
    return found.estimate, found.estimate - half, found.estimate + half
