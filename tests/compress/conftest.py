"""A small student trained on separable data, taken through every pass once for all tests here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from kd.compress.context import Context
from kd.compress.pipeline import Stage, compress
from kd.evaluate.predictor import OnnxPredictor, Predictor, TorchPredictor
from kd.models.classifier import Classifier
from kd.types import Batch

Stages = tuple[dict[str, Stage], dict[str, torch.Tensor], list[tuple[str, float | None]]]
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


def fit(rows: Batch) -> Callable[[nn.Module], nn.Module]:
    return lambda model: train(model, rows, steps=60)


@pytest.fixture(scope="session")
def context(rows: Batch) -> Context:
    return Context(rows, "multiclass", fit=fit(rows), losses=lambda model: losses(model, rows))


def losses(model: nn.Module, rows: Batch) -> Iterator[torch.Tensor]:
    yield nn.functional.cross_entropy(model(rows.inputs, rows.present).logits, rows.label)


@pytest.fixture(scope="session")
def student(rows: Batch) -> Classifier:
    torch.manual_seed(0)
    model = Classifier(SHAPES, 4, width=96, encoder={"name": "mlp", "hidden": [96], "dropout": 0.2})
    model.fit_scalers(rows.inputs, rows.present)
    train(model, rows, steps=80)
    return model


@pytest.fixture(scope="session")
def stages(student: Classifier, rows: Batch) -> Stages:
    """All stages, the student's weights as they were before, and what was reported."""
    before = {name: value.clone() for name, value in student.state_dict().items()}
    reported: list[tuple[str, float | None]] = []
    made = compress(student, rows, PASSES, fit=fit(rows), report=lambda stage, took: reported.append((stage, took)))
    return {stage.name: stage for stage in made}, before, reported


def predictor(model: object) -> Predictor:
    return TorchPredictor(model) if isinstance(model, nn.Module) else OnnxPredictor(model)


def graph_of(
    nodes: Sequence[tuple[Any, ...]],
    inputs: Mapping[str, Sequence[Any]],
    weights: Mapping[str, np.ndarray],
    *outputs: str,
    kinds: Mapping[str, np.dtype | type] | None = None,
    opset: int = 17,
) -> onnx.ModelProto:
    """Return an ONNX model from nodes (type, name, inputs, output, attributes) and the shapes of its inputs."""
    made = [
        onnx.helper.make_node(kind, given.split(), [output], name, **(rest[0] if rest else {}))
        for kind, name, given, output, *rest in nodes
    ]
    known = kinds or {}

    def value(name: str, shape: Sequence[Any] | None) -> onnx.ValueInfoProto:
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(known.get(name, np.float32)))
        return onnx.helper.make_tensor_value_info(name, kind, shape)

    graph = onnx.helper.make_graph(
        made,
        "graph",
        [value(name, shape) for name, shape in inputs.items()],
        [value(name, None) for name in outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
