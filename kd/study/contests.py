"""One method against all its rivals at once, on complete rows, in the mean over subsets and on the worst subset.

An intersection-union test (Berger 1982, doi:10.1080/00401706.1982.10487790): the method wins where it beats *every*
rival, so the largest of their p is the p of the whole, and nothing is corrected for their number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kd.config import Contest, Study
from kd.data.source import Source
from kd.statistics import STRICT
from kd.statistics.attainable import untested
from kd.study.answers import FLOAT, Answers
from kd.study.contrasts import Compared, correctness, difference_of, score_name
from kd.tasks import Task

if TYPE_CHECKING:
    from kd.study.evidence import Key, Rows

COMPLETE, MEAN, WORST = "complete", "mean", "worst"
COLUMNS = [
    *("contest", "method", "rival", "on", "metric", "seeds", "rows"),
    *("estimate", "low", "high", "p", "least", "untested"),
]
NAN = float("nan")

Scores = dict[str, dict[int, NDArray[np.float64]]]
"""`complete`, `mean` or `worst` -> seed -> a method's score on each test row [R]."""


def contests(
    study: Study,
    answers: Mapping[Key, Answers],
    every: Sequence[str],
    source: Source,
    splits: Mapping[int, Rows],
    task: Task,
) -> pd.DataFrame:
    """Return a row per contest, rival and kind of test rows: the difference with its 99% interval, and its p.

    `worst` is, for the method and the rival alike, the own subset that is worst on validation rows, measured on test
    rows. A method that cannot answer every subset is compared on complete rows alone.
    """
    entered = {name for one in study.contests.values() for name in (one.method, *one.against)}
    scores = {name: _scores(name, answers, list(every), source, splits, task) for name in sorted(entered)}
    found = []
    for name, contest in study.contests.items():
        for rival in contest.against:
            own, theirs = scores[contest.method], scores[rival]
            for on in (on for on in own if on in theirs):
                seeds = [seed for seed in own[on] if seed in theirs[on]]
                table = np.stack([own[on][seed] - theirs[on][seed] for seed in seeds]) if seeds else np.empty((0, 0))
                row = {"contest": name, "method": contest.method, "rival": rival, "on": on, "metric": score_name(task)}
                if len(table):
                    chosen = {seed: splits[seed] for seed in seeds}
                    found.append(row | _measured(study, contest, Compared.on(table, study, source, chosen)))
    return pd.DataFrame(found, columns=COLUMNS)


def _scores(
    name: str,
    answers: Mapping[Key, Answers],
    every: list[str],
    source: Source,
    splits: Mapping[int, Rows],
    task: Task,
) -> Scores:
    seeds = [seed for seed in splits if (name, FLOAT, seed) in answers]
    own = {seed: answers[name, FLOAT, seed] for seed in seeds}
    test = {s: correctness(one.test, every, source.label[splits[s].test], task) for s, one in own.items()}
    if not seeds or every[-1] not in test[seeds[0]]:
        return {}
    found: Scores = {COMPLETE: {seed: test[seed][every[-1]].double().numpy() for seed in seeds}}
    if all(subset in test[seeds[0]] for subset in every):
        chosen_on = [
            correctness(one.validation, every, source.label[splits[s].validation], task) for s, one in own.items()
        ]
        worst = min(every, key=lambda subset: np.mean([float(table[subset].mean()) for table in chosen_on]))
        found[MEAN] = {seed: np.mean([test[seed][s].double().numpy() for s in every], axis=0) for seed in seeds}
        found[WORST] = {seed: test[seed][worst].double().numpy() for seed in seeds}
    return found


def _measured(study: Study, contest: Contest, compared: Compared) -> dict[str, Any]:
    difference = difference_of(study, compared)
    low, high = difference.interval(STRICT)
    seeds, rows = compared.table.shape
    why = untested(len(compared.means), "seeds" if compared.folds is None else "seeds x folds")
    return {
        "seeds": seeds,
        "rows": rows,
        "estimate": difference.estimate,
        "low": low,
        "high": high,
        "p": NAN if why else difference.p,
        "least": contest.least,
        "untested": why,
    }
