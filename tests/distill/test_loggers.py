"""Loggers: what each wrote, read back as (step, name) -> value."""

from __future__ import annotations

import importlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kd.distill.fit import train_graph
from kd.distill.graph import part_faults
from kd.record import run_folder

Values = dict[tuple[int, str], float]


def csv_values(folder: Path) -> Values:
    (path,) = folder.rglob("metrics.csv")
    table = pd.read_csv(path).melt(id_vars="step", var_name="name").dropna()
    return {(int(step), str(name)): float(value) for step, name, value in table.itertuples(index=False)}


def tensorboard_values(folder: Path) -> Values:
    reader = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    (path,) = folder.rglob("events.out.tfevents.*")
    events = reader.EventAccumulator(str(path)).Reload()
    return {
        (e.step, tag): e.value for tag in events.Tags()["scalars"] if tag != "hp_metric" for e in events.Scalars(tag)
    }


def mlflow_values(uri: str) -> Values:
    client = importlib.import_module("mlflow.tracking").MlflowClient(uri)
    experiment = client.get_experiment_by_name("kd")
    (run,) = client.search_runs([experiment.experiment_id])
    histories = (client.get_metric_history(run.info.run_id, name) for name in run.data.metrics)
    return {(metric.step, metric.key): metric.value for history in histories for metric in history}


def wandb_records(path: Path) -> Iterator[Any]:
    """Read W&B's transaction log: LevelDB's log format after seven bytes of header."""
    format_ = importlib.import_module("wandb.proto.wandb_internal_pb2")
    content, position, whole = path.read_bytes(), 7, b""
    while position + 7 <= len(content):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + 7])
        whole += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part of one
            record = format_.Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def wandb_values(folder: Path) -> Values:
    (path,) = folder.rglob("run-*.wandb")
    found = {}
    for record in wandb_records(path):
        row = {(i.key or ".".join(i.nested_key)): json.loads(i.value_json) for i in record.history.item}
        step = row.pop("trainer/global_step", None)
        found |= {(step, name): value for name, value in row.items() if not name.startswith("_")}
    return found


def test_every_logger_gets_the_same_values_at_the_same_steps(small_study, setting_of, tmp_path, monkeypatch) -> None:
    for library in ("tensorboard", "wandb", "mlflow"):
        pytest.importorskip(library)
    for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "MLFLOW_ALLOW_FILE_STORE": "true"}.items():
        monkeypatch.setenv(name, value)
    uri = f"file:{tmp_path}/mlruns"
    loggers = {
        "csv": {"save_dir": str(tmp_path / "csv")},
        "tensorboard": {"save_dir": str(tmp_path / "board")},
        "wandb": {"save_dir": str(tmp_path / "wandb"), "offline": True},
        "mlflow": {"tracking_uri": uri},
    }
    node = {"sees": ["m0", "m1"], "drop": 0.3, "steps": 30, "validate_every": 10, "model": {"width": 8}}
    edges = {"self": {"teacher": "student", "student": "student", "view": "full"}}
    settings = {"loggers": loggers, "log_every_n_steps": 1}
    rest: dict[str, Any] = {"ensembles": {}, "contrasts": {}}
    study = small_study(nodes={"student": node}, edges=edges, trainer=settings, **rest)
    assert part_faults(study) == []
    record = train_graph(study, setting_of(study))["student"]
    values = csv_values(tmp_path / "csv")
    assert {step for step, _ in values} >= {9, 19, 29}
    assert {"train_loss", "train/edge/self", "validation_score", "validation_loss"} <= {name for _, name in values}
    others = (tensorboard_values(tmp_path / "board"), wandb_values(tmp_path / "wandb"), mlflow_values(uri))
    for other in others:
        assert other == pytest.approx(values, rel=1e-6)
    curves = pd.read_parquet(run_folder("train", record.id) / "curves.parquet")
    recorded = curves[curves.quantity == "validation_score"].value.tolist()
    assert recorded == pytest.approx([value for (_, name), value in values.items() if name == "validation_score"])
