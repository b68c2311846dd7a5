"""`trainer:` in a config: what it takes, what it refuses, what of it enters an address."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import load_file

from kd.distill.fit import build, node_address, skipping_absent, train_graph
from kd.distill.graph import part_faults
from kd.distill.trained import package_folder
from kd.distill.trainer import ELSEWHERE, deciding
from kd.errors import ConfigError
from kd.parsing import load, parse
from kd.registry import keywords

SGD = {"name": "sgd", "lr": 0.05, "momentum": 0.9}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"precison": "bf16-mixed"}, "trainer.precison: unknown argument; did you mean 'precision'"),
        ({"gradient_clip_val": "much"}, "trainer.gradient_clip_val: expected "),
        ({"precision": "bf16-true"}, "trainer.precision: expected one of 32-true, bf16-mixed, 16-mixed"),
        ({"max_epochs": 3}, "trainer.max_epochs: not set here; set nodes.NAME.steps"),
        ({"max_steps": 3}, "trainer.max_steps: not set here; set nodes.NAME.steps"),
        (
            {"check_val_every_n_epoch": 2},
            "trainer.check_val_every_n_epoch: not set here; set nodes.NAME.validate_every",
        ),
        ({"enable_checkpointing": True}, "trainer.enable_checkpointing: not set here"),
        ({"devices": 2, "strategy": "ddp"}, "trainer.devices: a study trains on one device, got 2"),
        ({"strategy": "ddpp"}, "trainer: ValueError: You selected an invalid strategy name"),
        ({"profiler": "fast"}, "trainer: MisconfigurationException"),
        ({"logger": "wandbb"}, "trainer.logger: unknown logger 'wandbb'; did you mean 'wandb'"),
        ({"logger": True}, "trainer.logger: expected false, a name or {name: csv, ...}, got True"),
        ({"loggers": {"cvs": {}}}, "trainer.loggers.cvs: unknown logger 'cvs'; did you mean 'csv'"),
        ({"loggers": "csv"}, "trainer.loggers: expected a mapping"),
        (
            {"loggers": {"csv": {"save_dirr": "x"}}},
            "trainer.loggers.csv.save_dirr: unknown argument; did you mean 'save_dir'",
        ),
        ({"callbacks": ["EarlyStopping"]}, "trainer.callbacks: expected a mapping"),
        (
            {"callbacks": {"a": {"name": "EarlyStoping"}}},
            "trainer.callbacks.a.name: unknown callback 'EarlyStoping'; did you",
        ),
        (
            {"callbacks": {"a": {"name": "EarlyStopping", "monitor": "validation_los"}}},
            "trainer.callbacks.a.monitor: nothing of that name is logged, 'validation_los'; did you mean",
        ),
        ({"limit_val_batches": 0}, "trainer.limit_val_batches: not set here; every validation row counts"),
        ({"callbacks": {"a": {"name": "EarlyStopping"}}}, "trainer.callbacks.a.monitor: required argument is missing"),
        ({"callbacks": {"a": {"name": "Timer", "interval": "x"}}}, "trainer.callbacks.a: "),
        ({"callbacks": {"a": {"import": "nowhere:Callback"}}}, "trainer.callbacks.a.import: no module 'nowhere'"),
        ({"callbacks": {"a": {"import": "collections:OrderedDict"}}}, "collections:OrderedDict is no Callback"),
    ],
)
def test_wrong_trainer_setting_is_one_line(settings: dict[str, Any], expected: str) -> None:
    tree = {"data": {"name": "synthetic"}, "nodes": {"t": {"sees": ["m0"]}}, "trainer": settings}
    found = part_faults(parse(tree))
    assert any(expected in fault for fault in found), found
    assert all("\n" not in fault for fault in found)


def test_every_trainer_argument_is_taken_or_refused_with_what_to_do_instead() -> None:
    known = set(keywords(pl.Trainer))
    assert set(ELSEWHERE) <= known
    assert {"precision", "gradient_clip_val", "accumulate_grad_batches", "accelerator", "strategy"} <= known - set(
        ELSEWHERE
    )


def test_settings_can_be_written_on_the_command_line(tmp_path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("data: {name: synthetic}\nnodes: {t: {sees: [m0]}}\n")
    words = ["trainer.precision=bf16-mixed", "trainer.loggers.csv.save_dir=logs", "trainer.callbacks.slow.name=Timer"]
    assert part_faults(load(path, words)) == []


def test_loggers_decide_nothing_and_callbacks_and_precision_do(small_study, setting_of) -> None:
    def address(**settings: Any) -> dict[str, Any]:
        study = small_study(trainer=settings)
        return node_address(study, "one", setting_of(study).fingerprints, {})

    plain = address()
    assert address(logger="csv", enable_progress_bar=True, profiler="simple") == plain
    for changed in (
        {"precision": "bf16-mixed"},
        {"gradient_clip_val": 0.5},
        {"accumulate_grad_batches": 2},
        {"callbacks": {"early": {"name": "EarlyStopping", "monitor": "validation_loss"}}},
    ):
        assert address(**changed) != plain


def test_an_imported_callback_is_addressed_by_its_code(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    source = "import pytorch_lightning as pl\n\n\nclass Mine(pl.Callback):\n    patience = {}\n"
    found = []
    for number in (1, 2):
        (tmp_path / "own_callback.py").write_text(source.format(number))
        found.append(deciding({"callbacks": {"a": {"import": "own_callback:Mine"}}}))
    assert found[0] != found[1]


def test_accumulation_keeps_the_number_of_steps_and_what_a_step_sees(small_study, setting_of) -> None:
    def student(batch_size: int, **settings: Any) -> tuple[dict[str, torch.Tensor], int]:
        node = {"steps": 20, "validate_every": 10, "batch_size": batch_size, "optimizer": SGD, "select": "last"}
        model = {"width": 8, "encoder": {"name": "mlp", "hidden": [8], "dropout": 0.0}}
        nodes = {"one": {"sees": ["m0", "m1"], "drop": 0.3, "model": model, **node}}
        study = small_study(nodes=nodes, edges={}, ensembles={}, contrasts={}, trainer=settings)
        record = train_graph(study, setting_of(study))["one"]
        return load_file(package_folder(record) / "weights.safetensors"), record.metrics["steps"]

    whole, steps = student(32)
    halves, same = student(16, accumulate_grad_batches=2)
    assert steps == same == 20
    assert max(float((whole[name] - halves[name]).abs().max()) for name in whole) < 1e-6


def test_a_study_trains_under_the_settings_of_its_trainer(small_study, setting_of) -> None:
    settings = {"precision": "bf16-mixed", "gradient_clip_val": 0.5, "accelerator": "auto", "deterministic": True}
    study = small_study(trainer=settings)
    records = train_graph(study, setting_of(study))
    torch.use_deterministic_algorithms(False)
    plain = train_graph(small_study(), setting_of(study))
    for name, record in records.items():
        weights = load_file(package_folder(record) / "weights.safetensors")
        assert all(value.dtype == torch.float32 and value.isfinite().all() for value in weights.values())
        assert record.id != plain[name].id
        score = plain[name].metrics["validation_score"]
        assert record.metrics["validation_score"] == pytest.approx(score, abs=0.15)


def test_early_stopping_stops_and_the_record_says_when(small_study, setting_of) -> None:
    early = {"name": "EarlyStopping", "monitor": "validation_loss", "patience": 1, "min_delta": 100.0}
    study = small_study(trainer={"callbacks": {"early": early}})
    record = train_graph(study, setting_of(study))["one"]
    # The first of four rounds sets the mark, the second is no better by 100.
    assert record.metrics["steps"] == 20


def test_a_callback_that_lacks_something_says_so_in_one_line(small_study, setting_of) -> None:
    study = small_study(trainer={"callbacks": {"rates": {"name": "LearningRateMonitor"}}})
    with pytest.raises(ConfigError, match=r"trainer: .*LearningRateMonitor.* no logger") as refused:
        train_graph(study, setting_of(study))
    assert "\n" not in str(refused.value)


def test_encoders_skip_absent_rows_while_a_study_trains_and_only_then(small_study, setting_of) -> None:
    study = small_study()
    built, _ = build(study, "one", setting_of(study), {})
    with skipping_absent(built.model):
        assert built.model.skip_absent
    assert not built.model.skip_absent
