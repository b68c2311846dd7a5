"""A trained node in the run store: its record, package and curves, and the rows it saw."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from kd.config import Node, Study
from kd.distill.module import Distiller
from kd.distill.setting import Setting
from kd.models.package import save_package
from kd.record import RunRecord, digest, load_record, run_folder, save_record, staged_folder
from kd.tasks import Task


@dataclass
class Made:
    """What a training, or a look at given weights, found.

    Attributes:
        score: on validation rows, of the weights kept.
        round: after which they were kept.
        steps: optimiser steps taken.
        curves: a row per round and quantity.
        shown: rows of the batches that it was shown: `rows` in training, `selection` in looks at validation data.
    """

    score: float
    round: int
    steps: int
    curves: list[dict[str, Any]]
    shown: dict[str, list[int]]


def write_trained(
    study: Study,
    name: str,
    setting: Setting,
    address: dict[str, Any],
    parents: Mapping[str, str],
    made: Made,
    module: Distiller,
    saw: Mapping[str, list[int]],
    seconds: float,
) -> RunRecord:
    """Write a trained node under its content address and return its record.

    Args:
        study: the config.
        name: node.
        setting: data of its replicate.
        address: everything that decides its weights.
        parents: node -> run.
        made: what the training found, and the rows it was shown.
        module: with the weights kept.
        saw: what was fitted beforehand, a scaler or a vocabulary -> ids of the rows it saw.
        seconds: that the training took.
    """
    saw = {**saw, **made.shown}
    record = RunRecord(
        id=digest(address)[:20],
        verb="train",
        name=f"{name} seed {setting.seed}",
        config=address,
        parents=dict(parents),
        seed=setting.seed,
        data=setting.source.fingerprint,
        mask=setting.mask.fingerprint,
        code=address["code"],
        threads=study.threads,
        seconds=seconds,
        metrics={"validation_score": made.score, "best_round": made.round, "steps": made.steps},
        files={
            "weights": "package/weights.safetensors",
            "card": "package/card.json",
            "curves": "curves.parquet",
            "saw": "saw.json",
        },
        selected_on=selection(study.nodes[name], module.task, len(setting.split.validation)),
        saw={key: digest(sorted(ids)) for key, ids in saw.items()},
    )
    with staged_folder(run_folder("train", record.id)) as stage:
        card = {"stage": "float", "run": record.id, "parents": record.parents}
        save_package(module.model, stage / "package", card)  # type: ignore[arg-type]
        pd.DataFrame(made.curves).to_parquet(stage / "curves.parquet")
        (stage / "saw.json").write_text(json.dumps(saw))
        save_record(record, stage)
    return record


def package_folder(record: RunRecord) -> Path:
    """Return the folder of a trained node's package."""
    return run_folder("train", record.id) / "package"


def rows_seen(record: RunRecord) -> dict[str, list[int]]:
    """Return the row ids behind every object this run fitted."""
    folder = run_folder(record.verb, record.id)
    load_record(folder)
    found: dict[str, list[int]] = json.loads((folder / "saw.json").read_text())
    return found


def selection(node: Node, task: Task, labels: int) -> str:
    """Say in words what chose a node's weights."""
    if node.steps == 0:
        return "nothing: the weights as they were given"
    if node.select == "last":
        return f"nothing: the weights after the last of {node.steps} steps"
    patterns = "complete rows" if node.select == "complete" else "mean over all subsets"
    return f"validation {task.primary}, {patterns}, {labels} labels"
