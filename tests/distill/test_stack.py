"""What a stack is given: batches from memory or from processes that read ahead; a look at it before its first step."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor, nn

import kd
from kd.data.columns import Images
from kd.data.module import batches
from kd.data.stream import StepBatches
from kd.distill.replica_callbacks import KeepBestEach
from kd.distill.stack import ReplicaBatches, replica_loader
from kd.errors import ConfigError, MaskError
from kd.models.leaves import Fold
from kd.seeding import derive, initialise
from kd.types import Batch

R = 3


def trainer(**settings: Any) -> pl.Trainer:
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "max_epochs": 1}
    return pl.Trainer(**{"accelerator": "cpu", "enable_model_summary": False, **silent, **settings})


@pytest.fixture
def data() -> kd.DataModule:
    return kd.DataModule(kd.load_source("synthetic", rows=200), mask=kd.masks.mcar(0.3), batch_size=16)


@pytest.fixture
def pictures() -> kd.DataModule:
    """Return a source that decodes its pictures whenever a batch asks, some rows without one."""
    generator = torch.Generator().manual_seed(0)
    encoded: list[bytes | None] = []
    for pixels in torch.randint(0, 256, (60, 8, 8, 3), generator=generator, dtype=torch.uint8):
        file = io.BytesIO()
        Image.fromarray(pixels.numpy()).save(file, "PNG")
        encoded.append(file.getvalue())
    encoded[5] = None
    observed = torch.ones(60, 2, dtype=torch.bool)
    observed[5, 0] = False
    inputs = {"image": Images(encoded, size=8), "x": torch.randn(60, 4, generator=generator)}
    label = torch.arange(60) % 3
    source = kd.Source("pictures", inputs, label, 3, observed=observed)
    return kd.DataModule(source, mask=kd.masks.mcar(0.3), batch_size=4)


def students(data: kd.DataModule, dropout: float = 0.5, **settings: Any) -> list[kd.Distiller]:
    mlp, cnn = {"name": "mlp", "hidden": [8], "dropout": dropout}, {"name": "cnn", "channels": [8]}
    encoders = {name: cnn if kind.kind == "image" else mlp for name, kind in data.source.modality.items()}
    networks = [kd.classifier(data, seed=seed, width=8, encoders=encoders) for seed in range(R)]
    return [kd.Distiller(network, seed=seed, **settings) for seed, network in enumerate(networks)]


def alike(one: Batch, other: Batch) -> bool:
    pairs = [(one.inputs[name], other.inputs[name]) for name in one.inputs]
    pairs += [(getattr(one, name), getattr(other, name)) for name in ("present", "label", "labelled", "index")]
    same = all(torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0)) and a.dtype == b.dtype for a, b in pairs)
    return same and list(one.inputs) == list(other.inputs)


def weights(stack: kd.Replicas) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in stack.model.each().items()}


# Batches.


def test_orders_are_those_that_each_student_has_alone(data: kd.DataModule) -> None:
    ones = students(data, dropout=0.0)
    stack = kd.Replicas(ones)
    trainer(max_epochs=2).fit(stack, ReplicaBatches.of(data, ones, stack.fold, steps=6), data.val_dataloader())
    for replica, one in enumerate(ones):
        rows = data.rows_for(data.modalities, "any")
        order = StepBatches(rows, batch_size=16, steps=6, seed=derive(one.seed, "order"))
        trainer(max_epochs=2).fit(one, batches(data.source, data.available, order), data.val_dataloader())
        for name, value in one.model.state_dict().items():
            torch.testing.assert_close(stack.model.state(replica)[name], value, atol=1e-5, rtol=0)


def test_students_learn_from_the_rows_they_may_learn_from(data: kd.DataModule) -> None:
    ones = [kd.Distiller(kd.classifier(data, sees=["m0"]), rows="complete", seed=seed) for seed in range(2)]
    feed = ReplicaBatches.of(data, ones, Fold(2), steps=20, batch_size=8)
    seen = torch.cat([batch.index for batch in feed])
    assert len(seen) == 2 * 20 * 8
    assert set(seen.tolist()) == set(data.rows_for(["m0"], "complete").tolist())


def test_a_student_without_a_row_is_refused() -> None:
    data = kd.DataModule(kd.load_source("synthetic", rows=60), mask=kd.masks.mcar(0.66))
    with pytest.raises(MaskError, match="replica 0: no training row is 'complete'"):
        ReplicaBatches.of(data, [kd.Distiller(kd.classifier(data), rows="complete")], Fold(1), steps=2)


@pytest.mark.parametrize("workers", [0, 2])
def test_processes_that_read_ahead_give_the_same_batches(pictures: kd.DataModule, workers: int) -> None:
    fold = Fold(R)
    feed = ReplicaBatches.of(pictures, students(pictures), fold, steps=5)
    read = replica_loader(feed, workers=workers)
    # Replicas leave between rounds; the last round is one that a resumed training starts at.
    for epoch, left in ((0, [0, 1, 2]), (1, [0, 2]), (7, [2])):
        fold.alive = torch.tensor(left)
        read.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        found, expected = list(read), list(feed)
        assert len(found) == len(read) == 5
        assert len(found[0]) == 4 * len(left)
        assert all(alike(a, b) for a, b in zip(found, expected, strict=True))
    assert not alike(found[0], found[1])


def test_picture_that_several_replicas_see_is_decoded_once(
    pictures: kd.DataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Tensor] = []
    take = Images.take
    monkeypatch.setattr(Images, "take", lambda column, rows: asked.append(rows) or take(column, rows))
    (batch,) = replica_loader(ReplicaBatches.of(pictures, students(pictures), Fold(R), steps=1, batch_size=20), 0)
    assert asked[0].tolist() == sorted(set(batch.index.tolist()))
    assert len(asked[0]) < len(batch)


@pytest.mark.parametrize("workers", [0, 2])
def test_training_on_batches_read_ahead_is_the_same_to_the_bit(pictures: kd.DataModule, workers: int) -> None:
    found = []
    for read_ahead in (False, True):
        ones = students(pictures, drop=0.3, optimizer={"name": "adam", "lr": 0.05})
        stack = kd.Replicas(ones)
        feed = ReplicaBatches.of(pictures, ones, stack.fold, steps=3)
        best = KeepBestEach(R, "complete", patience=1)
        read = replica_loader(feed, workers) if read_ahead else feed
        trainer(max_epochs=4, callbacks=[best]).fit(stack, read, pictures.val_dataloader())
        found.append((stack.fold.alive.tolist(), weights(stack), best.score))
    (left, one, score), (same, other, again) = found
    assert left == same
    assert 0 < len(left) < R
    assert torch.equal(score, again)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


# A look at the stack before its first step.


class Centred(nn.Module):
    """A network that looks at its whole batch."""

    modalities = ("m0",)

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 4)
        initialise(self, seed)

    def forward(self, inputs: dict[str, Tensor], present: Tensor) -> Tensor:
        answer: Tensor = self.layer(inputs["m0"])
        return answer - answer.mean(dim=0)


def fitted(data: kd.DataModule, ones: list[kd.Distiller], before: Callable[[kd.Replicas], Any]) -> kd.Replicas:
    stack = kd.Replicas(ones)
    before(stack)
    trainer().fit(stack, ReplicaBatches.of(data, ones, stack.fold, steps=3), data.val_dataloader())
    return stack


def test_network_that_mixes_replicas_is_refused_before_the_first_step(data: kd.DataModule) -> None:
    task = kd.Distiller(kd.classifier(data)).task
    ones = [kd.Distiller(Centred(seed), task=task, seed=seed) for seed in range(R)]
    stack = kd.Replicas(ones)
    before = weights(stack)
    with pytest.raises(
        ConfigError, match=r"^Centred does not stack \(replica 0 is off by .*\); train it alone"
    ) as refused:
        trainer().fit(stack, ReplicaBatches.of(data, ones, stack.fold, steps=3), data.val_dataloader())
    assert "\n" not in str(refused.value)
    assert all(torch.equal(value, before[name]) for name, value in weights(stack).items())


def test_looking_at_the_stack_changes_no_bit_of_the_training(data: kd.DataModule) -> None:
    looked = fitted(data, students(data, drop=0.3), lambda stack: None)
    unseen = fitted(data, students(data, drop=0.3), lambda stack: stack._compared.clear())
    others = weights(unseen)
    assert all(torch.equal(value, others[name]) for name, value in weights(looked).items())


def test_networks_are_let_go_after_the_first_batch(data: kd.DataModule) -> None:
    ones = students(data)
    stack = kd.Replicas(ones)
    assert list(stack._compared) == [0, R - 1]
    batch = next(iter(ReplicaBatches.of(data, ones, stack.fold, steps=1)))
    stack.on_train_batch_start(batch, 0)
    assert not stack._compared


def test_narrowed_stack_is_not_compared(data: kd.DataModule) -> None:
    task = kd.Distiller(kd.classifier(data)).task
    stack = kd.Replicas([kd.Distiller(Centred(seed), task=task, seed=seed) for seed in range(R)])
    stack.model.narrow(torch.tensor([0, 1]))
    ones = students(data)
    stack.on_train_batch_start(next(iter(ReplicaBatches.of(data, ones, stack.fold, steps=1))), 0)
    assert not stack._compared
