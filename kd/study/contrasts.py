"""The declared comparisons of a study: differences per seed and test row -> interval, verdict, test, power.

The family of a test is the declared contrasts, Holm over it (protocol 11).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from kd.config import Contrast, Study, family_contrasts
from kd.data.source import Source
from kd.evaluate.predictions import Logits, answer
from kd.statistics.attainable import refusal, untested
from kd.statistics.crossed import by_group
from kd.statistics.intervals import Difference, crossed_difference, fold_difference
from kd.statistics.power import Precision, crossed_precision, fold_precision, seeds_needed, seen
from kd.statistics.significance import holm, permutation, wilcoxon
from kd.study.answers import FLOAT, Answers
from kd.tasks import Task

if TYPE_CHECKING:
    from kd.study.evidence import Key, Rows

COLUMNS = [
    *("contrast", "method", "baseline", "subset", "metric", "seeds", "estimand"),
    *("estimate", "low", "high", "verdict", "detectable"),
    *("test", "p", "p_holm", "untested", "margin", "seen", "seeds_needed"),
]
"""Of the table of contrasts: `untested` says why there is no p, `seen` is the difference that 80% power sees."""
NAN = float("nan")


@dataclass
class Compared:
    """Differences of one contrast, method minus baseline.

    Attributes:
        table: float64 [S, R], per seed and test row.
        group: int64 [R], which rows belong together.
        folds: test rows of each fold, in order; None where there are no folds.
        overlap: n_test / n_train, the mean over seeds and folds.
        seeds: [S].
        rows: int64 [R], the test rows in the source, those of the first seed.
    """

    table: NDArray[np.float64]
    group: NDArray[np.int64]
    folds: list[list[int]] | None
    overlap: float
    seeds: list[int]
    rows: NDArray[np.int64]

    @classmethod
    def on(cls, table: NDArray[np.float64], study: Study, source: Source, splits: Mapping[int, Rows]) -> Compared:
        """Return differences [S, R] with what the study knows of their rows, those of each of their seeds."""
        rows = list(splits.values())
        folds = None if study.split.folds is None else [own.sizes for own in rows]
        group, overlap = source.group[rows[0].test].numpy(), float(np.mean([own.overlap for own in rows]))
        return cls(table, group, folds, overlap, list(splits), rows[0].test.numpy())

    @property
    def means(self) -> NDArray[np.float64]:
        """[n]: the mean difference of each seed, or of each seed and fold."""
        if self.folds is None:
            return np.asarray(self.table.mean(axis=1))
        cut = [np.split(row, np.cumsum(sizes)[:-1]) for row, sizes in zip(self.table, self.folds, strict=True)]
        return np.array([fold.mean() for folds in cut for fold in folds])


def compare_all(
    study: Study,
    answers: Mapping[Key, Answers],
    every: list[str],
    source: Source,
    splits: Mapping[int, Rows],
    task: Task,
) -> dict[str, Compared]:
    """Return the differences of each declared contrast that any seed has an answer for, by name."""
    found = {}
    for name, contrast in study.contrasts.items():
        chosen = every[-1:] if contrast.over == "complete" else every
        compared = compare(study, contrast, answers, chosen, source, splits, task)
        if compared is not None:
            found[name] = compared
    return found


def contrasts(study: Study, compared_by_name: Mapping[str, Compared], task: Task) -> pd.DataFrame:
    """Return each declared contrast with its interval over seeds and test rows, its verdict, its test and its power."""
    found = []
    for name, compared in compared_by_name.items():
        contrast, difference = study.contrasts[name], difference_of(study, compared)
        found.append(
            {
                "contrast": name,
                "method": contrast.method,
                "baseline": contrast.baseline,
                "subset": "complete" if contrast.over == "complete" else "mean over subsets",
                "metric": score_name(task),
                "seeds": len(compared.table),
                "estimand": "new rows" if study.mask_seed is None else "new rows, this mask",
                **{field: getattr(difference, field) for field in ("estimate", "low", "high", "verdict", "detectable")},
                **_tested(study, compared, difference),
                **_power(study, compared, difference),
            }
        )
    p = [row["p"] for row in found] + [NAN] * (len(study.contrasts) - len(found))
    return pd.DataFrame(found, columns=COLUMNS).assign(p_holm=holm(p)[: len(found)])


def differences(study: Study, compared_by_name: Mapping[str, Compared]) -> pd.DataFrame:
    """Return the differences behind the contrasts declared one by one, a row per contrast, seed and test row.

    Those that `family` spells out are left out: they are many, and nothing is claimed of one alone.
    """
    spelt = family_contrasts(study)
    frames = [
        pd.DataFrame(
            {
                "contrast": name,
                "seed": np.repeat(own.seeds, len(own.rows)),
                "row": np.tile(own.rows, len(own.seeds)),
                "group": np.tile(own.group, len(own.seeds)),
                "difference": own.table.ravel(),
            }
        )
        for name, own in compared_by_name.items()
        if name not in spelt
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def compare(
    study: Study,
    contrast: Contrast,
    answers: Mapping[Key, Answers],
    chosen: list[str],
    source: Source,
    splits: Mapping[int, Rows],
    task: Task,
) -> Compared | None:
    """Return a contrast's differences, the mean over the chosen subsets that both answer; None without any seed."""
    pair = (contrast.method, FLOAT), (contrast.baseline, FLOAT)
    found, rows = by_subset(pair, answers, sorted(chosen), source, splits, task)
    if not rows:
        return None
    table = torch.stack([each.mean(dim=0).double() for each in torch.stack(list(found.values())).unbind(dim=1)])
    return Compared.on(table.numpy(), study, source, rows)


def by_subset(
    pair: tuple[tuple[str, str], tuple[str, str]],
    answers: Mapping[Key, Answers],
    chosen: list[str],
    source: Source,
    splits: Mapping[int, Rows],
    task: Task,
) -> tuple[dict[str, Tensor], dict[int, Rows]]:
    """Return subset -> score per seed and row [S, R], the first (node, stage) minus the second, and seed -> its rows.

    Only the subsets that both answer are there, and the seeds that both have.
    """
    seeds = [seed for seed in splits if all((*who, seed) in answers for who in pair)]
    rows = {seed: splits[seed] for seed in seeds}
    own, theirs = (
        [correctness(answers[*who, s].test, chosen, source.label[splits[s].test], task) for s in seeds] for who in pair
    )
    shared = [subset for subset in chosen if seeds and subset in own[0] and subset in theirs[0]]
    found = {s: torch.stack([a[s] - b[s] for a, b in zip(own, theirs, strict=True)]) for s in shared}
    return found, rows


def score_name(task: Task) -> str:
    """Return what differences are taken of."""
    return "accuracy" if task.name == "multiclass" else "negative squared error"


def difference_of(study: Study, compared: Compared) -> Difference:
    """Return the mean difference on new rows with its interval and verdict, over seeds x rows or over folds."""
    if compared.folds is None:
        return crossed_difference(compared.table, margin=study.margin, group=compared.group)
    return fold_difference(compared.means, compared.overlap, margin=study.margin)


def _tested(study: Study, compared: Compared, difference: Difference) -> dict[str, Any]:
    """Return the test that the study asks for and its p, or why there is none."""
    what = "seeds" if compared.folds is None else "seeds x folds"
    why = untested(len(compared.means), what) or _refused(study, len(compared.table), compared.group)
    why = why or ("its rows are one group" if np.isnan(difference.error) else "")
    if why:
        return {"test": "", "p": NAN, "untested": why}
    if study.test == "wilcoxon":
        p = wilcoxon(compared.means)
    elif study.test == "permutation":
        p = permutation(compared.table.mean(axis=0), compared.group)
    else:
        p = difference.p
    return {"test": study.test if compared.folds is None else "folds", "p": p, "untested": ""}


def _refused(study: Study, seeds: int, group: NDArray[np.int64]) -> str:
    counted = len(np.unique(group)) if study.test == "permutation" else seeds
    return refusal(study.test, counted, max(1, len(study.contrasts)))


def _power(study: Study, compared: Compared, difference: Difference) -> dict[str, float]:
    """Return the difference that 80% power sees, and the seeds that would see the margin; NaN where none would."""
    found = {"margin": study.margin, "seen": NAN, "seeds_needed": NAN}
    if np.isnan(difference.error):
        return found
    needed = seeds_needed(_precision(study, compared), study.margin)
    return found | {
        "seen": seen(difference.error, difference.degrees),
        "seeds_needed": NAN if needed is None else float(needed),
    }


def _precision(study: Study, compared: Compared) -> Precision:
    if study.split.folds is None:
        return crossed_precision(by_group(compared.table, compared.group))
    return fold_precision(compared.means, overlap=compared.overlap, folds=study.split.folds)


def faults_of_test(study: Study) -> list[str]:
    """Return why the test that a study asks for cannot be made of it, told before anything is trained."""
    if not study.contrasts or study.test == "crossed":
        return []
    if study.split.folds is not None:
        return [
            f"test: {study.test} with split.folds: folds share training rows, so differences are not independent; "
            "write test: crossed, which then is the corrected t test of repeated cross-validation"
        ]
    why = refusal(study.test, study.seeds, len(study.contrasts)) if study.test == "wilcoxon" else ""
    return [f"test: {why}, and no test is made under 20"] if why else []


def faults_of_groups(study: Study, group: Tensor) -> list[str]:
    """Return why the test cannot be made on test rows of these groups, int64 [R]."""
    if not study.contrasts or study.test != "permutation":
        return []
    why = refusal(study.test, len(group.unique()), len(study.contrasts))
    return [f"test: {why}"] if why else []


def correctness(logits: Logits, every: list[str], label: Tensor, task: Task) -> dict[str, Tensor]:
    """Return subset -> score per row [N], higher is better: 0/1 correctness, or the negative squared error."""
    found = {}
    for subset in every:
        if (answered := answer(logits, subset)) is None:
            continue
        if task.name == "multiclass":
            found[subset] = (answered.argmax(dim=-1) == label).float()
        else:
            found[subset] = -(task.probabilities(answered) - label).square().mean(dim=-1)
    return found
