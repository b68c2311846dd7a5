"""Mean teacher: a student's averaged weights teach it, by the paper's formula, stacked or alone, stopped or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

import kd
from kd.config import Study
from kd.data import load_source
from kd.distill.averaged import Averaged
from kd.errors import ConfigError
from kd.parsing import parse
from kd.study.check import faults

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}


def student(view: str = "averaged", decay: float = 0.9, dropout: float = 0.0) -> tuple[kd.Distiller, kd.DataModule]:
    rows = kd.DataModule(load_source("synthetic", rows=200), mask=kd.masks.mcar(0.3), batch_size=32)
    model = kd.classifier(rows, width=8, encoder={"name": "mlp", "hidden": [8], "dropout": dropout})
    edges = {"self": kd.Edge(None, kd.KL(temperature=2.0), view=view, decay=decay)}  # type: ignore[arg-type]
    return kd.Distiller(model, edges=edges, drop=0.5, optimizer={"name": "adam", "lr": 0.02}), rows


def fit(module: kd.Distiller, rows: kd.DataModule, epochs: int = 2, **trainer: Any) -> kd.Distiller:
    settings = {**QUIET, "enable_checkpointing": False, **trainer}
    pl.Trainer(max_epochs=epochs, **settings).fit(module, rows, ckpt_path=settings.pop("ckpt_path", None))
    return module


class Steps(pl.Callback):
    """Keeps the weights that every step begins with, and what the teacher is after it."""

    def __init__(self) -> None:
        self.weights: list[dict[str, torch.Tensor]] = []

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        self.weights.append({name: value.detach().clone() for name, value in module.model.named_parameters()})


def test_the_average_is_the_papers_and_it_is_what_teaches() -> None:
    steps = Steps()
    module, rows = student(decay=0.7)
    fit(module, rows, callbacks=[steps])
    by_hand = dict(steps.weights[0])
    for step, weights in enumerate(steps.weights):
        a = min(1 - 1 / (step + 1), 0.7)
        by_hand = {name: a * value + (1 - a) * weights[name] for name, value in by_hand.items()}
    found = module.averages["self"].weights()  # type: ignore[operator]
    assert len(steps.weights) > 4
    assert all(torch.allclose(found[name], value, atol=1e-6) for name, value in by_hand.items())
    batch = next(iter(rows.train_dataloader()))
    told = module._answer("self", module.edges["self"], batch)  # type: ignore[arg-type]
    now = module(batch).logits
    module.model.load_state_dict({**module.model.state_dict(), **by_hand})
    assert torch.allclose(told.logits, module(batch).logits, atol=1e-5)
    assert not torch.allclose(told.logits, now, atol=1e-3)
    assert not told.logits.requires_grad


def test_an_average_without_memory_is_the_students_own_full_view() -> None:
    own, averaged = (fit(*student(view, decay=0.0, dropout=0.5)) for view in ("full", "averaged"))
    assert all(torch.equal(a, b) for a, b in zip(own.model.parameters(), averaged.model.parameters(), strict=True))
    remembers = fit(*student(decay=0.9, dropout=0.5))
    assert not torch.equal(next(own.model.parameters()), next(remembers.model.parameters()))


def test_the_average_is_no_parameter_and_a_resumed_training_equals_a_whole_one(tmp_path) -> None:
    module, _ = student()
    assert {name.split(".")[0] for name, _ in module.named_parameters()} == {"model"}
    whole = fit(*student(dropout=0.5), epochs=4)
    keep = {"callbacks": [ModelCheckpoint(dirpath=tmp_path, save_last=True)], "enable_checkpointing": True}
    fit(*student(dropout=0.5), epochs=2, **keep)
    module, rows = student(dropout=0.5)
    pl.Trainer(max_epochs=4, **QUIET, **keep).fit(module, rows, ckpt_path=str(tmp_path / "last.ckpt"))  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), module.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(whole.buffers(), module.buffers(), strict=True))


def test_two_accumulated_batches_of_a_step_count_once() -> None:
    network = torch.nn.Linear(2, 1)
    average = Averaged(network, 0.5)
    average.follow(network, 0)
    with torch.no_grad():
        network.weight.fill_(1.0)
    average.follow(network, 1)
    once = average.weights()["weight"].clone()
    average.follow(network, 1)
    assert torch.equal(once, average.weights()["weight"])


def test_wrong_edges_are_told_in_a_line(small_study: Callable[..., Study]) -> None:
    with pytest.raises(ConfigError, match="decay: expected a number in"):
        student(decay=1.0)
    tree = asdict(small_study())
    tree["edges"] = {
        "a": {"teacher": "student", "student": "student", "view": "averaged", "decay": 1.5},
        "b": {"teacher": "one", "student": "student", "view": "averaged"},
    }
    told = faults(parse(tree))
    assert "edges.a.decay: expected a number in [0, 1), got 1.5" in told
    assert any(
        fault.startswith("edges.b.view: 'full' or 'averaged' belongs to an edge whose teacher") for fault in told
    )
