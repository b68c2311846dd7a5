"""One node's answers at one stage and seed, scored at every missing rate and for every coalition of modalities.

A subset that a node cannot answer it answers with the training prior, so that one that sees less falls to chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from kd.data.source import Source
from kd.evaluate.predictions import SEPARATOR, all_subsets, answer
from kd.evaluate.rates import Law, Numbers, area, mean_at, patterns, rate_points, retained, row_weights, weighted_at
from kd.evaluate.shapley import EMPTY, Shapley, shapley
from kd.study.replicate import Replicate
from kd.tasks import LOWER_IS_BETTER, Task

RETAINED_AT = (0.3, 0.5)
"""Missing rates at which the share of the margin that is left is printed."""
EFFECTIVE_AT = 0.5
"""Missing rate of effective robustness."""


@dataclass
class Ground:
    """What all nodes of one seed have in common.

    Attributes:
        task: of the labels.
        label: of the test rows.
        prior: [N, C], the constant answer; where there are folds, each row's own training rows gave it.
        every: the tested subsets.
        modalities: of the source.
        weights: rate -> chance of each answer for each row, [1 + K, N].
    """

    task: Task
    label: Tensor
    prior: Tensor
    every: list[str]
    modalities: list[str]
    weights: dict[float, Numbers]

    @classmethod
    def of(cls, source: Source, task: Task, replicates: Sequence[Replicate], law: Law) -> Ground:
        """Return the ground of one seed from its replicates, one for each fold."""
        test = torch.cat([r.split.test for r in replicates])
        every, names = all_subsets(source.modalities), source.modalities
        present, observed = patterns(every, names), source.observed[test].numpy()
        weights = {rate: row_weights(law(rate, len(names)), present, observed) for rate in rate_points(law, len(names))}
        return cls(task, source.label[test], prior_of_rows(source, task, replicates), every, names, weights)


@dataclass(frozen=True)
class Point:
    """Where a node lies in the plane of effective robustness.

    Attributes:
        clean: accuracy with everything present.
        missing: with half of the modalities hidden.
        whole: whether it answers every subset itself.
        rows: test rows behind both.
    """

    clean: float
    missing: float
    whole: bool
    rows: int


@dataclass
class Scored:
    """One node's answers at one stage and seed, scored.

    Attributes:
        ground: of its seed.
        logits: [1 + K, N, C], the constant answer first.
        sees: modalities that change its answers.
        whole: whether it answers every subset itself.
    """

    ground: Ground
    logits: Tensor
    sees: list[str]
    whole: bool

    @classmethod
    def of(cls, logits: Mapping[str, Tensor], ground: Ground) -> Scored:
        """Take a node's logits on the subsets it can answer."""
        own = [answer(dict(logits), subset) for subset in ground.every]
        stacked = torch.stack([ground.prior, *(ground.prior if one is None else one for one in own)])
        known = {name for key in logits for name in key.split(SEPARATOR)}
        sees = [name for name in ground.modalities if name in known]
        return cls(ground, stacked, sees, all(one is not None for one in own))

    @cached_property
    def per_row(self) -> dict[str, Numbers]:
        """Metric -> [1 + K, N] for the metrics that are means over rows."""
        label = self.ground.label
        repeated = label.repeat(len(self.logits), *[1] * (label.dim() - 1))
        scores = self.ground.task.row_scores(self.logits.flatten(0, 1), repeated)
        return {name: values.double().reshape(len(self.logits), -1).numpy() for name, values in scores.items()}

    @property
    def metrics(self) -> list[str]:
        """Metrics that have a curve: the primary one, and those that are means over rows, whose mixture is cheap."""
        return list(dict.fromkeys([self.ground.task.primary, *self.per_row]))

    def at(self, metric: str, weights: Numbers) -> float:
        """Return a metric where each answer has the chance given."""
        if metric in self.per_row:
            return mean_at(self.per_row[metric], weights)
        return weighted_at(metric, self.ground.task, self.logits, self.ground.label, weights)

    @property
    def point(self) -> Point:
        """Its two accuracies for effective robustness."""
        clean, missing = (self.at("accuracy", self.ground.weights[rate]) for rate in (0.0, EFFECTIVE_AT))
        return Point(clean, missing, self.whole, len(self.ground.label))

    def curve_rows(self) -> Iterator[dict[str, object]]:
        """Return the rows of the frame `robustness`: chance, curve, area and retained performance by metric."""
        only_prior = np.zeros(self.logits.shape[:2])
        only_prior[0] = 1
        for metric in self.metrics:
            chance = self.at(metric, only_prior)
            curve = {rate: self.at(metric, weights) for rate, weights in self.ground.weights.items()}
            lower, clean = metric in LOWER_IS_BETTER, curve[0.0]
            kept = {
                rate: retained(curve[rate], clean=clean, chance=chance, lower_is_better=lower)
                for rate in RETAINED_AT
                if rate in curve
            }
            yield quantity_row(metric, "chance", float("nan"), chance)
            yield from (quantity_row(metric, "rate", rate, value) for rate, value in curve.items())
            yield quantity_row(metric, "area", float("nan"), area(list(curve), list(curve.values())))
            yield from (quantity_row(metric, "retained", rate, value) for rate, value in kept.items())

    def game(self, metric: str) -> Shapley:
        """Return the Shapley values of a metric; what gets lower as a model gets better counts as a loss."""
        if metric in self.per_row:
            worth = self.per_row[metric]
        else:
            each = [self._alone(metric, place) for place in range(len(self.logits))]
            worth = np.array(each)[:, None]
        sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
        return shapley(sign * worth, [EMPTY, *self.ground.every], self.ground.modalities)

    def _alone(self, metric: str, place: int) -> float:
        weights = np.zeros(self.logits.shape[:2])
        weights[place] = 1
        return self.at(metric, weights)


def prior_of_rows(source: Source, task: Task, replicates: Sequence[Replicate]) -> Tensor:
    """Return [N, C], the constant answer to the test rows of one seed; each fold's own training rows give it."""
    priors = [task.prior(source.label[r.split.train]).expand(len(r.split.test), -1) for r in replicates]
    return torch.cat(priors)


def quantity_row(metric: str, quantity: str, rate: float, value: float) -> dict[str, object]:
    """Return a row of the frame `robustness`, but for node, stage and seed."""
    return {"metric": metric, "quantity": quantity, "rate": rate, "value": value}
