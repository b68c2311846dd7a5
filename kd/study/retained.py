"""What every stage of compression keeps of the student, on every subset, and whether that is inside declared margins.

Stages are compared on the same test rows and seeds, so intervals are those of paired differences. They describe;
nothing is tested. Teachers stand beside the stages, so that what compression costs is seen beside what distilling left;
so do the nodes that passes train like, which are what that training gives where nothing is made smaller.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kd.config import Study
from kd.data.source import Source
from kd.distill.graph import edges_into
from kd.report.retained import MEAN
from kd.statistics.verdicts import non_inferior
from kd.study.answers import FLOAT, Answers
from kd.study.contrasts import Compared, by_subset, difference_of, score_name
from kd.tasks import Task

if TYPE_CHECKING:
    from kd.study.evidence import Key, Rows

COLUMNS = ["node", "stage", "subset", "metric", "seeds", "estimate", "low", "high", "margin", "verdict"]


def retained(
    study: Study,
    answers: Mapping[Key, Answers],
    every: list[str],
    source: Source,
    splits: Mapping[int, Rows],
    task: Task,
) -> pd.DataFrame:
    """Return a row per stage and subset, and one for the mean over subsets: stage minus the float student.

    The verdict is `non-inferior` where the whole interval is above minus the margin (`compress.margin` for the mean,
    `compress.margin_subset` for a single subset), `inferior` where it is below, else `inconclusive`. Whole nodes
    have none.
    """
    if study.compress is None:
        return pd.DataFrame(columns=COLUMNS)
    student = study.compress.student
    beside = [edge.teacher for edge in edges_into(study, student).values()]
    beside += [part["like"] for part in study.compress.passes.values() if part.get("like") is not None]
    compared = [(node, FLOAT) for node in dict.fromkeys(beside) if node != student]
    compared += [(student, stage) for stage in study.compress.passes]
    found = [
        row for who in compared for row in _rows(study, who, (student, FLOAT), answers, every, source, splits, task)
    ]
    return pd.DataFrame(found, columns=COLUMNS)


def _rows(
    study: Study,
    who: tuple[str, str],
    reference: tuple[str, str],
    answers: Mapping[Key, Answers],
    every: list[str],
    source: Source,
    splits: Mapping[int, Rows],
    task: Task,
) -> list[dict[str, Any]]:
    found, rows = by_subset((who, reference), answers, every, source, splits, task)
    if not rows:
        return []
    table = {subset: each.double().numpy() for subset, each in found.items()}
    table[MEAN] = np.mean(list(table.values()), axis=0)
    return [
        _row(study, who, subset, Compared.on(each, study, source, rows), len(rows), score_name(task))
        for subset, each in table.items()
    ]


def _row(
    study: Study, who: tuple[str, str], subset: str, compared: Compared, seeds: int, metric: str
) -> dict[str, Any]:
    assert study.compress is not None
    difference = difference_of(study, compared)
    node, stage = who
    margin = study.compress.margin if subset == MEAN else study.compress.margin_subset
    judged = stage != FLOAT
    return {
        "node": node,
        "stage": stage,
        "subset": subset,
        "metric": metric,
        "seeds": seeds,
        **{field: getattr(difference, field) for field in ("estimate", "low", "high")},
        "margin": margin if judged else float("nan"),
        "verdict": non_inferior(difference.low, difference.high, margin) if judged else "",
    }
