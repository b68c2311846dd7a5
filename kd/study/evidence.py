"""Answers of all replicates -> the tables of the report, and the hash of their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import pandas as pd
import torch
from torch import Tensor

from kd.config import Study
from kd.data.source import Source
from kd.data.splits import Split
from kd.evaluate.metrics import subset_rows, summarise
from kd.evaluate.predictions import SEPARATOR, Logits, all_subsets, answer, combine
from kd.evaluate.statistics import crossed_difference
from kd.record import digest, run_folder
from kd.study.replicate import FLOAT, Answers, Evidence
from kd.tasks import Task

BAYES = "Bayes rule"
"""The row of the table that no method can pass but by luck; only for data whose law is known."""

Key = tuple[str, str, int]
"""(node, stage, seed)."""


def tables(study: Study, source: Source, split: Split, task: Task, evidence: Evidence) -> dict[str, pd.DataFrame]:
    """Return the frames of the report: subsets, summary, contrasts, curves, stages."""
    every = all_subsets(source.modalities)
    fused = dict(evidence.answers) | _ensembles(study, evidence, every, task)
    fused |= _bayes_rule(source, split, every, sorted(evidence.masks))
    test: list[dict[str, object]] = []
    validation: list[dict[str, object]] = []
    for (node, stage, seed), answers in fused.items():
        identity = {"node": node, "stage": stage, "seed": seed}
        test += subset_rows({s: answer(answers.test, s) for s in every}, source.label[split.test], task, **identity)
        validation += subset_rows(
            {s: answer(answers.validation, s) for s in every}, source.label[split.validation], task, **identity
        )
    frame = pd.DataFrame(test)
    return {
        "subsets": frame,
        "summary": summarise(frame, pd.DataFrame(validation), source.modalities, task.primary),
        "contrasts": contrasts(study, fused, every, source.label[split.test], task),
        "curves": curves(evidence),
        **({"stages": pd.DataFrame(evidence.stages)} if evidence.stages else {}),
    }


def _ensembles(study: Study, evidence: Evidence, every: list[str], task: Task) -> dict[Key, Answers]:
    found = {}
    for name, ensemble in study.ensembles.items():
        for seed in evidence.masks:
            members = [evidence.answers[member, FLOAT, seed] for member in ensemble.members]
            parts = {}
            for part in ("validation", "test"):
                logits = [getattr(member, part) for member in members]
                fused = {s: combine(logits, s, ensemble.combine, task.name) for s in every}
                parts[part] = {s: v for s, v in fused.items() if v is not None}
            found[name, FLOAT, seed] = Answers(**parts)
    return found


def _bayes_rule(source: Source, split: Split, every: list[str], seeds: list[int]) -> dict[Key, Answers]:
    """Return the Bayes rule's own answers on the same rows, where the data's law is known (protocol 14)."""
    posterior = getattr(source.ceiling, "posterior", None)
    if posterior is None:
        return {}

    def answers(ids: Tensor) -> Logits:
        shown = {subset: {m: source.inputs[m][ids] for m in subset.split(SEPARATOR)} for subset in every}
        return {subset: posterior(x).clamp_min(1e-30).log().float() for subset, x in shown.items()}

    found = Answers(answers(split.validation), answers(split.test))
    return {(BAYES, FLOAT, seed): found for seed in seeds}


def contrasts(
    study: Study, answers: Mapping[Key, Answers], every: list[str], label: Tensor, task: Task
) -> pd.DataFrame:
    """Return each declared contrast with its crossed interval over seeds and test rows, and its verdict."""
    found = []
    for name, contrast in study.contrasts.items():
        chosen = every[-1:] if contrast.over == "complete" else every
        per_seed = []
        for seed in range(study.first_seed, study.first_seed + study.seeds):
            method = correctness(answers[contrast.method, FLOAT, seed].test, chosen, label, task)
            baseline = correctness(answers[contrast.baseline, FLOAT, seed].test, chosen, label, task)
            shared = sorted(set(method) & set(baseline))
            per_seed.append(torch.stack([method[s] - baseline[s] for s in shared]).mean(dim=0))
        if study.seeds < 2:
            continue
        difference = crossed_difference(torch.stack(per_seed).double().numpy(), study.margin)
        found.append(
            {
                "contrast": name,
                "method": contrast.method,
                "baseline": contrast.baseline,
                "subset": "complete" if contrast.over == "complete" else "mean over subsets",
                "metric": "accuracy" if task.name == "multiclass" else "negative squared error",
                "seeds": study.seeds,
                "estimand": "new rows",
                **asdict(difference),
            }
        )
    columns = [
        "contrast",
        "method",
        "baseline",
        "subset",
        "metric",
        "seeds",
        "estimand",
        "estimate",
        "low",
        "high",
        "verdict",
        "detectable",
    ]
    return pd.DataFrame(found, columns=columns)


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


def curves(evidence: Evidence) -> pd.DataFrame:
    """Return the training curves of every node and seed, quantities named as the report expects."""
    names = {
        "train_loss": "train_loss",
        "validation_loss": "validation_loss",
        "validation_score": "validation_accuracy",
    }
    frames = []
    for (node, seed), record in evidence.trained.items():
        frame = pd.read_parquet(run_folder("train", record.id) / "curves.parquet")
        frame = frame[frame.quantity.isin(names)]
        frames.append(frame.assign(node=node, seed=seed, quantity=frame.quantity.map(names)))
    return pd.concat(frames, ignore_index=True)


def results_digest(frames: Mapping[str, pd.DataFrame]) -> str:
    """Return the hash of every number that a rerun must reproduce bit for bit: subsets, summary and contrasts."""
    found = []
    for name in ("subsets", "summary", "contrasts"):
        frame = frames[name]
        rows = (
            sorted(frame.map(lambda v: v.hex() if isinstance(v, float) else str(v)).agg("|".join, axis=1))
            if len(frame)
            else []
        )
        found.append([name, rows])
    return digest(found)
