"""A study end to end: what a killed run, a reordered config, a leak and a changed label do to its results."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf

from kd.cli import main
from kd.data.source import Source
from kd.distill.fit import build, train_graph
from kd.distill.teachers import Frozen, cache, state_digest
from kd.distill.trained import package_folder, rows_seen
from kd.errors import ConfigError, LeakError, RecordError
from kd.models.package import load_package
from kd.parsing import parse
from kd.record import RunRecord, load_record, run_folder
from kd.study import run
from kd.study.leaks import audit, refuse_leaking_columns
from kd.study.replicate import Replicate


def results(folder: Path) -> str:
    return str(load_record(folder).metrics["results"])


def test_report_holds_every_node_and_ensemble(small_study) -> None:
    folder = run(small_study())
    summary = pd.read_parquet(folder / "summary.parquet")
    assert set(summary.node) == {"one", "two", "student", "product", "Bayes rule"}
    page = (folder / "report.html").read_text()
    assert all(name in page for name in ("one", "two", "student", "product"))
    subsets = pd.read_parquet(folder / "subsets.parquet")
    assert set(subsets[subsets.node == "student"].subset) == {"m0", "m1", "m0+m1"}
    assert set(subsets[subsets.node == "one"].subset) == {"m0", "m0+m1"}


def test_second_run_trains_nothing_and_gives_the_same_record(small_study) -> None:
    folder = run(small_study())
    before = (folder / "record.json").read_text()
    started = time.perf_counter()
    assert run(small_study()) == folder
    assert (folder / "record.json").read_text() == before
    assert time.perf_counter() - started < 5


def test_order_of_modalities_in_the_yaml_changes_no_bit(small_study, tmp_path, monkeypatch) -> None:
    forward = small_study()
    backward = small_study()
    backward.nodes["student"].sees.reverse()
    backward.nodes = dict(reversed(backward.nodes.items()))
    backward.edges = dict(reversed(backward.edges.items()))
    found = results(run(forward))
    monkeypatch.setenv("KD_RUNS", str(tmp_path / "other"))
    assert results(run(backward)) == found


def test_another_seed_gives_other_results(small_study) -> None:
    assert results(run(small_study(seeds=1))) != results(run(small_study(seeds=1, first_seed=1)))


def test_teachers_keep_every_bit_and_are_absent_from_the_students_checkpoint(small_study, setting_of, tmp_path) -> None:
    import pytorch_lightning as pl

    from kd.data.module import loader

    study = small_study()
    study.edges["one"].cache = False
    setting = setting_of(study)
    trained = train_graph(study, setting)
    folders = {name: package_folder(record) for name, record in trained.items()}
    module, _ = build(study, "student", setting, folders)
    teacher = module.edges["one"].teacher
    assert isinstance(teacher, Frozen)
    before = state_digest(teacher.model.state_dict())
    batches = loader(setting.source, setting.available, setting.split.train, batch_size=16, seed=0)
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path
    )
    trainer.fit(module, batches, loader(setting.source, setting.source.observed, setting.split.validation))
    assert state_digest(teacher.model.state_dict()) == before
    assert not any("teacher" in key for key in module.state_dict())
    assert not any(parameter is own for own in module.parameters() for parameter in teacher.model.parameters())
    trainer.save_checkpoint(tmp_path / "student.ckpt")
    saved = torch.load(tmp_path / "student.ckpt", weights_only=True)
    assert set(saved["state_dict"]) == {f"model.{key}" for key in module.model.state_dict()}


def test_student_started_from_its_teachers_begins_as_their_product(small_study, setting_of) -> None:
    def trained(**student: Any) -> dict[str, RunRecord]:
        study = small_study()
        study.nodes["student"] = replace(study.nodes["student"], init={"m0": "one", "m1": "two"}, **student)
        study.edges = {} if student.get("steps") == 0 else study.edges
        return train_graph(study, setting_of(study))

    records = trained(steps=0)
    networks = {name: load_package(package_folder(record)) for name, record in records.items()}
    batch = setting_of(small_study()).rows(torch.arange(9), torch.ones(400, 2, dtype=torch.bool))
    each = [networks[name](batch.inputs, batch.present[:, [i]]).logits for i, name in enumerate(("one", "two"))]
    both = networks["student"](batch.inputs, batch.present).logits
    torch.testing.assert_close(both, sum(each), atol=1e-5, rtol=0)
    assert set(records["student"].parents) == {"one", "two"}
    assert not any("scaler" in key for key in rows_seen(records["student"]))
    assert trained()["student"].id != records["student"].id


def test_cached_teacher_answers_as_the_live_one(small_study, setting_of) -> None:
    study = small_study()
    setting = setting_of(study)
    live = Frozen(load_package(package_folder(train_graph(study, setting)["one"])))
    everything = setting.rows(torch.arange(len(setting.source)), setting.available)
    some = setting.rows(setting.split.train[:7], setting.available)
    assert torch.allclose(cache(live, [everything])(some).logits, live(some).logits, atol=1e-6)


def test_changing_a_test_label_changes_no_training(small_study, setting_of) -> None:
    study = small_study()
    setting = setting_of(study)
    weights = {name: record.checksums["weights"] for name, record in train_graph(study, setting).items()}
    label = setting.source.label.clone()
    label[setting.split.test] = (label[setting.split.test] + 1) % setting.source.classes
    changed = Source("changed", setting.source.inputs, label, setting.source.classes)
    # The same rows under the same mask: only the test labels differ, and with them the source's address.
    mask = dataclasses.replace(setting.mask, source_fingerprint=changed.fingerprint)
    other = train_graph(study, dataclasses.replace(setting, source=changed, mask=mask))
    assert {name: record.checksums["weights"] for name, record in other.items()} == weights
    assert all(record.id != train_graph(study, setting)[name].id for name, record in other.items())


def test_a_leaked_test_row_stops_the_run(small_study, setting_of) -> None:
    study = small_study()
    setting = setting_of(study)
    trained = train_graph(study, setting)
    replicate = Replicate(0, 0, setting.split, setting.mask.fingerprint, trained=trained)
    audit(study, [replicate])
    leaked = torch.cat([setting.split.test, setting.split.train[:400]])
    replicate.split = dataclasses.replace(setting.split, test=leaked)
    with pytest.raises(LeakError, match="one seed 0"):
        audit(study, [replicate])


def test_a_column_that_tells_the_label_stops_the_run() -> None:
    label = torch.arange(30) % 3
    told = Source("told", {"a": torch.stack([torch.randn(30), label * 2.0 + 1], dim=1)}, label, 3)
    with pytest.raises(LeakError, match=r"a\[1\]"):
        refuse_leaking_columns(told)


def test_a_node_without_a_row_is_refused_in_one_line(small_study) -> None:
    with pytest.raises(ConfigError, match=r"mask: .*complete=0 is impossible") as refused:
        run(small_study(mask={"name": "severe", "complete": 0, "pool": 60}))
    assert "\n" not in str(refused.value)


def test_damaged_record_and_changed_weights_are_refused(small_study, setting_of) -> None:
    study = small_study()
    setting = setting_of(study)
    record = train_graph(study, setting)["one"]
    folder = run_folder("train", record.id)
    weights = folder / "package" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(RecordError, match=r"weights\.safetensors"):
        train_graph(study, setting)
    (folder / "record.json").write_text('{"id": ')
    with pytest.raises(RecordError, match="damaged record"):
        train_graph(study, setting)


def config_file(small_study, folder: Path) -> Path:
    node = {"steps": 200, "validate_every": 10, "model": {"width": 8, "encoder": {"name": "mlp", "hidden": [8]}}}
    tree = {
        "data": {"name": "synthetic", "modalities": 2, "rows": 400, "classes": 3, "width": 4},
        "mask": {"name": "severe", "complete": 40, "pool": 60},
        "seeds": 1,
        "nodes": {
            "one": {"sees": ["m0"], **node},
            "student": {"sees": ["m0", "m1"], "drop": 0.5, **node},
        },
        "edges": {
            "one": {"teacher": "one", "student": "student"},
            "self": {"teacher": "student", "student": "student", "view": "full"},
        },
    }
    parse(tree)
    path = folder / "study.yaml"
    OmegaConf.save(tree, path)
    return path


def test_killed_and_resumed_runs_equal_an_uninterrupted_one_bit_for_bit(
    small_study, tmp_path, monkeypatch, capsys
) -> None:
    path = config_file(small_study, tmp_path)
    monkeypatch.setenv("KD_CHECKPOINT_SECONDS", "0")

    def finish(store: str) -> dict[str, object]:
        monkeypatch.setenv("KD_RUNS", str(tmp_path / store))
        assert main(["run", str(path), "json=true"]) == 0
        found: dict[str, object] = json.loads(capsys.readouterr().out)
        return found

    whole = finish("whole")
    draw = random.Random(0)
    for attempt in range(2):
        store = tmp_path / f"killed{attempt}"
        process = subprocess.Popen(
            [sys.executable, "-m", "kd", "run", str(path)],
            env={**os.environ, "KD_RUNS": str(store), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # Of two trainings, none or one is finished and one has a checkpoint: then, a moment later, it is killed.
        while len(list(store.glob("train/*/record.json"))) < attempt or not any(
            store.glob("train/*.partial/last.ckpt")
        ):
            assert process.poll() is None
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not any(store.glob("run/*/record.json"))
        again = finish(store.name)
        assert again["metrics"] == whole["metrics"]
        assert again["id"] == whole["id"]
