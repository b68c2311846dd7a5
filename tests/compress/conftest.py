"""A small student trained on separable data, taken through every pass once for all tests here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from kd.compress.package import Context, Package
from kd.compress.pipeline import StageResult, compress
from kd.models.classifier import Classifier
from kd.types import Batch

SHAPES = {"fou": [12], "zer": [20], "mor": [4]}
PASSES = {
    "pruned": {"name": "structured", "macs": 0.5},
    "tuned": {"name": "tune"},
    "onnx": {"name": "onnx"},
    "int8": {"name": "static_int8"},
}


def toy_rows(rows: int, seed: int) -> Batch:
    """Class centres plus noise; a third of each modality is missing, NaN in its place."""
    centres = torch.Generator().manual_seed(0)
    draw = torch.Generator().manual_seed(seed)
    label = torch.randint(4, (rows,), generator=draw)
    present = torch.rand(rows, len(SHAPES), generator=draw) > 0.33
    present[:, 0] |= ~present.any(1)
    inputs = {}
    for column, (name, shape) in enumerate(SHAPES.items()):
        x = 2 * torch.randn(4, *shape, generator=centres)[label] + torch.randn(rows, *shape, generator=draw)
        inputs[name] = torch.where(present[:, column, None], x, float("nan"))
    return Batch.of(inputs, label).with_present(present)


def train(model: nn.Module, rows: Batch, steps: int) -> nn.Module:
    """Full-batch Adam on the labels."""
    torch.manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    model.train()
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(rows.inputs, rows.present).logits, rows.label).backward()
        optimiser.step()
    return model.eval()


@pytest.fixture(scope="session")
def rows() -> Batch:
    return toy_rows(256, seed=1)


@pytest.fixture(scope="session")
def unseen() -> Batch:
    return toy_rows(256, seed=2)


@pytest.fixture(scope="session")
def context(rows: Batch) -> Context:
    return Context(rows, fit=lambda model: train(model, rows, steps=60))


@pytest.fixture(scope="session")
def student(rows: Batch, tmp_path_factory: pytest.TempPathFactory) -> Package:
    torch.manual_seed(0)
    model = Classifier(SHAPES, 4, width=96, encoder={"name": "mlp", "hidden": [96], "dropout": 0.2})
    model.fit_scalers(rows.inputs, rows.present)
    return Package.save(train(model, rows, steps=80), tmp_path_factory.mktemp("student") / "student")


@pytest.fixture(scope="session")
def stages(
    student: Package, context: Context, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, StageResult], dict[Path, bytes], list[tuple[str, float | None]]]:
    """All stages, the student's bytes as they were before, and what was reported."""
    before = {file: file.read_bytes() for file in student.folder.iterdir()}
    reported: list[tuple[str, float | None]] = []
    results = compress(
        student, PASSES, context, tmp_path_factory.mktemp("stages"), lambda stage, took: reported.append((stage, took))
    )
    return {result.stage: result for result in results}, before, reported
