"""Every two methods of a study on the same test rows: their difference, its interval and verdict.

It describes; nothing is tested, so there is no p. What a study means to show it declares in `contrasts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from kd.config import Study
from kd.data.source import Source
from kd.distill.graph import order
from kd.study.answers import FLOAT, Answers
from kd.study.contrasts import Compared, correctness, difference_of, score_name
from kd.tasks import Task

if TYPE_CHECKING:
    from kd.study.evidence import Key, Rows

COLUMNS = ["method", "baseline", "over", "metric", "seeds", "estimate", "low", "high", "verdict"]
Scores = dict[str, dict[int, NDArray[np.float64]]]
"""Method -> seed -> [R], its score on each test row."""


def pairs(
    study: Study,
    answers: Mapping[Key, Answers],
    every: list[str],
    source: Source,
    splits: Mapping[int, Rows],
    task: Task,
) -> pd.DataFrame:
    """Return a row per two methods that answer all subsets in question, method minus baseline, over seeds both have.

    The method stands before the baseline in the order of nodes (teachers first), baselines and ensembles. Methods that
    do not see all modalities are compared on complete rows only.
    """
    found = []
    for over, chosen in {"complete": every[-1:], "mean over subsets": every}.items():
        scores = method_scores(study, answers, chosen, source, splits, task)
        for method, baseline in combinations(scores, 2):
            seeds = [seed for seed in scores[method] if seed in scores[baseline]]
            if not seeds:
                continue
            table = np.stack([scores[method][seed] - scores[baseline][seed] for seed in seeds])
            compared = Compared.on(table, study, source, {seed: splits[seed] for seed in seeds})
            difference = difference_of(study, compared)
            found.append(
                {
                    "method": method,
                    "baseline": baseline,
                    "over": over,
                    "metric": score_name(task),
                    "seeds": len(seeds),
                    **{field: getattr(difference, field) for field in ("estimate", "low", "high", "verdict")},
                }
            )
    # Numbers even where there is no pair, or a sweep's table would hold objects for them.
    return pd.DataFrame(found, columns=COLUMNS).astype(dict.fromkeys(("estimate", "low", "high"), float))


def method_scores(
    study: Study,
    answers: Mapping[Key, Answers],
    chosen: list[str],
    source: Source,
    splits: Mapping[int, Rows],
    task: Task,
) -> Scores:
    """Return the scores per seed and row, the mean over the chosen subsets, of methods that answer all of these."""
    found: Scores = {}
    # An order that does not hang on the YAML's, which changes no bit of any result.
    for name in [*order(study), *sorted(study.baselines), *sorted(study.ensembles)]:
        for seed, rows in splits.items():
            if (name, FLOAT, seed) not in answers:
                continue
            own = correctness(answers[name, FLOAT, seed].test, chosen, source.label[rows.test], task)
            if len(own) == len(chosen):
                mean = torch.stack(list(own.values())).double().mean(dim=0)
                found.setdefault(name, {})[seed] = mean.numpy()
    return found
