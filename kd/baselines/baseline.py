"""What the baselines have in common: what they are shown in fitting, what chooses, and how they answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]
from torch import Tensor

from kd.baselines.examples import Examples
from kd.baselines.features import Features, Reading
from kd.data.source import Source
from kd.errors import ConfigError, DataError

LEAST = float(np.finfo(np.float32).tiny)
"""Probability of a class that training never showed."""


class Baseline(ABC):
    """A classifier that is no network.

    It is fitted on one thread, so that no number of threads changes a bit. Copies show it patterns of modalities that
    no row has, as modality dropout shows a network; they hide at random, and so weaken what a gap itself tells.

    Args:
        reading: how modalities become features.
        copies: times that every training row is shown once more, with modalities dropped at random.
        drop: probability in [0, 1) that a modality is dropped from a copy; one always stays.

    Raises:
        ConfigError: a setting is out of range.
    """

    form: str
    """`linear` or `dense` features, see `Reading`."""
    chosen: str
    """What validation rows choose, in words."""

    def __init__(self, reading: Reading, *, copies: int, drop: float) -> None:
        if copies < 0:
            raise ConfigError(f"copies: expected at least 0, got {copies}")
        if not 0 <= drop < 1:
            raise ConfigError(f"drop: expected a probability in [0, 1), got {drop}")
        self.reading, self.copies, self.drop = reading, copies, drop

    @property
    def drops(self) -> bool:
        """Whether fitting shows rows with more hidden than they lack."""
        return self.copies > 0 and self.drop > 0

    def fit(
        self,
        source: Source,
        sees: Sequence[str],
        ids: Tensor,
        available: Tensor,
        validation: Tensor,
        *,
        judged: Sequence[Sequence[str]],
    ) -> Baseline:
        """Fit on the training rows that have a label; validation rows, as nature left them, choose and nothing else.

        Args:
            source: N rows, prepared.
            sees: modalities it may read.
            ids: int64, training rows.
            available: bool [N, M].
            validation: int64, rows that choose.
            judged: subsets of modalities; the score that chooses is the mean over them.

        Raises:
            ConfigError: the task is not multiclass.
            DataError: the training rows show a single class.
        """
        called = type(self).__name__.lower()
        if source.task != "multiclass":
            raise ConfigError(f"{called}: expected a multiclass task, got {source.task}; remove the baseline")
        ids = ids[source.labelled[ids]]
        if len(source.label[ids].unique()) < 2:
            raise DataError(f"{called}: expected training rows of 2 classes or more; give more rows, or stratify them")
        self.source, sees = source, [name for name in source.modalities if name in sees]
        with _pools().limit(limits=1):
            self.features = Features(source, sees, ids, available, reading=self.reading, form=self.form)
            wanted = self.features.of(validation, source.observed)
            patterns = [np.array([name in subset for name in sees]) for subset in judged]
            self._learn(self.features.of(ids, available), wanted, [wanted.under(pattern) for pattern in patterns])
        return self

    def logits(self, ids: Tensor, available: Tensor) -> Tensor:
        """Return log-probabilities [n, C] of rows under an availability bool [N, M]; an unseen class has the least."""
        with _pools().limit(limits=1):
            found, classes = self._probabilities(self.features.of(ids, available))
        full = np.full((len(ids), self.source.classes), LEAST)
        full[:, classes] = np.maximum(found, LEAST)
        return torch.from_numpy(np.log(full)).float()

    @abstractmethod
    def _learn(self, train: Examples, validation: Examples, judged: Sequence[Examples]) -> None:
        """Fit on training rows; what the whole classifier is chosen by is the mean accuracy over the judged subsets.

        Args:
            train: every row once.
            validation: as nature left the rows.
            judged: the same under each subset.
        """

    @abstractmethod
    def _probabilities(self, rows: Examples) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return [n, K] and the K classes that its columns stand for."""


@cache
def _pools() -> Any:
    """Return the process's thread pools; looking for them takes as long as a small classifier's answers."""
    return ThreadpoolController()
