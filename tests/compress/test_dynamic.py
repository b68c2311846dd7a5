from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from kd.compress.context import Context, Evidence, Model
from kd.compress.dynamic import MATES, DynamicInt8, batch_dependence, quantised
from kd.compress.graph import CONVOLUTIONS, computing
from kd.compress.kernels import int8_share, kernels
from kd.compress.quantise import float_products
from kd.compress.rows import answers, differences
from kd.errors import KDError
from kd.types import Batch
from tests.compress.conftest import Stages, graph_of, normal, predictor
from tests.compress.test_quantise import values

Made = tuple[Model, Evidence]


@pytest.fixture(scope="module")
def made(stages: Stages, context: Context) -> Made:
    return DynamicInt8()(stages[0]["onnx"].model, context)


def test_int8_without_calibration_decides_like_float_on_most_unseen_rows(
    made: Made, stages: Stages, unseen: Batch
) -> None:
    float_, int8 = (answers(predictor(graph), unseen) for graph in (stages[0]["onnx"].model, made[0]))
    assert differences(float_, int8, "multiclass")["agreement"] > 0.97


def test_every_product_runs_in_int8(made: Made) -> None:
    graph, evidence = made
    onnx.checker.check_model(graph)
    assert float_products(graph) == []
    assert int8_share(graph) == evidence["int8_share"] == 1.0


def test_weights_have_a_scale_per_channel(made: Made) -> None:
    known = values(made[0])
    weights = {name: value for name, value in known.items() if value.dtype == np.int8 and value.ndim == 2}
    scales = [known[name.replace("_quantized", "_scale")] for name in weights]
    assert [scale.shape for scale in scales] == [value.shape[1:] for value in weights.values()]


def test_evidence_states_how_far_batch_mates_move_a_row(made: Made, stages: Stages, rows: Batch) -> None:
    graph, evidence = made

    def of(model: Model) -> float:
        ask = predictor(model)
        some = {name: value[:MATES] for name, value in rows.inputs.items()}
        return batch_dependence(
            lambda part: ask({name: value[part] for name, value in some.items()}, rows.present[:MATES][part]), MATES
        )

    assert evidence["batch_dependence"] == of(graph) > 1e-4
    assert of(stages[0]["onnx"].model) < 1e-5
    assert evidence["notes"] == [
        f"scales are taken from each batch: batch-mates moved an answer by up to {of(graph):.1e} of the scale"
    ]


def test_answers_that_ignore_their_mates_have_no_dependence() -> None:
    x = torch.tensor([[1.0], [2.0], [4.0]])
    assert batch_dependence(lambda rows: x[rows], 3) == 0
    # Each row less the mean of its batch: alone it is 0, so the greatest difference is 4 - 7/3, on a scale of 8.
    assert batch_dependence(lambda rows: 8 + x[rows] - x[rows].mean(0), 3) == pytest.approx((4 - 7 / 3) / 8)


def test_convolutions_stay_float() -> None:
    nodes = [
        ("Conv", "conv", "x kernel", "h"),
        ("Relu", "relu", "h", "r"),
        ("Flatten", "flat", "r", "f"),
        ("Gemm", "head", "f weight", "logits"),
    ]
    weights = {"kernel": normal(4, 3, 3, 3), "weight": normal(144, 5)}
    whole = graph_of(nodes, {"x": ["rows", 3, 8, 8]}, weights, "logits")
    rows = Batch.of({"x": torch.from_numpy(normal(32, 3, 8, 8))}, torch.zeros(32))
    graph, evidence = DynamicInt8()(whole, Context(rows))
    assert float_products(graph) == [node.name for node in computing(graph, CONVOLUTIONS)] == ["conv"]
    assert kernels(graph)["ConvInteger"] == 0
    assert evidence["int8_share"] == 0.5
    assert evidence["notes"][0] == "not quantised: conv"


def test_a_product_that_is_left_stays_float(stages: Stages) -> None:
    # The quantiser splits a Gemm into a product and a sum, under names of its own.
    graph = stages[0]["onnx"].model
    first, *others = computing(graph, ["Gemm"])
    made = quantised(graph, leaving=[first.name])
    assert float_products(made) == [f"{first.name}_MatMul"]
    assert len(computing(made, ["MatMulInteger"])) == len(others)


def test_what_computes_absent_inputs_stays_float() -> None:
    nodes = [
        ("MatMul", "absent.maps.x/matmul", "x map", "filled"),
        ("MatMul", "encoders.x.layers.0/linear", "filled weight", "logits"),
    ]
    weights = {"map": normal(8, 8), "weight": normal(8, 4)}
    rows = Batch.of({"x": torch.from_numpy(normal(32, 8))}, torch.zeros(32))
    graph, evidence = DynamicInt8()(graph_of(nodes, {"x": ["rows", 8]}, weights, "logits"), Context(rows))
    assert float_products(graph) == ["absent.maps.x/matmul"]
    assert evidence["int8_share"] == 0.5


def test_tables_of_embeddings_become_int8_unless_told_otherwise() -> None:
    nodes = [
        ("Gather", "look", "table x", "h"),
        ("ReduceMean", "mean", "h", "m", {"axes": [1], "keepdims": 0}),
        ("MatMul", "head", "m weight", "logits"),
    ]
    weights = {"table": normal(500, 32), "weight": normal(32, 4)}
    whole = graph_of(nodes, {"x": ["rows", 6]}, weights, "logits", kinds={"x": np.int64})
    draw = torch.Generator().manual_seed(0)
    rows = Batch.of({"x": torch.randint(500, (64, 6), generator=draw)}, torch.zeros(64))
    graph, evidence = DynamicInt8()(whole, Context(rows))
    assert evidence["embeddings"] == ["table"]
    assert values(graph)["table"].dtype == np.int8
    assert evidence["parity_max"] < 0.05
    assert DynamicInt8(embeddings=False)(whole, Context(rows))[1]["embeddings"] == []


def test_a_graph_without_products_is_refused() -> None:
    graph = graph_of([("Relu", "relu", "x", "logits")], {"x": ["rows", 4]}, {}, "logits")
    with pytest.raises(KDError, match="dynamic_int8: no product or convolution runs in int8 here"):
        DynamicInt8()(graph, Context(Batch.of({"x": torch.randn(8, 4)}, torch.zeros(8))))
