"""How robust each node of a study is: rate curves, Shapley values, evenness, effective robustness, patterns unseen.

A subset that a node cannot answer it answers with the training prior, so that one that sees less falls to chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from kd.config import Baseline, Node, Study
from kd.data.source import Source
from kd.errors import DataError
from kd.evaluate.equity import evenness
from kd.evaluate.patterns import was_shown
from kd.evaluate.predictions import SEPARATOR, all_subsets, answer
from kd.evaluate.rates import (
    Law,
    Numbers,
    area,
    independent,
    mean_at,
    one_stays,
    patterns,
    rate_points,
    retained,
    row_weights,
    weighted_at,
)
from kd.evaluate.robustness import effective_robustness
from kd.evaluate.shapley import EMPTY, Shapley, crossed_interval, fold_interval, shapley
from kd.study.answers import FLOAT, Answers
from kd.study.replicate import Replicate
from kd.tasks import LOWER_IS_BETTER, Task

if TYPE_CHECKING:
    from kd.study.evidence import Key, Rows

RETAINED_AT = (0.3, 0.5)
"""Missing rates at which the share of the margin that is left is printed."""
EFFECTIVE_AT = 0.5


def robustness_tables(
    study: Study,
    source: Source,
    task: Task,
    replicates: Sequence[Replicate],
    answers: Mapping[Key, Answers],
    rows: Mapping[int, Rows],
) -> dict[str, pd.DataFrame]:
    """Return the frames `robustness`, `shapley` and `patterns`; none for a source of one modality.

    Args:
        study: the config.
        source: its data.
        task: of its labels.
        replicates: what was trained.
        answers: of each node, stage and seed, folds pooled.
        rows: of each seed.
    """
    if len(source.modalities) < 2:
        return {}
    law = independent if study.mask.get("allow_empty") else one_stays
    grounds = {seed: Ground.of(source, task, [r for r in replicates if r.seed == seed], law) for seed in rows}
    scored = {key: Scored.of(own.test, grounds[key[2]]) for key, own in answers.items()}
    found, games = [], []
    for (node, stage), seeds in _by_node(scored).items():
        for seed, one in seeds.items():
            identity = {"node": node, "stage": stage, "seed": seed}
            found += [{**identity, **row} for row in one.curve_rows()]
        for row in _shapley_rows(study, seeds, rows):
            games.append({"node": node, "stage": stage, **row})
    found += _effective_rows(study, scored)
    return {
        "robustness": pd.DataFrame(found),
        "shapley": pd.DataFrame(games),
        "patterns": pattern_rows(study, source.modalities, replicates),
    }


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
        priors = [task.prior(source.label[r.split.train]).expand(len(r.split.test), -1) for r in replicates]
        every, names = all_subsets(source.modalities), source.modalities
        present, observed = patterns(every, names), source.observed[test].numpy()
        weights = {rate: row_weights(law(rate, len(names)), present, observed) for rate in rate_points(law, len(names))}
        return cls(task, source.label[test], torch.cat(priors), every, names, weights)


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
            yield _row(metric, "chance", float("nan"), chance)
            yield from (_row(metric, "rate", rate, value) for rate, value in curve.items())
            yield _row(metric, "area", float("nan"), area(list(curve), list(curve.values())))
            yield from (_row(metric, "retained", rate, value) for rate, value in kept.items())

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


def _row(metric: str, quantity: str, rate: float, value: float) -> dict[str, object]:
    return {"metric": metric, "quantity": quantity, "rate": rate, "value": value}


def _by_node(scored: Mapping[Key, Scored]) -> dict[tuple[str, str], dict[int, Scored]]:
    found: dict[tuple[str, str], dict[int, Scored]] = {}
    for (node, stage, seed), one in scored.items():
        found.setdefault((node, stage), {})[seed] = one
    return found


def _shapley_rows(study: Study, seeds: Mapping[int, Scored], rows: Mapping[int, Rows]) -> list[dict[str, object]]:
    """Return the Shapley value of each modality that the node sees with its interval, and how even they are, by metric.

    One that it does not see is worth exactly 0.
    """
    first = next(iter(seeds.values()))
    found: list[dict[str, object]] = []
    for metric in first.metrics:
        games = {seed: one.game(metric) for seed, one in seeds.items()}
        values = np.mean([game.values for game in games.values()], axis=0)
        seen = [first.ground.modalities.index(name) for name in first.sees]
        facts = {"metric": metric, "seeds": len(seeds), "n": len(first.ground.label)}
        facts |= {"game": games[next(iter(games))].game, "evenness": evenness(values[seen])}
        for place, name in zip(seen, first.sees, strict=True):
            # The orderings are the same in every seed, so more seeds do not lessen what they err.
            error = float(np.mean([game.sampling_error[place] for game in games.values()]))
            per_seed = {seed: game.rows[place] for seed, game in games.items()}
            mean, low, high = _interval(study, per_seed, rows, error)
            found.append({**facts, "modality": name, "value": mean, "low": low, "high": high, "sampling_error": error})
    return found


def _interval(
    study: Study, per_seed: Mapping[int, Numbers], rows: Mapping[int, Rows], error: float
) -> tuple[float, float, float]:
    if study.split.folds is None or len(next(iter(per_seed.values()))) == 1:
        return crossed_interval(np.stack(list(per_seed.values())), error)
    folds = [fold.mean() for s, v in per_seed.items() for fold in np.split(v, np.cumsum(rows[s].sizes)[:-1])]
    return fold_interval(np.array(folds), float(np.mean([rows[seed].overlap for seed in per_seed])), error)


def _effective_rows(study: Study, scored: Mapping[Key, Scored]) -> list[dict[str, object]]:
    """Return the effective robustness of every student in accuracy, where there are baselines enough for a line."""
    students = {edge.student for edge in study.edges.values()}
    named = {*study.nodes, *study.baselines, *study.ensembles} - students
    found = []
    for (node, stage, seed), one in scored.items():
        if "accuracy" not in one.per_row or node not in students:
            continue
        baselines = {
            other: _two(own)
            for (other, form, same), own in scored.items()
            if other in named and form == FLOAT and same == seed and own.whole
        }
        try:
            line = effective_robustness(_two(one), baselines, rows=len(one.ground.label))
        except DataError:
            continue
        row = _row("accuracy", "effective_robustness", EFFECTIVE_AT, line.residual)
        found.append({"node": node, "stage": stage, "seed": seed, **row})
    return found


def _two(one: Scored) -> tuple[float, float]:
    """Return accuracy with everything present and with half of the modalities hidden."""
    weights = one.ground.weights
    return one.at("accuracy", weights[0.0]), one.at("accuracy", weights[EFFECTIVE_AT])


def pattern_rows(study: Study, modalities: Sequence[str], replicates: Sequence[Replicate]) -> pd.DataFrame:
    """Return whether training showed each node each tested subset: a row per node, seed and subset.

    With folds, in every one of them; an ensemble was shown what each member that can answer was shown. Networks whose
    weights were given have no rows: nothing is known of their training.
    """
    every, found = all_subsets(modalities), []
    for seed in dict.fromkeys(r.seed for r in replicates):
        shown = _shown(study, every, [r for r in replicates if r.seed == seed])
        for name, ensemble in study.ensembles.items():
            if all(member in shown for member in ensemble.members):
                shown[name] = [_together(parts) for parts in zip(*(shown[m] for m in ensemble.members), strict=True)]
        for name, flags in shown.items():
            found += [
                {"node": name, "seed": seed, "subset": subset, "shown": flag}
                for subset, flag in zip(every, flags, strict=True)
                if flag is not None
            ]
    return pd.DataFrame(found, columns=["node", "seed", "subset", "shown"])


def _shown(study: Study, every: Sequence[str], folds: Sequence[Replicate]) -> dict[str, list[bool | None]]:
    """Return node or baseline -> whether training showed it each subset; None for one of which it sees nothing."""
    fitted: dict[str, Node | Baseline] = {**study.nodes, **study.baselines}
    found: dict[str, list[bool | None]] = {}
    for name, node in fitted.items():
        if not all(name in fold.patterns for fold in folds):
            continue
        drop = isinstance(node, Node) and node.drop > 0
        found[name] = [
            all(was_shown(subset, fold.patterns[name], node.sees, drop=drop) for fold in folds)
            if set(subset.split(SEPARATOR)) & set(node.sees)
            else None
            for subset in every
        ]
    return found


def _together(parts: Sequence[bool | None]) -> bool | None:
    known = [part for part in parts if part is not None]
    return all(known) if known else None
