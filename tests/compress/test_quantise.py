from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from kd.compress.export import Onnx
from kd.compress.kernels import PRODUCTS, int8_share, kernels
from kd.compress.package import GRAPH, Context, Package, differences
from kd.compress.pipeline import StageResult
from kd.compress.quantise import StaticInt8, calibration, float_products
from kd.errors import ConfigError, KDError
from kd.models.classifier import Classifier
from kd.seeding import initialise
from kd.types import Batch, Modality

Stages = tuple[dict[str, StageResult], dict[Path, bytes], list[tuple[str, float | None]]]


def test_int8_decides_like_float_on_most_unseen_rows(stages: Stages, unseen: Batch) -> None:
    float_, int8 = (stages[0][stage].package.predictor() for stage in ("onnx", "int8"))
    assert differences(float_, int8, unseen, "multiclass", limit=256)["agreement"] > 0.97


def test_int8_runs_int8_kernels(stages: Stages) -> None:
    path = stages[0]["int8"].package.folder / GRAPH
    assert float_products(path) == []
    assert int8_share(path) == stages[0]["int8"].package.evidence["int8_share"] == 1.0
    assert int8_share(stages[0]["onnx"].package.folder / GRAPH) == 0.0


def test_weights_and_activations_are_symmetric_int8(stages: Stages) -> None:
    graph = onnx.load(stages[0]["int8"].package.folder / GRAPH).graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    pairs = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    zeros = [constants[node.input[2]] for node in pairs if len(node.input) > 2]
    assert zeros
    assert all(not zero.any() for zero in zeros)
    assert all(zero.dtype in (np.int8, np.int32) for zero in zeros)


def test_a_row_does_not_depend_on_its_batch_mates(stages: Stages, unseen: Batch) -> None:
    predictor = stages[0]["int8"].package.predictor()
    together = predictor(unseen.inputs, unseen.present)[:1]
    alone = predictor({name: value[:1] for name, value in unseen.inputs.items()}, unseen.present[:1])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)


def test_calibration_covers_every_pattern_with_training_values_only(rows: Batch) -> None:
    complete = rows.with_present(rows.present | True)
    feeds = calibration(Context(complete), list(rows.inputs), rows=70)
    present = np.concatenate([feed["present"] for feed in feeds])
    assert len(np.unique(present, axis=0)) == 7
    gaps = calibration(Context(rows), list(rows.inputs), rows=256)
    assert all(np.isfinite(feed[name]).all() for feed in gaps for name in rows.inputs)
    assert all(feed["present"].any(axis=1).all() for feed in gaps)


def test_calibration_without_rows_is_refused(rows: Batch) -> None:
    with pytest.raises(KDError, match="calibration rows"):
        calibration(Context(rows), list(rows.inputs), rows=0)


def test_filler_of_absent_rows_does_not_set_the_branch_ranges(tmp_path: Path) -> None:
    # Means 1000 deviations from zero: a standardised filler 0 would stretch every scale a hundredfold.
    torch.manual_seed(0)
    model = Classifier({"fou": [8], "zer": [8]}, 4, width=16)
    inputs = {name: 1000 + torch.randn(200, 8) for name in ("fou", "zer")}
    rows = Batch.of(inputs, torch.zeros(200))
    model.fit_scalers(rows.inputs, rows.present)
    package = Onnx(tolerance=1e-5)(Package.save(model.eval(), tmp_path / "student"), Context(rows), tmp_path / "onnx")
    assert StaticInt8()(package, Context(rows), tmp_path / "int8").evidence["parity_max"] < 0.1


def quantised(model: Classifier, rows: Batch, folder: Path) -> Package:
    context = Context(rows)
    package = Onnx(tolerance=1e-5)(Package.save(model.eval(), folder / "student"), context, folder / "onnx")
    return StaticInt8()(package, context, folder / "int8")


def test_zeros_that_encoders_read_set_the_branch_ranges(tmp_path: Path) -> None:
    # Means 5 deviations from zero: ranges of measured rows alone would cut off what stands in for absent ones.
    torch.manual_seed(0)
    model = Classifier({"fou": [8], "zer": [8]}, 4, width=16, absent={"name": "zero"})
    inputs = {name: 5 + torch.randn(200, 8) for name in ("fou", "zer")}
    rows = Batch.of(inputs, torch.zeros(200)).with_present(torch.rand(200, 2) > 0.3)
    model.fit_scalers(rows.inputs, rows.present)
    assert quantised(model, rows, tmp_path).evidence["parity_max"] < 0.05


@pytest.mark.parametrize("name", ["knn", "ridge"])
def test_what_computes_absent_inputs_stays_float(name: str, rows: Batch, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Classifier({"fou": [12], "zer": [20], "mor": [4]}, 4, width=16, absent={"name": name})
    model.fit_scalers(rows.inputs, rows.present)
    package = quantised(model, rows, tmp_path)
    left = onnx.load(package.folder / GRAPH).graph.node
    products = {node.name: node for node in left if node.op_type in PRODUCTS}
    assert set(float_products(package.folder / GRAPH)) == {name for name in products if name.startswith("node_matmul")}
    assert package.evidence["parity_max"] < 0.1


def pictures(rows: int, seed: int = 0) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    label = torch.randint(4, (rows,), generator=draw)
    shades = 40 * label.view(-1, 1, 1, 1) + torch.randint(60, (rows, 3, 16, 16), generator=draw)
    inputs = {"image": shades.to(torch.uint8), "other": torch.randn(rows, 3, generator=draw)}
    return Batch.of(inputs, label).with_present(torch.rand(rows, 2, generator=draw) > 0.3)


@pytest.fixture(scope="module")
def convolved(tmp_path_factory: pytest.TempPathFactory) -> Package:
    folder = tmp_path_factory.mktemp("convolved")
    modality = {"image": Modality((3, 16, 16), "image"), "other": Modality((3,))}
    encoders = {"image": {"name": "cnn", "channels": [8, 16]}, "other": {"name": "linear"}}
    model = initialise(Classifier(modality, 4, width=16, encoders=encoders), 0)
    rows = pictures(128)
    model.fit_scalers(rows.inputs, rows.present)
    return Onnx(tolerance=1e-5)(Package.save(model.eval(), folder / "student"), Context(rows), folder / "onnx")


@pytest.mark.parametrize(("activations", "zeros"), [("auto", np.uint8), ("unsigned", np.uint8), ("signed", np.int8)])
def test_convolutions_are_quantised_and_answers_stay(
    convolved: Package, tmp_path: Path, activations: str, zeros: type
) -> None:
    package = StaticInt8(activations=activations)(convolved, Context(pictures(128)), tmp_path / "int8")
    graph = onnx.load(package.folder / GRAPH).graph
    assert [node.op_type for node in graph.node].count("Conv") > 3
    assert float_products(package.folder / GRAPH) == []
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    pairs = [node for node in graph.node if node.op_type == "QuantizeLinear" and len(node.input) > 2]
    assert {constants[node.input[2]].dtype for node in pairs} == {np.dtype(zeros)}
    assert package.evidence["parity_max"] < 0.1


def test_unsigned_convolutions_run_int8_kernels(convolved: Package, tmp_path: Path) -> None:
    package = StaticInt8()(convolved, Context(pictures(128)), tmp_path / "int8")
    ran, before = kernels(package.folder / GRAPH), kernels(convolved.folder / GRAPH)
    assert ran["QLinearConv"] == before["Conv"] + before["FusedConv"] > 3
    assert package.evidence["int8_share"] == 1.0
    assert int8_share(convolved.folder / GRAPH) == 0.0


def test_a_percentile_cuts_outliers_off_the_ranges(stages: Stages, context: Context, tmp_path: Path) -> None:
    float_, whole = (stages[0][stage].package for stage in ("onnx", "int8"))
    made = StaticInt8(percentile=90.0)(float_, context, tmp_path / "int8")

    def scales(package: Package) -> list[float]:
        graph = onnx.load(package.folder / GRAPH).graph
        constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        return [float(constants[node.input[1]].max()) for node in graph.node if node.op_type == "QuantizeLinear"]

    assert len(scales(made)) == len(scales(whole))
    assert all(cut <= full for cut, full in zip(scales(made), scales(whole), strict=True))
    assert sum(scales(made)) < 0.9 * sum(scales(whole))


@pytest.mark.parametrize("percentile", [50.0, 100.1, float("nan")])
def test_a_percentile_out_of_range_is_refused(percentile: float) -> None:
    with pytest.raises(ConfigError, match=r"static_int8\.percentile: expected a number in \(50, 100\]"):
        StaticInt8(percentile=percentile)
