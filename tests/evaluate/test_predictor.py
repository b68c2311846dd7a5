from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from kd.errors import KDError, RecordError
from kd.evaluate.cost import bytes_on_disk, latency, macs, parameters
from kd.evaluate.predictor import OnnxPredictor, TorchPredictor
from kd.types import Output

WEIGHT = torch.arange(12.0).view(4, 3)


class Sum(nn.Module):
    """logits = where(present, x, 0) W, one modality: small enough to write the same graph by hand."""

    modalities = ("fou",)

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3, bias=False)
        self.linear.weight.data = WEIGHT.T.contiguous()

    def forward(self, inputs: dict[str, torch.Tensor], present: torch.Tensor) -> Output:
        return Output(self.linear(torch.where(present, inputs["fou"], 0.0)))


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    nodes = [
        helper.make_node("Where", ["present", "fou", "zero"], ["shown"]),
        helper.make_node("MatMul", ["shown", "weight"], ["logits"]),
    ]
    constants = [
        helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
        helper.make_tensor("weight", TensorProto.FLOAT, [4, 3], WEIGHT.flatten().tolist()),
    ]
    present = helper.make_tensor_value_info("present", TensorProto.BOOL, ["batch", 1])
    fou = helper.make_tensor_value_info("fou", TensorProto.FLOAT, ["batch", 4])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])
    body = helper.make_graph(nodes, "sum", [fou, present], [logits], constants)
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(body, ir_version=10, opset_imports=[helper.make_opsetid("", 20)]), path)
    return path


def test_torch_and_onnx_answer_alike_for_arrays_and_tensors(graph: Path) -> None:
    x = torch.randn(5, 4, dtype=torch.float64)
    present = torch.tensor([True, False, True, True, False]).view(5, 1)
    for predictor in (TorchPredictor(Sum()), OnnxPredictor(graph)):
        expected = (torch.where(present, x, 0.0) @ WEIGHT.double()).numpy()
        np.testing.assert_allclose(predictor({"fou": x}, present), expected, rtol=1e-5)
        np.testing.assert_allclose(predictor({"fou": x.numpy()}, present.numpy()), expected, rtol=1e-5)
        assert predictor.modalities == ["fou"]
        assert predictor.bytes >= 48


def test_hidden_nan_reaches_no_logit(graph: Path) -> None:
    hidden = {"fou": np.full((2, 4), np.nan)}
    for predictor in (TorchPredictor(Sum()), OnnxPredictor(graph)):
        assert (predictor(hidden, np.zeros((2, 1), dtype=bool)) == 0).all()


def test_threads_of_a_session_are_pinned(graph: Path) -> None:
    options = OnnxPredictor(graph, threads=2).session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 2)


def test_damaged_graph_is_refused_in_one_line(graph: Path) -> None:
    graph.write_bytes(b"no graph")
    with pytest.raises(RecordError) as caught:
        OnnxPredictor(graph)
    assert "\n" not in str(caught.value)


def test_graph_without_availability_answers_whole_rows_only(graph: Path) -> None:
    model = onnx.load(graph)
    del model.graph.node[0], model.graph.input[1]
    model.graph.node[0].input[0] = "fou"
    predictor = OnnxPredictor(model)
    assert not predictor.takes_present
    x = torch.randn(5, 4)
    np.testing.assert_allclose(predictor({"fou": x}, torch.ones(5, 1)), x @ WEIGHT, rtol=1e-5)
    with pytest.raises(RecordError, match="takes no input 'present', so every row needs fou"):
        predictor({"fou": x}, torch.zeros(5, 1))


def test_cost_counts_products_once_per_sample() -> None:
    # By hand: a 4 x 3 matrix has 12 weights and takes 12 multiply-accumulates per row, whatever the number of rows.
    model = Sum()
    assert parameters(model) == 12
    for rows in (1, 7):
        assert macs(model, {"fou": torch.ones(rows, 4)}, torch.ones(rows, 1, dtype=torch.bool)) == 12


def test_bytes_on_disk_of_a_folder_is_the_sum_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "a").write_bytes(b"123")
    (tmp_path / "inner" / "b").write_bytes(b"4567")
    assert bytes_on_disk(tmp_path) == 7
    assert bytes_on_disk(tmp_path / "a") == 3


def test_latency_is_a_ratio_to_the_first_and_states_batch_and_threads(graph: Path) -> None:
    before = torch.get_num_threads()
    example = ({"fou": np.ones((6, 4), np.float32)}, np.ones((6, 1), dtype=bool))
    found = latency({"torch": TorchPredictor(Sum()), "onnx": OnnxPredictor(graph)}, example, repeats=20)
    assert found["torch"]["ratio"] == 1.0
    assert found["onnx"]["ratio"] > 0
    assert found["onnx"]["median_ms"] <= found["onnx"]["p95_ms"]
    assert (found["onnx"]["batch"], found["onnx"]["threads"]) == (6, 1)
    assert torch.get_num_threads() == before


def test_latency_of_nothing_is_refused() -> None:
    with pytest.raises(KDError, match="predictors and repeats"):
        latency({}, ({}, np.ones((1, 1))))
