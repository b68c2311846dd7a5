from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from kd.compress.context import Context, Evidence, Model
from kd.compress.dynamic import MATES, DynamicInt8, batch_dependence, quantised
from kd.compress.export import export
from kd.compress.graph import CONVOLUTIONS, computing
from kd.compress.kernels import int8_share, kernels
from kd.compress.quantise import float_products
from kd.compress.rows import answers, differences
from kd.errors import KDError
from kd.models.classifier import Classifier
from kd.seeding import initialise
from kd.types import Batch, Modality
from tests.compress.conftest import SHAPES, Stages, predictor
from tests.compress.test_quantise import pictures, values, wordy

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
    modality = {"image": Modality((3, 16, 16), "image"), "other": Modality((3,))}
    encoders = {"image": {"name": "cnn", "channels": [8, 16]}, "other": {"name": "linear"}}
    model = initialise(Classifier(modality, 4, width=16, encoders=encoders), 0)
    graph, evidence = DynamicInt8()(export(model.eval()), Context(pictures(64)))
    convolutions = [node.name for node in computing(graph, CONVOLUTIONS)]
    assert convolutions
    assert float_products(graph) == convolutions
    assert kernels(graph)["ConvInteger"] == 0
    assert 0 < evidence["int8_share"] < 1
    assert evidence["notes"][0].startswith("not quantised: encoders.image.")


def test_a_product_that_is_left_stays_float(stages: Stages) -> None:
    # The quantiser splits a Gemm into a product and a sum, under names of its own.
    graph = stages[0]["onnx"].model
    first, *others = computing(graph, ["Gemm"])
    made = quantised(graph, leaving=[first.name])
    assert float_products(made) == [f"{first.name}_MatMul"]
    assert len(computing(made, ["MatMulInteger"])) == len(others)


def test_what_computes_absent_inputs_stays_float(rows: Batch) -> None:
    torch.manual_seed(0)
    model = Classifier(SHAPES, 4, width=16, absent={"name": "ridge"})
    model.fit_scalers(rows.inputs, rows.present)
    graph, evidence = DynamicInt8()(export(model.eval()), Context(rows, "multiclass"))
    assert float_products(graph)
    assert all(name.startswith("absent.") for name in float_products(graph))
    assert evidence["parity_max"] < 0.1


def test_tables_of_embeddings_become_int8_unless_told_otherwise() -> None:
    model, rows = wordy()
    whole = export(model.eval())
    graph, evidence = DynamicInt8()(whole, Context(rows))
    assert evidence["embeddings"] == ["model.encoders.text.embed.weight"]
    assert values(graph)["model.encoders.text.embed.weight"].dtype == np.int8
    assert evidence["parity_max"] < 0.05
    assert DynamicInt8(embeddings=False)(whole, Context(rows))[1]["embeddings"] == []


def test_a_graph_without_products_is_refused() -> None:
    node = onnx.helper.make_node("Relu", ["x"], ["logits"], "relu")
    shape = {name: onnx.helper.make_tensor_value_info(name, 1, ["rows", 4]) for name in ("x", "logits")}
    graph = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", [shape["x"]], [shape["logits"]]),
        opset_imports=[onnx.helper.make_opsetid("", 20)],
        ir_version=10,
    )
    with pytest.raises(KDError, match="dynamic_int8: no product or convolution runs in int8 here"):
        DynamicInt8()(graph, Context(Batch.of({"x": torch.randn(8, 4)}, torch.zeros(8))))
