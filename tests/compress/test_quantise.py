from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from kd.compress.calibration import Calibrated, calibration
from kd.compress.context import Context, Evidence, Model
from kd.compress.dynamic import quantised as quantised_dynamically
from kd.compress.export import Onnx, export
from kd.compress.graph import PRODUCTS, constants, layer_of
from kd.compress.kernels import int8_share, kernels
from kd.compress.package import Package
from kd.compress.pipeline import compress
from kd.compress.quantise import StaticInt8, float_products
from kd.compress.rows import answers, differences
from kd.errors import ConfigError, KDError
from kd.models.classifier import Classifier
from kd.seeding import initialise
from kd.types import Batch, Modality
from tests.compress.conftest import Stages, graph_of, predictor

NAMES = ["fou", "zer", "mor", "present"]


def test_int8_decides_like_float_on_most_unseen_rows(stages: Stages, unseen: Batch) -> None:
    float_, int8 = (answers(predictor(stages[0][stage].model), unseen) for stage in ("onnx", "int8"))
    assert differences(float_, int8, "multiclass")["agreement"] > 0.97


def test_int8_runs_int8_kernels(stages: Stages) -> None:
    stage = stages[0]["int8"]
    assert float_products(stage.model) == []
    assert int8_share(stage.model) == stage.evidence["int8_share"] == 1.0
    assert int8_share(stages[0]["onnx"].model) == 0.0


def values(graph: Model) -> dict[str, np.ndarray]:
    return {name: onnx.numpy_helper.to_array(tensor) for name, tensor in constants(graph).items()}


def test_weights_and_activations_are_symmetric_int8(stages: Stages) -> None:
    graph = stages[0]["int8"].model
    pairs = [node for node in graph.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    zeros = [values(graph)[node.input[2]] for node in pairs if len(node.input) > 2]
    assert zeros
    assert all(not zero.any() for zero in zeros)
    assert all(zero.dtype in (np.int8, np.int32) for zero in zeros)


def test_a_row_does_not_depend_on_its_batch_mates(stages: Stages, unseen: Batch) -> None:
    ask = predictor(stages[0]["int8"].model)
    together = ask(unseen.inputs, unseen.present)[:1]
    alone = ask({name: value[:1] for name, value in unseen.inputs.items()}, unseen.present[:1])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)


def test_calibration_covers_every_pattern_with_training_values_only(rows: Batch) -> None:
    complete = rows.with_present(rows.present | True)
    feeds = calibration(Context(complete), NAMES, rows=70)
    present = np.concatenate([feed["present"] for feed in feeds])
    assert len(np.unique(present, axis=0)) == 7
    gaps = calibration(Context(rows), NAMES, rows=256)
    assert all(np.isfinite(feed[name]).all() for feed in gaps for name in rows.inputs)
    assert all(feed["present"].any(axis=1).all() for feed in gaps)


def test_calibration_without_rows_is_refused(rows: Batch) -> None:
    with pytest.raises(KDError, match="calibration rows"):
        calibration(Context(rows), NAMES, rows=0)


def test_filler_of_absent_rows_does_not_set_the_branch_ranges() -> None:
    # Means 1000 deviations from zero: a standardised filler 0 would stretch every scale a hundredfold.
    torch.manual_seed(0)
    model = Classifier({"fou": [8], "zer": [8]}, 4, width=16)
    inputs = {name: 1000 + torch.randn(200, 8) for name in ("fou", "zer")}
    rows = Batch.of(inputs, torch.zeros(200))
    model.fit_scalers(rows.inputs, rows.present)
    assert quantised(model, rows)[1]["parity_max"] < 0.1


def quantised(model: Classifier, rows: Batch, **settings: object) -> tuple[Model, Evidence]:
    return StaticInt8(**settings)(export(model.eval()), Context(rows, "multiclass"))  # type: ignore[arg-type]


def test_zeros_that_encoders_read_set_the_branch_ranges() -> None:
    # Means 5 deviations from zero: ranges of measured rows alone would cut off what stands in for absent ones.
    torch.manual_seed(0)
    model = Classifier({"fou": [8], "zer": [8]}, 4, width=16, absent={"name": "zero"})
    inputs = {name: 5 + torch.randn(200, 8) for name in ("fou", "zer")}
    rows = Batch.of(inputs, torch.zeros(200)).with_present(torch.rand(200, 2) > 0.3)
    model.fit_scalers(rows.inputs, rows.present)
    assert quantised(model, rows)[1]["parity_max"] < 0.05


@pytest.mark.parametrize("name", ["knn", pytest.param("ridge", marks=pytest.mark.slow)])
def test_what_computes_absent_inputs_stays_float(name: str, rows: Batch) -> None:
    torch.manual_seed(0)
    model = Classifier({"fou": [12], "zer": [20], "mor": [4]}, 4, width=16, absent={"name": name})
    model.fit_scalers(rows.inputs, rows.present)
    graph, evidence = quantised(model, rows)
    products = [node.name for node in graph.graph.node if node.op_type in PRODUCTS]
    left = float_products(graph)
    assert left
    assert left == [name for name in products if name.startswith("absent.")]
    assert evidence["parity_max"] < 0.1


def pictures(rows: int, seed: int = 0) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    label = torch.randint(4, (rows,), generator=draw)
    shades = 40 * label.view(-1, 1, 1, 1) + torch.randint(60, (rows, 3, 16, 16), generator=draw)
    inputs = {"image": shades.to(torch.uint8), "other": torch.randn(rows, 3, generator=draw)}
    return Batch.of(inputs, label).with_present(torch.rand(rows, 2, generator=draw) > 0.3)


@pytest.fixture(scope="module")
def convolved() -> Model:
    modality = {"image": Modality((3, 16, 16), "image"), "other": Modality((3,))}
    encoders = {"image": {"name": "cnn", "channels": [8, 16]}, "other": {"name": "linear"}}
    model = initialise(Classifier(modality, 4, width=16, encoders=encoders), 0)
    rows = pictures(128)
    model.fit_scalers(rows.inputs, rows.present)
    return Onnx()(model.eval(), Context(rows))[0]


@pytest.mark.parametrize(("activations", "zeros"), [("auto", np.uint8), ("unsigned", np.uint8), ("signed", np.int8)])
def test_convolutions_are_quantised_and_answers_stay(convolved: Model, activations: str, zeros: type) -> None:
    graph, evidence = StaticInt8(activations=activations)(convolved, Context(pictures(128)))  # type: ignore[arg-type]
    onnx.checker.check_model(graph, full_check=True)
    assert [node.op_type for node in graph.graph.node].count("Conv") > 3
    assert float_products(graph) == []
    pairs = [node for node in graph.graph.node if node.op_type == "QuantizeLinear" and len(node.input) > 2]
    assert {values(graph)[node.input[2]].dtype for node in pairs} == {np.dtype(zeros)}
    assert evidence["parity_max"] < 0.1


def test_unsigned_convolutions_run_int8_kernels(convolved: Model) -> None:
    graph, evidence = StaticInt8()(convolved, Context(pictures(128)))
    ran, before = kernels(graph), kernels(convolved)
    assert ran["QLinearConv"] == before["Conv"] + before["FusedConv"] > 3
    assert evidence["int8_share"] == 1.0
    assert int8_share(convolved) == 0.0


class Residual(torch.nn.Module):
    """A convolution, another beside a shortcut, and a table that is added to what comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner = torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 3, padding=1)
        self.out, self.table = torch.nn.Linear(8, 4), torch.nn.Parameter(torch.linspace(-50, 50, 8).expand(2, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        pooled = (x + self.inner(x)).relu().mean((2, 3))
        tokens = pooled.unsqueeze(1) + self.table
        return self.out(torch.nn.functional.layer_norm(tokens, [8])).flatten(1)


def test_sums_are_rounded_between_convolutions_only() -> None:
    torch.manual_seed(0)
    passes = {"graph": {"name": "onnx"}, "int8": {"name": "static_int8"}}
    *_, int8 = compress(Residual(), torch.randn(32, 3, 8, 8), passes)
    made = {output: node.op_type for node in int8.model.graph.node for output in node.output}
    sums = [[made.get(name, "constant") for name in n.input] for n in int8.model.graph.node if n.op_type == "Add"]
    assert len(sums) > 1
    assert [read for read in sums if set(read) == {"DequantizeLinear"}] == [["DequantizeLinear"] * 2]
    assert int8.evidence["int8_share"] == 1


@pytest.mark.parametrize("how", ["signed", "unsigned", "dynamic"])
def test_largest_bytes_multiply_exactly_on_every_processor(how: Literal["signed", "unsigned", "dynamic"]) -> None:
    # x86 before VNNI adds two products of bytes in 16 bits: 255 * 127 twice is more than they hold.
    weights = {"w": np.ones((64, 32), np.float32)}
    graph = graph_of([("MatMul", "p", "x w", "y")], {"x": ["rows", 64]}, weights, "y")
    ones = np.ones((8, 64), np.float32)
    if how == "dynamic":
        made = quantised_dynamically(graph)
    else:
        with Calibrated(graph, [{"x": ones}], activations=how, percentile=100) as calibrated:
            made = calibrated.quantised()
    assert int8_share(made, {"x": ones}) == 1
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": ones})
    np.testing.assert_allclose(found, np.full((8, 32), 64.0), rtol=1e-5)


def test_a_percentile_cuts_outliers_off_the_ranges(stages: Stages, context: Context) -> None:
    whole = stages[0]["int8"].model
    made, _ = StaticInt8(percentile=90.0)(stages[0]["onnx"].model, context)

    def scales(graph: Model) -> list[float]:
        known = values(graph)
        return [float(known[node.input[1]].max()) for node in graph.graph.node if node.op_type == "QuantizeLinear"]

    assert len(scales(made)) == len(scales(whole))
    assert all(cut <= full for cut, full in zip(scales(made), scales(whole), strict=True))
    assert sum(scales(made)) < 0.9 * sum(scales(whole))


def wordy() -> tuple[Classifier, Batch]:
    torch.manual_seed(0)
    modality = {"text": Modality((6,), "text", vocabulary=500), "other": Modality((3,))}
    encoders = {"text": {"name": "bag", "embedding": 32}, "other": {"name": "linear"}}
    model = initialise(Classifier(modality, 4, width=16, encoders=encoders), 0)
    draw = torch.Generator().manual_seed(0)
    inputs = {"text": torch.randint(500, (128, 6), generator=draw), "other": torch.randn(128, 3, generator=draw)}
    return model, Batch.of(inputs, torch.zeros(128)).with_present(torch.rand(128, 2, generator=draw) > 0.3)


def test_tables_of_embeddings_become_int8_and_answers_stay() -> None:
    model, rows = wordy()
    graph, evidence = quantised(model, rows)
    onnx.checker.check_model(graph, full_check=True)
    assert evidence["embeddings"] == ["model.encoders.text.embed.weight"]
    assert values(graph)["model.encoders.text.embed.weight"].dtype == np.int8
    assert len(graph.SerializeToString()) < len(export(model).SerializeToString()) / 2.5
    assert evidence["parity_max"] < 0.05
    left, evidence = quantised(model, rows, embeddings=False)
    assert evidence["embeddings"] == []
    assert len(left.SerializeToString()) > 500 * 32 * 4


def hurt() -> tuple[Classifier, Batch]:
    """A network of which int8 hurts one layer: a single huge activation takes the range of all others."""
    torch.manual_seed(0)
    model = Classifier({"fou": [8], "zer": [8]}, 4, width=16).eval()
    with torch.no_grad():
        layer = model.encoders["fou"].layers
        layer[0].weight[0], layer[0].bias[0] = 0, 3000
        layer[3].weight[:, 0] = 1e-4
    rows = Batch.of({name: torch.randn(400, 8) for name in ("fou", "zer")}, torch.zeros(400))
    model.fit_scalers(rows.inputs, rows.present)
    return model, rows


def test_sensitive_layers_stay_float_until_the_budget_holds() -> None:
    model, rows = hurt()
    _, without = quantised(model, rows)
    graph, evidence = quantised(model, rows, budget=0.05)
    assert 1 - without["agreement"] > 0.1
    assert 1 - evidence["agreement"] <= 0.05
    # What the layer before gives is rounded as well, so both of that branch stay, and nothing of the other.
    assert {row["branch"] for row in evidence["sensitivity"]["layers"][:2]} == {"fou"}
    branches = evidence["sensitivity"]["branches"]
    assert branches[0]["branch"] == "fou"
    assert {row["branch"] for row in branches} == {"fou", "zer", "fusion and head"}
    assert branches[0]["agreement"] < 0.9 < min(row["agreement"] for row in branches[1:])
    assert {layer_of(name) for name in float_products(graph)} == {"encoders.fou.layers.0", "encoders.fou.layers.3"}
    assert evidence["notes"][0].startswith("not quantised: encoders.fou.layers.0, encoders.fou.layers.3")
    assert evidence["int8_share"] == 0.6


def test_the_model_card_says_which_branch_and_layer_int8_hurts(tmp_path: Path) -> None:
    model, rows = hurt()
    passes = {"graph": {"name": "onnx"}, "int8": {"name": "static_int8", "budget": 0.05}}
    *_, int8 = compress(model, rows, passes)
    whole = Package.save(model, tmp_path / "whole")
    Package.save(int8.model, tmp_path / "int8", stage="int8", parent=whole, evidence=int8.evidence)
    shown = (tmp_path / "int8" / "README.md").read_text().split("| equal decisions | greatest difference |")[1]
    order = [line.split("`")[1] for line in shown.splitlines() if "`" in line]
    assert order[:3] == ["fou", "fusion and head", "zer"]
    assert set(order[3:]) == {f"encoders.{m}.layers.{place}" for m in ("fou", "zer") for place in (0, 3)} | {"head"}


def test_a_budget_that_holds_at_once_costs_nothing(stages: Stages, context: Context) -> None:
    graph, evidence = StaticInt8(budget=0.5)(stages[0]["onnx"].model, context)
    assert "sensitivity" not in evidence
    assert float_products(graph) == []


def test_a_budget_that_nothing_int8_can_hold_is_refused() -> None:
    model, rows = hurt()
    with torch.no_grad():
        model.head.weight.mul_(1e-3)
        model.head.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 1e-9]))
    with pytest.raises(KDError, match="holds only where every layer stays float"):
        quantised(model, rows, budget=0.0)


@pytest.mark.parametrize("percentile", [50.0, 100.1, float("nan")])
def test_a_percentile_out_of_range_is_refused(percentile: float) -> None:
    with pytest.raises(ConfigError, match=r"static_int8\.percentile: expected a number in \(50, 100\]"):
        StaticInt8(percentile=percentile)


def test_a_budget_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"static_int8\.budget: expected a share in \[0, 1\)"):
        StaticInt8(budget=1.0)
