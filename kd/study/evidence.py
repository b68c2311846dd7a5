"""What all replicates answered -> the tables of the report, and the hash of their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from kd.config import Study
from kd.data.mechanisms.kinds import kind_of
from kd.data.source import Source
from kd.evaluate import BAYES
from kd.evaluate.metrics import subset_rows, summarise
from kd.evaluate.predictions import SEPARATOR, Logits, all_subsets, answer
from kd.record import digest, run_folder
from kd.study.answers import FLOAT, Answers
from kd.study.bound import bound
from kd.study.contests import contests
from kd.study.contrasts import compare_all, contrasts, differences
from kd.study.cost import cost_table
from kd.study.hidden_at_test import hidden_at_test
from kd.study.pairs import pairs
from kd.study.replicate import Replicate
from kd.study.retained import retained
from kd.study.robustness import robustness_tables
from kd.tasks import Task

REPRODUCED = (
    *("subsets", "validation", "summary", "contrasts", "pairs", "retained", "test_masks"),
    *("robustness", "shapley", "patterns", "teaching", "contests"),
)
"""Tables whose every number is the same when a study is run again."""

Key = tuple[str, str, int]
"""(node, stage, seed)."""


def tables(study: Study, source: Source, task: Task, replicates: Sequence[Replicate]) -> dict[str, pd.DataFrame]:
    """Return the frames of the report: subsets, validation, summary, contrasts, pairs, curves, cost, those on
    robustness; test_masks, teaching, stages with what they retained, and bound where there are any.

    The folds of one seed count as one: each test row is answered by the network that did not learn from it.
    """
    every = all_subsets(source.modalities)
    methods, splits = pool_folds(replicates)
    rule = _bayes_rule(source, splits, every)
    fused = methods | rule
    labels = {seed: source.label[rows.test] for seed, rows in splits.items()}

    def primary(logits: Tensor, label: Tensor) -> dict[str, float]:
        return {task.primary: task.score(logits, label)}

    test: list[dict[str, object]] = []
    validation: list[dict[str, object]] = []
    for (node, stage, seed), answers in fused.items():
        identity = {"node": node, "stage": stage, "seed": seed}
        rows = splits[seed]
        shown = {subset: answer(answers.test, subset) for subset in every}
        test += subset_rows(shown, source.label[rows.test], task.metrics, **identity)
        shown = {subset: answer(answers.validation, subset) for subset in every}
        validation += subset_rows(shown, source.label[rows.validation], primary, **identity)
    frame, chosen_on = pd.DataFrame(test), pd.DataFrame(validation)
    stages = [{"seed": place, **row} for place, replicate in enumerate(replicates) for row in replicate.stages]
    teaching = pd.DataFrame([{"seed": r.seed, "fold": r.fold, **row} for r in replicates for row in r.teaching])
    kind = kind_of(study.mask["name"], study.mask)
    compared = compare_all(study, fused, every, source, splits, task)
    apart = differences(study, compared)
    return {
        "subsets": frame.assign(mask_kind=kind),
        "validation": chosen_on.assign(mask_kind=kind),
        "summary": _marked(summarise(frame, chosen_on, source.modalities, task.primary), study).assign(mask_kind=kind),
        "contrasts": contrasts(study, compared, task).assign(mask_kind=kind),
        **({"differences": apart} if len(apart) else {}),
        **({"contests": contests(study, fused, every, source, splits, task)} if study.contests else {}),
        "pairs": pairs(study, methods, every, source, splits, task).assign(mask_kind=kind),
        **({"retained": retained(study, methods, every, source, splits, task)} if stages else {}),
        **({"test_masks": hidden_at_test(study, source, task, replicates, methods)} if study.test_masks else {}),
        **({"teaching": teaching} if len(teaching) else {}),
        "curves": curves(replicates),
        "cost": cost_table(study, replicates),
        **robustness_tables(study, source, task, replicates, fused, splits),
        **({"stages": pd.DataFrame(stages)} if stages else {}),
        **({"bound": bound(methods, rule, labels, every)} if rule else {}),
    }


def _marked(summary: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Say in the notes which scores on incomplete rows are those of a model that learnt from complete rows alone."""
    fills = {
        name: "filled with " + ("zeros" if stand_in == "nothing" else stand_in)
        for name, node in study.nodes.items()
        if node.rows == "complete"
        for stand_in in [node.model.get("absent", {}).get("name", "nothing")]
    }
    if not len(summary):
        return summary
    told = summary["node"].map(fills).where(summary["what"] != "complete")
    return summary.assign(
        note=[f"{n}; {t}" if isinstance(t, str) else n for n, t in zip(summary["note"], told, strict=True)]
    )


@dataclass
class Rows:
    """The rows behind one seed's answers, fold after fold.

    Attributes:
        validation: int64; a row stands there once for each fold that it chose in.
        test: int64, each row once.
        sizes: test rows of each fold.
        overlap: n_test / n_train, the mean over folds.
    """

    validation: Tensor
    test: Tensor
    sizes: list[int]
    overlap: float


def pool_folds(replicates: Sequence[Replicate]) -> tuple[dict[Key, Answers], dict[int, Rows]]:
    """Return the answers of each seed on the rows of all its folds, and these rows."""
    answers: dict[Key, Answers] = {}
    rows: dict[int, Rows] = {}
    for seed in dict.fromkeys(r.seed for r in replicates):
        own = [r for r in replicates if r.seed == seed]
        for node, stage in own[0].answers:
            if any((node, stage) not in r.answers for r in own):
                continue  # its training failed on one of the folds
            parts = [r.answers[node, stage] for r in own]
            answers[node, stage, seed] = Answers(
                {s: torch.cat([p.validation[s] for p in parts]) for s in parts[0].validation},
                {s: torch.cat([p.test[s] for p in parts]) for s in parts[0].test},
            )
        splits = [r.split for r in own]
        rows[seed] = Rows(
            torch.cat([s.validation for s in splits]),
            torch.cat([s.test for s in splits]),
            [len(s.test) for s in splits],
            float(np.mean([len(s.test) / len(s.train) for s in splits])),
        )
    return answers, rows


def _bayes_rule(source: Source, splits: Mapping[int, Rows], every: list[str]) -> dict[Key, Answers]:
    """Return the Bayes rule's own answers on the same rows, where the data's law is known (protocol 14)."""
    posterior = getattr(source.ceiling, "posterior", None)
    if posterior is None:
        return {}

    def answers(ids: Tensor) -> Logits:
        rows = source.batch(ids, source.observed[ids]).inputs
        shown = {subset: {m: rows[m] for m in subset.split(SEPARATOR)} for subset in every}
        return {subset: posterior(x).clamp_min(1e-30).log().float() for subset, x in shown.items()}

    return {(BAYES, FLOAT, seed): Answers(answers(s.validation), answers(s.test)) for seed, s in splits.items()}


def curves(replicates: Sequence[Replicate]) -> pd.DataFrame:
    """Return the training curves of every node and replicate, quantities named as the report expects."""
    names = {
        "train_loss": "train_loss",
        "validation_loss": "validation_loss",
        "validation_score": "validation_accuracy",
    }
    frames = []
    for place, replicate in enumerate(replicates):
        for node, record in replicate.trained.items():
            frame = pd.read_parquet(run_folder("train", record.id) / "curves.parquet")
            frame = frame[frame.quantity.isin(names)]
            frames.append(frame.assign(node=node, seed=place, quantity=frame.quantity.map(names)))
    return pd.concat(frames, ignore_index=True)


def results_digest(frames: Mapping[str, pd.DataFrame]) -> str:
    """Return the hash of every number that a rerun must reproduce bit for bit: all tables of scores there are."""
    found = []
    for name in REPRODUCED:
        if name not in frames:
            continue
        frame = frames[name]
        text = frame.map(lambda v: v.hex() if isinstance(v, float) else str(v))
        rows = sorted("|".join(row) for row in text.itertuples(index=False, name=None))
        found.append([name, rows])
    return digest(found)
