from __future__ import annotations

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from kd.compress.context import Context
from kd.compress.export import Onnx, export, strip
from kd.compress.rows import answers, differences, every_pattern, hidden
from kd.errors import KDError
from kd.evaluate.predictor import OnnxPredictor
from kd.models.classifier import Classifier
from kd.types import Batch, Modality
from tests.compress.conftest import Stages, predictor


def test_graph_gives_the_networks_logits_on_every_subset(stages: Stages, unseen: Batch) -> None:
    network, graph = (answers(predictor(stages[0][stage].model), unseen) for stage in ("tuned", "onnx"))
    assert network.shape[0] == 7
    assert differences(network, graph, "multiclass")["parity_max"] <= 1e-6
    assert differences(network, graph, "multiclass")["agreement"] == 1.0


@pytest.mark.parametrize("stage", ["tuned", "onnx", "int8"])
def test_hidden_modality_changes_nothing(stages: Stages, unseen: Batch, stage: str) -> None:
    ask = predictor(stages[0][stage].model)
    for availability in every_pattern(ask.modalities):
        present = unseen.present & availability
        garbage = hidden(unseen, ask.modalities, present)
        assert (ask(garbage, present) == ask(unseen.inputs, present)).all()


def test_graph_has_named_inputs_and_nodes_called_after_their_layers(stages: Stages) -> None:
    graph = stages[0]["onnx"].model
    onnx.checker.check_model(graph, full_check=True)
    assert {value.name for value in graph.graph.input} == {"fou", "zer", "mor", "present"}
    assert [value.name for value in graph.graph.output] == ["logits"]
    names = [node.name for node in graph.graph.node]
    assert len(set(names)) == len(names)
    products = [node.name for node in graph.graph.node if node.op_type == "Gemm"]
    assert products[0].startswith("encoders.fou.layers.0/")
    assert products[-1].startswith("head/")


def test_a_text_may_be_as_short_as_its_longest_row() -> None:
    torch.manual_seed(0)
    modality = {"text": Modality((12,), "text", vocabulary=50, pad=1), "other": Modality((3,))}
    model = Classifier(modality, 4, width=16, encoders={"text": {"name": "words", "layers": 1}}).eval()
    graph = export(model)
    shapes = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.graph.input}
    assert shapes == {"text": ["rows", "text_length"], "other": ["rows", 3], "present": ["rows", 2]}
    text, other = torch.randint(2, 50, (5, 12)), torch.randn(5, 3)
    text[:, 7:] = 1
    present = torch.tensor([[1, 1], [1, 0], [0, 1], [1, 1], [0, 0]]).bool()
    expected = model({"text": text, "other": other}, present).logits.detach()
    for length in (7, 9, 12):
        got = OnnxPredictor(graph)({"text": text[:, :length], "other": other}, present)
        torch.testing.assert_close(torch.as_tensor(got), expected, rtol=0, atol=1e-6)


def test_graph_out_of_tolerance_is_refused(
    stages: Stages, student: Classifier, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The fault injected: an exporter that hands over another network's graph.
    monkeypatch.setattr("kd.compress.export.export", lambda model: stages[0]["onnx"].model)
    with pytest.raises(KDError, match=r"differs by .* of the logits' scale"):
        Onnx()(student, context)


def test_graph_may_be_off_by_the_rounding_of_the_network_itself(student: Classifier, context: Context) -> None:
    # Nothing in float32 is equal to 1e-9: the network's own distance from float64 is allowed ten times, and stated.
    _, evidence = Onnx(tolerance=1e-9)(student, context)
    assert 1e-9 < evidence["parity_max"] <= 10 * evidence["rounding"] < 1e-5


def test_constants_that_only_the_body_of_a_node_reads_stay() -> None:
    body = helper.make_graph(
        [helper.make_node("Add", ["x", "used"], ["y"])],
        "body",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
    )
    graph = helper.make_graph(
        [helper.make_node("If", ["choice"], ["out"], then_branch=body, else_branch=body)],
        "graph",
        [
            helper.make_tensor_value_info("choice", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [2]),
        ],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [2])],
        [helper.make_tensor(name, TensorProto.FLOAT, [2], [1.0, 2.0]) for name in ("used", "unused")],
    )
    model = helper.make_model(graph)
    strip(model)
    assert [tensor.name for tensor in model.graph.initializer] == ["used"]
