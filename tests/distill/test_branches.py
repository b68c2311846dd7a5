"""A learning rate per branch: who gets which, who gets none, and what an unknown name says."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch

import kd
from kd.data import load_source
from kd.distill.branches import branches, parameter_groups
from kd.distill.module import Distiller
from kd.errors import ConfigError


@pytest.fixture(scope="module")
def data() -> kd.DataModule:
    return kd.DataModule(load_source("synthetic", rows=200))


def fit(module: Distiller, data: kd.DataModule, steps: int = 6) -> pl.Trainer:
    trainer = pl.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    return trainer


def test_branches_have_their_own_rates_and_the_schedule_scales_each(data) -> None:
    rates = {"m0": 2e-5, "head": 1e-2}
    module = Distiller(kd.classifier(data, width=4), learning_rates=rates, schedule={"name": "cosine"})
    trainer = fit(module, data, 4)
    (optimizer,) = trainer.optimizers
    assert [group["initial_lr"] for group in optimizer.param_groups] == [1e-3, 2e-5, 1e-2]
    shares = [group["lr"] / group["initial_lr"] for group in optimizer.param_groups]
    assert max(shares) - min(shares) < 1e-12
    assert shares[0] < 1
    sizes = [sum(p.numel() for p in group["params"]) for group in optimizer.param_groups]
    assert sum(sizes) == sum(p.numel() for p in module.model.parameters())
    assert sizes[1] == sum(p.numel() for p in module.model.encoders["m0"].parameters())


def test_the_longest_path_wins(data) -> None:
    model = kd.classifier(data, width=4)
    groups = parameter_groups(model, [], branches(model, {"m0": 1e-4, "encoders.m0.layers.0": 1e-2, "fusion": 0.0}))
    chosen = {id(p): group.get("lr") for group in groups for p in group["params"]}
    assert chosen[id(model.encoders["m0"].layers[0].weight)] == 1e-2
    assert chosen[id(model.encoders["m0"].layers[3].weight)] == 1e-4
    assert chosen[id(model.head.weight)] is None


def test_a_branch_at_zero_keeps_every_bit_and_stays_in_eval_mode(data) -> None:
    model = kd.classifier(data, width=4)
    before = {name: value.clone() for name, value in model.encoders["m1"].state_dict().items()}
    module = Distiller(model, learning_rates={"m1": 0})
    trainer = fit(module, data)
    assert all(torch.equal(before[name], value) for name, value in model.encoders["m1"].state_dict().items())
    in_optimiser = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    assert not any(id(p) in in_optimiser for p in model.encoders["m1"].parameters())
    assert not any(module.training for module in model.encoders["m1"].modules())
    assert model.encoders["m0"].training


def test_no_rates_train_as_one_group_does(data) -> None:
    one, other = (kd.classifier(data, width=4) for _ in range(2))
    fit(Distiller(one, optimizer={"name": "sgd", "lr": 0.1}), data)
    fit(Distiller(other, optimizer={"name": "sgd", "lr": 0.1}, learning_rates={"m0": 0.1, "head": 0.1}), data)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({"m9": 1e-3}, "learning_rates.m9: the network has no such branch; Known: m0, m1, m2, head"),
        ({"heat": 1e-3}, "did you mean 'head'"),
        ({"m0": -1.0}, "learning_rates.m0: expected a number of at least 0"),
        ({"m0": float("nan")}, "learning_rates.m0: expected a number of at least 0"),
    ],
)
def test_wrong_branch_or_rate_is_one_line(data, rates: dict[str, float], expected: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Distiller(kd.classifier(data, width=4), learning_rates=rates)
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)


def test_everything_at_zero_is_refused(data) -> None:
    model = kd.classifier(data, width=4)
    zero = {"m0": 0.0, "m1": 0.0, "m2": 0.0, "head": 0.0}
    with pytest.raises(ConfigError, match="every branch is at 0"):
        parameter_groups(model, [], branches(model, zero))
