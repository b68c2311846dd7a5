"""Networks that teach one another: each step is that of students with frozen copies of the others as teachers."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

import kd
from kd.errors import ConfigError

SGD = {"name": "sgd", "lr": 0.1, "momentum": 0.0}


@pytest.fixture
def data() -> kd.DataModule:
    return kd.DataModule(kd.load_source("synthetic", rows=200), mask=kd.masks.mcar(0.3), batch_size=160)


def networks(data: kd.DataModule) -> dict[str, nn.Module]:
    plain: dict[str, Any] = {"width": 8, "encoder": {"name": "mlp", "hidden": [8], "dropout": 0.0}}
    seen = {"both": ["m0", "m1"], "one": ["m0"], "two": ["m1", "m2"]}
    return {name: kd.classifier(data, sees=sees, seed=seed, **plain) for seed, (name, sees) in enumerate(seen.items())}


def trainer(steps: int = 1) -> pl.Trainer:
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return pl.Trainer(max_steps=steps, accelerator="cpu", enable_model_summary=False, num_sanity_val_steps=0, **silent)


def test_a_step_is_that_of_students_of_the_others_as_they_were(data: kd.DataModule) -> None:
    models = networks(data)
    before = copy.deepcopy(models)
    mutual = kd.Mutual(models, weight=0.6, temperature=2.0, optimizer=SGD)
    trainer().fit(mutual, data)
    for name in before:
        model = copy.deepcopy(before[name])
        rest = {other: copy.deepcopy(peer) for other, peer in before.items() if other != name}
        others = {other: kd.Edge(peer, kd.KL(temperature=2.0), 0.3, when="any") for other, peer in rest.items()}
        trainer().fit(kd.Distiller(model, edges=others, optimizer=SGD), data)
        for key, value in model.state_dict().items():
            torch.testing.assert_close(mutual.models[name].state_dict()[key], value, atol=1e-6, rtol=1e-5)


def test_without_weight_each_learns_alone(data: kd.DataModule) -> None:
    models = networks(data)
    before = copy.deepcopy(models["one"])
    mutual = kd.Mutual(models, weight=0.0, optimizer=SGD)
    trainer(3).fit(mutual, data)
    trainer(3).fit(kd.Distiller(before, optimizer=SGD), data)
    for key, value in before.state_dict().items():
        torch.testing.assert_close(mutual.models["one"].state_dict()[key], value, atol=1e-6, rtol=1e-5)


def test_scores_are_logged_and_more_is_hidden_at_random(data: kd.DataModule) -> None:
    mutual = kd.Mutual(networks(data), drop=0.5)
    fit = trainer(4)
    fit.fit(mutual, data)
    assert {"validation_score", "validation_score/one"} <= set(fit.callback_metrics)
    assert 0 <= float(fit.callback_metrics["validation_score"]) <= 1


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"models": {}}, "two networks or more"),
        ({"models": {"a": nn.Linear(1, 1), "b": nn.Linear(1, 1)}}, "models.a: does not say what it sees"),
        ({"drop": 1.0}, "drop in"),
        ({"weight": -1.0}, "weight of at least 0"),
    ],
)
def test_what_cannot_be_is_refused(data: kd.DataModule, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        kd.Mutual(**{"models": networks(data), **settings})
