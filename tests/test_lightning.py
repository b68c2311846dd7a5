"""Lightning's habits: a plain Trainer with our module, and several processes."""

from __future__ import annotations

import math
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from safetensors.torch import load_file

import kd
from kd.data import load_source

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "lightning.md"
SGD = {"name": "sgd", "lr": 0.05, "momentum": 0.9}


def trainer(**settings: Any) -> pl.Trainer:
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "max_epochs": 1}
    return pl.Trainer(**{"accelerator": "cpu", "enable_model_summary": False, **silent, **settings})


def data(batch_size: int = 32) -> kd.DataModule:
    source = load_source("synthetic", rows=400)
    return kd.DataModule(source, mask=kd.masks.mcar(0.3), batch_size=batch_size)


def module(batch_size: int = 32, *, dropout: float = 0.0, **settings: Any) -> tuple[kd.Distiller, kd.DataModule]:
    """Return a student that drops modalities and learns from a frozen teacher and from its own full view."""
    rows = data(batch_size)
    teacher = kd.classifier(rows, sees=["m0", "m1"], seed=1, width=8)
    edges = {"frozen": kd.Edge(teacher, kd.KL(temperature=2.0)), "self": kd.Edge(None, kd.KL(), view="full")}
    model = kd.classifier(rows, width=8, encoder={"name": "mlp", "hidden": [8], "dropout": dropout})
    return kd.Distiller(model, edges=edges, drop=0.4, optimizer=SGD, **settings), rows


def furthest(one: torch.nn.Module, other: torch.nn.Module) -> float:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)


# A plain Trainer.


def test_resumed_from_last_equals_an_uninterrupted_training(tmp_path) -> None:
    def fit(epochs: int, folder: str, ckpt_path: str | None = None) -> kd.Distiller:
        student, rows = module(dropout=0.5)
        keep = ModelCheckpoint(dirpath=tmp_path / folder, save_last=True)
        trainer(max_epochs=epochs, callbacks=[keep], enable_checkpointing=True).fit(student, rows, ckpt_path=ckpt_path)
        return student

    whole = fit(4, "whole")
    fit(2, "halves")
    resumed = fit(4, "halves", ckpt_path="last")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_two_accumulated_batches_of_16_take_the_step_of_one_of_32() -> None:
    whole, rows = module(32)
    # Full batches: an epoch's last one may be partial, and Lightning weighs accumulated batches alike.
    trainer(max_epochs=3, limit_train_batches=6).fit(whole, rows)
    halves, rows = module(16)
    trainer(max_epochs=3, limit_train_batches=12, accumulate_grad_batches=2).fit(halves, rows)
    assert furthest(whole.model, halves.model) < 1e-6
    assert furthest(whole.model, module(32)[0].model) > 1e-2


def test_accumulated_batches_have_noise_of_their_own() -> None:
    student, rows = module(dropout=0.5)
    batch = next(iter(rows.train_dataloader()))
    losses = [student.training_step(batch, batch_index).item() for batch_index in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("settings", [{"precision": "bf16-mixed"}, {"accelerator": "auto", "devices": 1}])
def test_training_lowers_the_loss_under(settings: dict[str, Any]) -> None:
    student, rows = module()
    seen = []
    for _ in range(2):
        fitted = trainer(max_epochs=4, **settings)
        fitted.fit(student, rows)
        seen.append(float(fitted.callback_metrics["train_loss"]))
    assert seen[1] < seen[0] < math.inf
    assert all(parameter.dtype == torch.float32 and parameter.isfinite().all() for parameter in student.parameters())
    assert float(fitted.callback_metrics["validation_score"]) > 0.4


def test_clipping_bounds_the_step() -> None:
    student, rows = module()
    student.optimizer_part = {"name": "sgd", "lr": 1.0, "momentum": 0.0}
    before = [parameter.detach().clone() for parameter in student.model.parameters()]
    trainer(max_steps=1, max_epochs=-1, gradient_clip_val=0.01).fit(student, rows)
    moved = torch.cat([(a - b).flatten() for a, b in zip(student.model.parameters(), before, strict=True)])
    assert 0.009 < float(moved.norm()) <= 0.01 + 1e-6


def test_a_precision_that_batches_cannot_have_is_refused_in_one_line() -> None:
    student, rows = module()
    with pytest.raises(
        kd.errors.ConfigError, match="precision: expected one of 32-true, bf16-mixed, 16-mixed"
    ) as refused:
        trainer(precision="64-true").fit(student, rows)
    assert "\n" not in str(refused.value)


# Several processes.


def shares(monkeypatch, rows: torch.Tensor, world: int) -> list[torch.Tensor]:
    from kd.data import stream

    found = []
    for rank in range(world):
        monkeypatch.setattr(stream, "processes", lambda rank=rank: (rank, world))
        found.append(stream.shared(rows))
    return found


def test_processes_share_a_batch_without_a_row_twice_or_a_process_without_rows(monkeypatch) -> None:
    for count in range(3, 20):
        parts = shares(monkeypatch, torch.arange(count), 3)
        assert torch.equal(torch.cat(parts), torch.arange(count))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert [part.tolist() for part in shares(monkeypatch, torch.arange(2), 3)] == [[0, 1]] * 3


def test_lightning_leaves_our_samplers_as_they_are() -> None:
    from torch.utils.data.distributed import DistributedSampler

    rows = data()
    for batches in (rows.train_dataloader(), rows.val_dataloader()):
        assert isinstance(batches.sampler, DistributedSampler)


def test_a_modality_that_nobody_in_a_share_has_leaves_no_parameter_without_gradient() -> None:
    student, rows = module()
    batch = next(iter(rows.train_dataloader()))
    present = batch.present.clone()
    present[:, 1] = False
    student.training_step(batch.with_present(present), 0).backward()
    assert [name for name, parameter in student.model.named_parameters() if parameter.grad is None] == []


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="no gloo")
def test_two_processes_of_16_give_the_student_of_one_of_32(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("KD_HOME", str(ROOT))
    rows = kd.DataModule(load_source("mfeat", modalities=["fou", "zer", "mor"]))
    kd.classifier(rows, sees=["fou"], seed=3).save_pretrained(tmp_path / "fou")
    # 650 training rows: the last batch of an epoch has 10, five for each process.
    common = ["--rows", "any", "--drop", "0.3", "--dropout", "0", "--optimizer", "sgd", "--epochs", "2"]
    script = [str(ROOT / "scripts" / "distill_student.py"), str(tmp_path / "fou"), *common]
    monkeypatch.setattr(sys, "argv", [*script, "--to", str(tmp_path / "one"), "--batch-size", "32"])
    runpy.run_path(script[0], run_name="__main__")
    two = ["--to", str(tmp_path / "two"), "--batch-size", "16", "--devices", "2", "--strategy", "ddp"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    words = [sys.executable, *script, *two]
    subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, check=True, timeout=120)
    students = [load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two")]
    assert max(float((students[0][name] - students[1][name]).abs().max()) for name in students[0]) < 1e-6


# The page.


def test_python_in_the_page_about_lightning_runs(tmp_path, monkeypatch) -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, PAGE.name, "exec"), {})
    assert (tmp_path / "checkpoints" / "last.ckpt").exists()
    assert any((tmp_path / "logs").rglob("metrics.csv"))


def test_page_names_every_argument_that_is_set_elsewhere_and_its_yaml_has_no_fault(monkeypatch, tmp_path) -> None:
    from omegaconf import OmegaConf

    from kd.distill.trainer import ELSEWHERE, trainer_faults

    assert [name for name in ELSEWHERE if f"`{name}`" not in PAGE.read_text()] == []
    pytest.importorskip("wandb")
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    settings = OmegaConf.to_container(OmegaConf.create(text))["trainer"]
    (tmp_path / "mine").mkdir()
    watch = "class Watch(pl.Callback):\n    def __init__(self, every: int):\n        pass\n"
    (tmp_path / "mine" / "callbacks.py").write_text(f"import pytorch_lightning as pl\n\n\n{watch}")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert trainer_faults(settings) == []
