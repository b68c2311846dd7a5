"""The whole way with a user's own folder: YAML to report and back to raw values, no Python in between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from omegaconf import OmegaConf

from kd.cli import main
from kd.models.classifier import Classifier
from kd.record import load_record, run_folder


def study_of(data: dict[str, Any]) -> dict[str, Any]:
    """Both directions on a table, pictures and texts, a few steps each, exported."""
    sees = ["lab", "scan", "report"]
    data = {**data, "modalities": {name: data["modalities"][name] for name in sees}}
    node = {"steps": 20, "validate_every": 10, "batch_size": 8}
    model = {
        "width": 8,
        "encoders": {"scan": {"name": "cnn", "channels": [8, 8]}, "report": {"name": "bag", "embedding": 8}},
    }
    return {
        "data": data,
        "seeds": 1,
        "split": {"test": 0.3, "validation": 0.2},
        "defaults": {**node, "model": model},
        "nodes": {
            "lab": {"sees": ["lab"]},
            "scan": {"sees": ["scan"]},
            "report": {"sees": ["report"]},
            "kdd2020": {"sees": sees, "rows": "complete"},
            "all_seeing": {"sees": sees},
            "student": {"sees": sees, "drop": 0.5, "select": "subsets"},
        },
        "edges": {
            **{name: {"teacher": name, "student": "kdd2020"} for name in sees},
            "full": {"teacher": "all_seeing", "student": "student", "when": "any"},
        },
        "baselines": {"linear": {"sees": sees}},
        "contrasts": {"gain": {"method": "student", "baseline": "linear", "over": "subsets"}},
        "compress": {"student": "student", "passes": {"exported": {"name": "onnx"}}},
    }


@pytest.fixture
def folder(own: Path, settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    OmegaConf.save(OmegaConf.create(study_of(settings(Path(".")))), own / "study.yaml")
    monkeypatch.chdir(own)
    return own


def test_a_folder_of_a_table_pictures_and_texts_runs_from_one_yaml_and_answers_raw_values(folder: Path, capsys) -> None:
    assert main(["check", "study.yaml"]) == 0
    capsys.readouterr()
    assert main(["run", "study.yaml", "json=true"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["verb"] == "run"
    stages = pd.read_parquet(run_folder("run", record["id"]) / "stages.parquet")
    assert stages[stages.stage == "exported"].parity_max.max() <= 1e-6
    # The same once more, for people: everything is there already.
    assert main(["run", "study.yaml"]) == 0
    report = Path(capsys.readouterr().out.splitlines()[-1].removeprefix("report: "))
    assert report.is_file()
    student = load_record(report.parent).parents["student seed 0"]
    network = Classifier.from_pretrained(run_folder("train", student) / "package")
    assert network.class_names == ["benign", "malign", "unclear"]
    inputs, present = network.encode(
        {
            "lab": [{"age": 61.5, "dose": None, "ward": "north"}, None],
            "scan": ["scans/007.png", "scans/008.png"],
            "report": ["the tissue looks odd", None],
        }
    )
    assert present.tolist() == [[True, True, True], [False, True, False]]
    logits = network(inputs, present).logits
    assert logits.shape == (2, 3)
    assert logits.isfinite().all()
