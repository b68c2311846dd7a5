from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch

from kd.compress.export import Onnx, export
from kd.compress.package import Context, Package, differences, every_pattern, hidden
from kd.compress.pipeline import StageResult
from kd.errors import KDError
from kd.evaluate.predictor import OnnxPredictor, TorchPredictor
from kd.models.classifier import Classifier
from kd.types import Batch

Stages = tuple[dict[str, StageResult], dict[Path, bytes], list[tuple[str, float | None]]]


def test_graph_gives_the_networks_logits_on_every_subset(stages: Stages, unseen: Batch) -> None:
    network, graph = stages[0]["tuned"].package.predictor(), stages[0]["onnx"].package.predictor()
    found = differences(network, graph, unseen, "multiclass", limit=256)
    assert found["parity_max"] <= 1e-6
    assert found["agreement"] == 1.0


@pytest.mark.parametrize("stage", ["tuned", "onnx", "int8"])
def test_hidden_modality_changes_nothing(stages: Stages, unseen: Batch, stage: str) -> None:
    predictor = stages[0][stage].package.predictor()
    for availability in every_pattern(predictor.modalities):
        present = unseen.present & availability
        garbage = hidden(unseen, predictor.modalities, present)
        assert (predictor(garbage, present) == predictor(unseen.inputs, present)).all()


def test_card_names_inputs_parity_opset_and_runtime(stages: Stages) -> None:
    package = stages[0]["onnx"].package
    graph = onnx.load(package.folder / "model.onnx")
    onnx.checker.check_model(graph, full_check=True)
    assert {value.name for value in graph.graph.input} == {"fou", "zer", "mor", "present"}
    assert [value.name for value in graph.graph.output] == ["logits"]
    assert package.card["opset"]["ai.onnx"] >= 18
    assert package.card["runtime"].startswith("onnxruntime")
    assert package.evidence["parity_max"] <= 1e-6


@pytest.mark.parametrize("fusion", ["gated", "attention"])
def test_every_fusion_exports(fusion: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Classifier({"fou": [6], "pix": [3, 4]}, 3, width=8, fusion={"name": fusion}).eval()
    export(model, tmp_path / "model.onnx")
    batch = Batch.of({"fou": torch.randn(7, 6), "pix": torch.randn(7, 3, 4)}, torch.zeros(7))
    found = differences(TorchPredictor(model), OnnxPredictor(tmp_path / "model.onnx"), batch, "multiclass")
    assert found["parity_max"] <= 1e-6


def test_graph_out_of_tolerance_is_refused_and_leaves_nothing(
    stages: Stages, student: Package, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The fault injected: an exporter that hands over another network's graph.
    graph = onnx.load(stages[0]["onnx"].package.folder / "model.onnx")
    monkeypatch.setattr("kd.compress.export.export", lambda model, path: onnx.save(graph, str(path)))
    with pytest.raises(KDError, match=r"differs by .* of the logits' scale"):
        Onnx()(student, context, tmp_path / "out")
    assert not (tmp_path / "out").exists()
