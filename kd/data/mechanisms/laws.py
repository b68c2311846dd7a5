"""The law behind a mask: the chance that a modality is hidden, as a function of what it depends on.

    P(m hidden) = sigmoid(a_m + strength * s),   s standardised over the training rows

s is the first principal component of a modality, or a number per class. Everything in a law is fitted to training rows;
`chance` is then a function of any row, so that one process covers the rows that train and the rows that test.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kd.data.source import Source
from kd.errors import MaskError

LABEL = "label"
"""What a law reads that depends on the class."""
ROWS_TO_SOLVE = 20_000
"""Rows, evenly spread over the training rows, on which a rate's intercept is solved."""
STEPS, REACH = 60, 40.0
"""Halvings of the interval that an intercept is looked for in, and its half width, in units of the logit."""


@dataclass(frozen=True, eq=False)
class Principal:
    """A modality's first principal component, s(x) = (((x - mean) / scale) @ direction - centre) / spread.

    Attributes:
        mean: of each feature over the training rows that have the modality, float64 [D].
        scale: their standard deviation, 1 where that is 0.
        direction: unit vector [D]; its largest loading is positive, so that the sign is the same on every machine.
        centre: mean of the component over the same rows.
        spread: its standard deviation, 1 where that is 0.
    """

    mean: Tensor
    scale: Tensor
    direction: Tensor
    centre: Tensor
    spread: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return s, float64 [B], of rows [B, ...]; holes stand at the mean."""
        filled = torch.nan_to_num(x.double().flatten(1) - self.mean)
        return (filled / self.scale @ self.direction - self.centre) / self.spread

    @property
    def linear(self) -> tuple[Tensor, Tensor]:
        """Return w [D] and b with s(x) = w x + b where nothing is missing."""
        weights = self.direction / self.scale / self.spread
        return weights, -(self.mean @ weights) - self.centre / self.spread


@dataclass(frozen=True, eq=False)
class PerClass:
    """A number per class, s(y) = values[y], standardised over the training rows' labels.

    Attributes:
        values: float64 [C].
    """

    values: Tensor

    def __call__(self, label: Tensor) -> Tensor:
        """Return s, float64 [B], of labels int64 [B]."""
        return self.values[label]


@dataclass(frozen=True, eq=False)
class Law:
    """P(hidden) of one modality.

    Attributes:
        reads: the modality whose value it depends on, or `label`.
        score: s.
        strength: log odds per unit of s.
        intercept: a, solved for the rate on training rows.
    """

    reads: str
    score: Principal | PerClass
    strength: float
    intercept: float

    def chance(self, x: Tensor) -> Tensor:
        """Return P(hidden | x), float64 [B], for rows [B, ...] of what the law reads."""
        return torch.sigmoid(self.intercept + self.strength * self.score(x))

    def of_rows(self, source: Source, rows: Tensor) -> Tensor:
        """Return P(hidden) of a source's rows, float64 [n]; a row that nature left without what is read has s = 0."""
        return torch.sigmoid(self.intercept + self.strength * scores(self.score, self.reads, source, rows))


def law(
    source: Source, train: Tensor, column: int, reads: str, score: Principal | PerClass, *, strength: float, rate: float
) -> Law:
    """Return the law whose mean chance over the training rows that have the modality in `column` is the rate."""
    seen = source.observed[train, column]
    logit = strength * scores(score, reads, source, train)
    return Law(reads, score, strength, _intercept(logit[seen], rate))


def scores(score: Principal | PerClass, reads: str, source: Source, rows: Tensor) -> Tensor:
    """Return s of a source's rows, float64 [n]; 0 where nature left nothing to read."""
    if reads == LABEL:
        return score(source.label[rows])
    there = source.observed[rows, source.modalities.index(reads)]
    found = torch.zeros(len(rows), dtype=torch.float64)
    found[there] = score(_vectors(source, reads)[rows[there]])
    return found


def principal(source: Source, name: str, train: Tensor, mechanism: str) -> Principal:
    """Fit a modality's standardised first principal component to the training rows that have it.

    Raises:
        MaskError: the modality holds no numbers; it names the mechanism.
    """
    held = source.inputs[name]
    if not isinstance(held, Tensor) or not held.is_floating_point():
        raise MaskError(
            f"{source.name}: {mechanism}: {name!r} holds no numbers to tell rows apart by; name a modality of vectors"
        )
    there = source.observed[train, source.modalities.index(name)]
    x = held[train[there]].double().flatten(1)
    mean = x.nanmean(dim=0)
    x = torch.nan_to_num(x - mean)
    spread = x.std(dim=0)
    scale = torch.where(spread > 0, spread, 1.0)
    x = x / scale
    _, _, directions = torch.linalg.svd(x.T @ x if x.shape[1] <= len(x) else x, full_matrices=False)
    direction = directions[0] * directions[0][directions[0].abs().argmax()].sign()
    return Principal(mean, scale, direction, *_moments(x @ direction))


def per_class(source: Source, train: Tensor, random: torch.Generator) -> PerClass:
    """Draw a number for each class, and standardise it over the training rows' labels."""
    drawn = torch.randn(source.classes, generator=random).double()
    centre, spread = _moments(drawn[source.label[train]])
    return PerClass((drawn - centre) / spread)


def _vectors(source: Source, name: str) -> Tensor:
    held = source.inputs[name]
    assert isinstance(held, Tensor)
    return held


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation, 1 in place of 0."""
    spread = x.std()
    return x.mean(), torch.where(spread > 0, spread, 1.0)


def _intercept(logit: Tensor, rate: float) -> float:
    """Return a with mean sigmoid(a + logit) = rate, by bisection; the mean rises with a."""
    if not len(logit):
        return 0.0
    some = logit[torch.linspace(0, len(logit) - 1, min(len(logit), ROWS_TO_SOLVE)).long()]
    low, high = -REACH - float(some.abs().max()), REACH + float(some.abs().max())
    for _ in range(STEPS):
        middle = (low + high) / 2
        if float(torch.sigmoid(middle + some).mean()) < rate:
            low = middle
        else:
            high = middle
    return (low + high) / 2
