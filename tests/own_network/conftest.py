"""What a user brings: two LightningModules, the checkpoints of their own trainings, and data of two modalities."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

import kd
from kd.config import Study
from kd.data.masks import draw
from kd.data.splits import split
from kd.distill.fit import Setting
from kd.parsing import parse
from kd.tree import merge

OWN = '''
"""What a user wrote, before there was any kd."""

import pytorch_lightning as pl
import torch
import torchvision
from torch import nn
from transformers import BertConfig, BertForSequenceClassification


class Lit(pl.LightningModule):
    def training_step(self, batch, _):
        x, y = batch
        answer = self(x)
        return nn.functional.cross_entropy(getattr(answer, "logits", answer), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Pictures(Lit):
    def __init__(self, classes: int):
        super().__init__()
        self.save_hyperparameters()
        self.network = torchvision.models.resnet18(num_classes=classes)

    def forward(self, x):
        return self.network(x)


class Words(Lit):
    def __init__(self, classes: int, width: int = 16):
        super().__init__()
        self.save_hyperparameters()
        layers = dict(num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, max_position_embeddings=8)
        self.network = BertForSequenceClassification(
            BertConfig(vocab_size=50, hidden_size=width, num_labels=classes, **layers)
        )

    def forward(self, input_ids, attention_mask=None):
        return self.network(input_ids=input_ids, attention_mask=attention_mask)


class Fused(nn.Module):
    """Takes what kd's batches hold, as it is."""

    def __init__(self, classes: int = 3, width: int = 8):
        super().__init__()
        self.image, self.words = nn.Linear(3, width), nn.Embedding(50, width)
        self.head = nn.Linear(width, classes)

    def forward(self, inputs, present):
        seen = present.float()
        image = self.image(inputs["image"].float().mean(dim=(2, 3)) / 255) * seen[:, :1]
        return self.head(torch.relu(image + self.words(inputs["words"]).mean(dim=1) * seen[:, 1:]))


class Views(nn.Module):
    def __init__(self, classes: int, width: int = 8):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, classes))

    def forward(self, x):
        return self.layers(x)


class Tied(Views):
    def __init__(self, classes: int):
        super().__init__(classes, width=4)
        self.layers[2].weight = self.layers[0].weight


def views(classes: int) -> nn.Module:
    return Views(classes)


class Broken(nn.Module):
    def __init__(self, classes: int):
        raise RuntimeError("out of luck")


class Pair(Views):
    def forward(self, x):
        return super().forward(x), x
'''


PICTURES = {"import": "own_models:Pictures", "classes": 3, "takes": {"image": "x"}, "checkpoint": "pictures.ckpt"}
WORDS = {"import": "own_models:Words", "classes": 3, "takes": {"words": "input_ids"}, "checkpoint": "words.ckpt"}


def study_of(**changes: Any) -> Study:
    student = {"sees": ["image", "words"], "drop": 0.3, "steps": 4, "validate_every": 2, "batch_size": 16}
    tree = {
        "data": {"name": "synthetic"},
        "nodes": {
            "pictures": {"sees": ["image"], "steps": 0, "model": PICTURES},
            "words": {"sees": ["words"], "steps": 0, "model": WORDS},
            "student": {**student, "model": {"import": "own_models:Fused"}},
        },
        "edges": {name: {"teacher": name, "student": "student"} for name in ("pictures", "words")},
    }
    return parse(merge(tree, changes))


@pytest.fixture(scope="module")
def source() -> kd.Source:
    stream = torch.Generator().manual_seed(0)
    label = torch.arange(120) % 3
    image = torch.randint(0, 120, (120, 3, 32, 32), generator=stream, dtype=torch.uint8)
    image[torch.arange(120), label] += 60
    words = torch.randint(1, 50, (120, 8), generator=stream)
    words[:, 1] = 10 + label
    words[::2, 6:] = 0
    modality = {"words": kd.Modality((8,), "text", vocabulary=50)}
    return kd.Source("both", {"image": image, "words": words}, label, 3, modality=modality)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, source: kd.Source) -> Iterator[Path]:
    """Return a folder in which a user has two LightningModules and the checkpoints of their own trainings."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_models.py").write_text(OWN)
    path = sys.path.copy()
    sys.path.insert(0, str(folder))
    models = importlib.import_module("own_models")
    torch.manual_seed(0)
    for name, x in (("pictures", source.inputs["image"].float() / 255), ("words", source.inputs["words"])):
        module = getattr(models, name.title())(3)
        trainer = pl.Trainer(
            max_steps=4, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
            default_root_dir=folder, enable_checkpointing=False,
        )  # fmt: skip
        trainer.fit(module, DataLoader(TensorDataset(x, source.label), batch_size=16))
        trainer.save_checkpoint(folder / f"{name}.ckpt")
    yield folder
    sys.path[:] = path
    del sys.modules["own_models"]


@pytest.fixture
def models(own: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(own)
    return importlib.import_module("own_models")


@pytest.fixture
def setting(source: kd.Source) -> Setting:
    rows = split(source)
    return Setting.of(source, rows, draw(source, rows, {"name": "mcar", "rate": 0.3}, 0), 0)
