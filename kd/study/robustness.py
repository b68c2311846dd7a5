"""How robust each node of a study is: rate curves, Shapley values, evenness, effective robustness, patterns unseen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kd.config import Study
from kd.data.source import Source
from kd.errors import DataError
from kd.evaluate.equity import evenness
from kd.evaluate.rates import Numbers, independent, one_stays
from kd.evaluate.robustness import LEAST_BASELINES, effective_robustness
from kd.evaluate.shapley import crossed_interval, fold_interval
from kd.study.answers import FLOAT, Answers
from kd.study.patterns import pattern_rows
from kd.study.replicate import Replicate
from kd.study.scored import EFFECTIVE_AT, Ground, Point, Scored, quantity_row
from kd.tasks import Task

if TYPE_CHECKING:
    from kd.study.evidence import Key, Rows


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
    found: list[dict[str, object]] = []
    games: list[dict[str, object]] = []
    points: dict[Key, Point] = {}
    # One node's scores at a time: with those of all, many nodes and seeds would not fit into memory.
    for node, stage in dict.fromkeys(key[:2] for key in answers):
        seeds = {s: Scored.of(answers[n, g, s].test, grounds[s]) for n, g, s in answers if (n, g) == (node, stage)}
        for seed, one in seeds.items():
            found += [{"node": node, "stage": stage, "seed": seed, **row} for row in one.curve_rows()]
            points |= {(node, stage, seed): one.point} if "accuracy" in one.per_row else {}
        games += [{"node": node, "stage": stage, **row} for row in _shapley_rows(study, source, seeds, rows)]
    found += _effective_rows(study, points)
    return {
        "robustness": pd.DataFrame(found),
        "shapley": pd.DataFrame(games),
        "patterns": pattern_rows(study, source.modalities, replicates),
    }


def _shapley_rows(
    study: Study, source: Source, seeds: Mapping[int, Scored], rows: Mapping[int, Rows]
) -> list[dict[str, object]]:
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
            mean, low, high = _interval(study, source, per_seed, rows, error)
            found.append({**facts, "modality": name, "value": mean, "low": low, "high": high, "sampling_error": error})
    return found


def _interval(
    study: Study, source: Source, per_seed: Mapping[int, Numbers], rows: Mapping[int, Rows], error: float
) -> tuple[float, float, float]:
    values = np.stack(list(per_seed.values()))
    if study.split.folds is None or values.shape[1] == 1:
        group = source.group[rows[next(iter(per_seed))].test].numpy() if values.shape[1] > 1 else None
        return crossed_interval(values, error, group=group)
    folds = [fold.mean() for s, v in per_seed.items() for fold in np.split(v, np.cumsum(rows[s].sizes)[:-1])]
    return fold_interval(np.array(folds), float(np.mean([rows[seed].overlap for seed in per_seed])), error)


def _effective_rows(study: Study, points: Mapping[Key, Point]) -> list[dict[str, object]]:
    """Return the effective robustness of every student, where there are baselines enough for a line."""
    students = {edge.student for edge in study.edges.values()}
    others = {*study.nodes, *study.baselines, *study.ensembles} - students
    found = []
    for (node, stage, seed), own in points.items():
        baselines = {
            name: (point.clean, point.missing)
            for (name, form, same), point in points.items()
            if name in others and form == FLOAT and same == seed and point.whole
        }
        if node not in students or len(baselines) < LEAST_BASELINES:
            continue
        try:
            line = effective_robustness((own.clean, own.missing), baselines, rows=own.rows)
        except DataError:  # all baselines alike: no line
            continue
        row = quantity_row("accuracy", "effective_robustness", EFFECTIVE_AT, line.residual)
        found.append({"node": node, "stage": stage, "seed": seed, **row})
    return found
