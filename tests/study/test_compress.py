"""Stages of compression in the run store: shared between studies, and found again after a killed run."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

import kd.study.compress
from kd.compress.pipeline import apply
from kd.config import Study
from kd.parsing import parse
from kd.record import load_record, runs_root
from kd.study import run

NODE = {
    "sees": ["m0", "m1"],
    "steps": 4,
    "validate_every": 2,
    "model": {"width": 8, "encoder": {"name": "mlp", "hidden": [16]}},
}
DATA = {"name": "synthetic", "modalities": 2, "rows": 400, "classes": 3, "width": 4}
PRUNED = {"pruned": {"name": "structured", "macs": 0.6, "importance": "taylor"}, "tuned": {"name": "tune"}}


def study(passes: dict[str, Any]) -> Study:
    edge = {"teacher": "teacher", "student": "one", "loss": {"name": "kl"}}
    nodes = {"teacher": NODE, "one": NODE}
    tree = {"data": DATA, "seeds": 1, "nodes": nodes, "edges": {"kl": edge}}
    return parse({**tree, "compress": {"student": "one", "passes": passes}})


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the stages that were computed, in order, as they are."""
    done: list[str] = []

    def counting(name: str, *arguments: Any) -> Any:
        done.append(name)
        return apply(name, *arguments)

    monkeypatch.setattr("kd.study.compress.apply", counting)
    return done


def test_studies_whose_passes_begin_alike_share_those_stages(applied: list[str]) -> None:
    run(study(PRUNED))
    run(study({**PRUNED, "thin": {"name": "unstructured", "of": "pruned"}}))
    assert applied == ["pruned", "tuned", "thin"]


def test_a_killed_compression_goes_on_after_its_last_stage(applied: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pd.read_parquet(run(study(PRUNED)) / "subsets.parquet")
    monkeypatch.setenv("KD_RUNS", str(runs_root().with_name("again")))
    counting = kd.study.compress.apply

    def killed(name: str, *arguments: Any) -> Any:
        if name == "tuned":
            raise KeyboardInterrupt
        return counting(name, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr("kd.study.compress.apply", killed)
        with pytest.raises(KeyboardInterrupt):
            run(study(PRUNED))
    resumed = pd.read_parquet(run(study(PRUNED)) / "subsets.parquet")
    assert applied == ["pruned", "tuned", "pruned", "tuned"]
    pd.testing.assert_frame_equal(resumed, whole)


def test_every_stage_has_a_record_with_its_time_memory_and_parents() -> None:
    run(study(PRUNED))
    records = [load_record(path.parent) for path in (runs_root() / "stage").glob("*/record.json")]
    by_name = {record.config["stage"]: record for record in records}
    assert set(by_name) == {"pruned", "tuned"}
    for record in records:
        assert record.metrics["seconds"] > 0
        assert record.metrics["peak_mb"] > 0
    assert by_name["tuned"].parents["of"] == by_name["pruned"].id
    assert by_name["pruned"].metrics["macs_ratio"] <= 0.6
    assert set(by_name["tuned"].saw) == {"calibration", "tuned rows", "tuned selection"}
