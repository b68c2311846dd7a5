from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from kd.compress.calibration import Calibrated
from kd.compress.foreign.evidence import differences_by_output
from kd.compress.foreign.file import compress_file
from kd.compress.foreign.graph import name_nodes, prepared, read
from kd.compress.foreign.rows import Graph
from kd.errors import ConfigError, DataError, KDError, RecordError
from kd.record import file_digest
from tests.compress.conftest import graph_of, normal

Card = dict[str, Any]
RELU = [("Relu", "relu", "x", "y")]


def mlp(rows: int | str = "rows", names: tuple[str, str, str] = ("first", "relu", "last"), **settings: Any) -> Any:
    one, two, three = names
    nodes = [("Gemm", one, "x w b", "h"), ("Relu", two, "h", "r"), ("MatMul", three, "r v", "y")]
    weights = {"w": normal(16, 128), "b": normal(128), "v": normal(128, 8, seed=1)}
    return graph_of(nodes, {"x": [rows, 16]}, weights, "y", **settings)


def convolutional(**settings: Any) -> Any:
    """Return two convolutions with norms of their own, the second beside a short cut, and a head."""
    norms = {f"{part}{place}": np.abs(normal(8, seed=place)) + 0.5 for place in (1, 2) for part in "sbmv"}
    around = {"pads": [1, 1, 1, 1]}
    nodes = [
        ("Conv", "conv1", "x k1", "c1", around),
        ("BatchNormalization", "norm1", "c1 s1 b1 m1 v1", "n1"),
        ("Relu", "relu1", "n1", "r1"),
        ("Conv", "conv2", "r1 k2", "c2", around),
        ("BatchNormalization", "norm2", "c2 s2 b2 m2 v2", "n2"),
        ("Add", "add", "n2 r1", "a"),
        ("Relu", "relu2", "a", "r2"),
        ("GlobalAveragePool", "pool", "r2", "p"),
        ("Flatten", "flat", "p", "f"),
        ("MatMul", "head", "f w", "y"),
    ]
    weights = {"k1": normal(8, 3, 3, 3), "k2": normal(8, 8, 3, 3, seed=1), "w": normal(8, 4), **norms}
    return graph_of(nodes, {"x": ["rows", 3, 8, 8]}, weights, "y", **settings)


def saved(graph: Any, folder: Path, name: str = "net.onnx") -> Path:
    onnx.save(graph, str(folder / name))
    return folder / name


def stored(folder: Path, **arrays: np.ndarray) -> Path:
    np.savez(folder / "rows.npz", **arrays)  # type: ignore[arg-type]
    return folder / "rows.npz"


def compressed(graph: Any, folder: Path, rows: Path | None = None, **settings: Any) -> tuple[Any, Card]:
    made, card = compress_file(saved(graph, folder), rows=rows, settings=settings)
    return onnx.load(str(made / "model.onnx")), card


def kinds(graph: Any) -> list[str]:
    return [node.op_type for node in graph.graph.node]


def test_products_become_int8_without_rows(tmp_path: Path) -> None:
    graph, card = compressed(mlp(), tmp_path)
    found = card["evidence"]
    assert kinds(graph).count("MatMulInteger") == 2
    assert found["int8_share"] == 1.0
    assert 0 < found["outputs"]["y"] == found["parity_max"] < 0.05
    assert found["bytes"]["ratio"] < 0.5
    assert [time["rows"] for time in found["times"]] == [1, 8]
    assert found["batch_dependence"] > 1e-4


def test_the_card_names_the_source_and_the_file_by_content(tmp_path: Path) -> None:
    path = saved(mlp(), tmp_path)
    rows = stored(tmp_path, x=normal(20, 16))
    before = file_digest(path)
    folder, card = compress_file(path, rows=rows, settings={"percentile": 99.9})
    assert folder == tmp_path / "net-int8"
    assert file_digest(path) == before
    assert json.loads((folder / "card.json").read_text()) == card
    assert card["made_from"] == {"net.onnx": before}
    assert card["rows"] == {"rows.npz": file_digest(rows)}
    assert card["checksums"] == {"model.onnx": file_digest(folder / "model.onnx")}
    assert card["settings"] == {"activations": "signed", "percentile": 99.9, "embeddings": True}
    assert card["opset"]["ai.onnx"] == 17


def test_with_rows_convolutions_and_their_norms_run_in_int8(tmp_path: Path) -> None:
    graph, card = compressed(convolutional(), tmp_path, stored(tmp_path, x=normal(64, 3, 8, 8)))
    assert "BatchNormalization" not in kinds(graph)
    assert card["evidence"]["int8_share"] == 1.0
    assert card["evidence"]["parity_max"] < 0.1
    assert card["evidence"]["notes"] == []
    assert card["settings"]["activations"] == "unsigned"


def test_without_rows_convolutions_stay_float_and_are_named(tmp_path: Path) -> None:
    _, card = compressed(convolutional(), tmp_path)
    assert card["evidence"]["notes"][0] == (
        "not quantised, convolutions stay float without rows=FILE.npz: Conv conv1, Conv conv2"
    )
    assert [left["node"] for left in card["evidence"]["not_quantised"]] == ["conv1", "conv2"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder of one layer as torch exports it: weights in a file beside it."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = BertModel(BertConfig(vocab_size=300, max_position_embeddings=16, **sizes)).eval()
    model.config.return_dict = False
    ids, mask = torch.ones(2, 2, 8, dtype=torch.int64).unbind()
    path = tmp_path_factory.mktemp("bert") / "bert.onnx"
    names = {"input_names": ["input_ids", "attention_mask"], "output_names": ["tokens", "pooled"]}
    rows = {0: torch.export.Dim.DYNAMIC}
    torch.onnx.export(model, (ids, mask), path, dynamo=True, verbose=False, dynamic_shapes=(rows, rows), **names)
    return path


def test_attention_stays_float_without_rows_and_every_output_is_compared(bert: Path, tmp_path: Path) -> None:
    _, card = compress_file(bert, to=tmp_path / "small")
    found = card["evidence"]
    assert set(card["made_from"]) == {"bert.onnx", "bert.onnx.data"}
    assert set(found["outputs"]) == {"tokens", "pooled"}
    assert 1e-4 < found["parity_max"] < 0.05
    assert found["embeddings"] == ["embeddings.word_embeddings.weight"]
    assert {(left["kind"], left["reason"]) for left in found["not_quantised"]} == {
        ("MatMul", "weight is not a constant")
    }
    assert found["int8_share"] == pytest.approx(7 / 9)


def test_attention_runs_in_int8_with_rows(bert: Path, tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 300, (32, 8))
    rows = stored(tmp_path, input_ids=ids, attention_mask=np.ones_like(ids))
    _, card = compress_file(bert, to=tmp_path / "small", rows=rows)
    assert card["evidence"]["int8_share"] == 1.0
    assert card["evidence"]["parity_max"] < 0.1


def test_ids_that_no_table_has_are_refused(bert: Path, tmp_path: Path) -> None:
    ids = np.full((4, 8), 300)
    rows = stored(tmp_path, input_ids=ids, attention_mask=np.ones_like(ids))
    with pytest.raises(DataError, match=r"rows\.npz: inputs: the graph cannot compute with these"):
        compress_file(bert, to=tmp_path / "small", rows=rows)
    assert not (tmp_path / "small").exists()


def test_weights_in_a_missing_file_are_refused(bert: Path, tmp_path: Path) -> None:
    (tmp_path / "bert.onnx").write_bytes(bert.read_bytes())
    with pytest.raises(RecordError, match=r"its weights are in bert\.onnx\.data, which is missing"):
        compress_file(tmp_path / "bert.onnx")


@pytest.mark.parametrize("names", [("", "", ""), ("same", "same", "same"), ("MatMul_2", "", "")])
def test_nodes_need_no_names_of_their_own(names: tuple[str, str, str], tmp_path: Path) -> None:
    graph = mlp(names=names)
    name_nodes(graph)
    found = [node.name for node in graph.graph.node]
    assert "" not in found
    assert len(set(found)) == 3
    rows = stored(tmp_path, x=normal(20, 16))
    assert compressed(mlp(names=names), tmp_path, rows)[1]["evidence"]["int8_share"] == 1.0


def test_old_files_that_list_their_weights_as_inputs_are_converted(tmp_path: Path) -> None:
    old = convolutional(opset=9)
    old.ir_version = 3
    shapes = [(tensor.name, tensor.dims) for tensor in old.graph.initializer]
    old.graph.input.extend(onnx.helper.make_tensor_value_info(name, 1, list(dims)) for name, dims in shapes)
    _, card = compressed(old, tmp_path, stored(tmp_path, x=normal(32, 3, 8, 8)))
    assert card["opset"]["ai.onnx"] == 13
    assert card["evidence"]["int8_share"] == 1.0


def test_constants_that_are_nodes_count_as_weights(tmp_path: Path) -> None:
    graph = graph_of([("MatMul", "product", "x w", "y")], {"x": ["rows", 16]}, {}, "y")
    weight = onnx.numpy_helper.from_array(normal(8, 16), "transposed")
    graph.graph.node.insert(0, onnx.helper.make_node("Transpose", ["t"], ["w"], "turn"))
    graph.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["t"], "weight", value=weight))
    assert compressed(graph, tmp_path)[1]["evidence"]["int8_share"] == 1.0


def test_a_graph_for_one_row_at_once_is_asked_row_by_row(tmp_path: Path) -> None:
    _, card = compressed(mlp(rows=1), tmp_path, stored(tmp_path, x=normal(5, 16)))
    assert [time["rows"] for time in card["evidence"]["times"]] == [1]
    assert card["evidence"]["asked"] == {"origin": "rows.npz", "rows": 5}
    assert card["evidence"]["int8_share"] == 1.0


def test_products_that_cannot_be_quantised_are_named_with_the_reason(tmp_path: Path) -> None:
    nodes = [
        ("MatMul", "good", "x w", "h"),
        ("Unsqueeze", "wide", "h axis", "u"),
        ("MatMul", "many", "u stack", "m"),
        ("Transpose", "turn", "m", "t", {"perm": [0, 2, 1]}),
        ("MatMul", "both", "m t", "y"),
    ]
    weights = {"w": normal(16, 8), "axis": np.array([1]), "stack": normal(1, 8, 8)}
    graph = graph_of(nodes, {"x": ["rows", 16]}, weights, "y")
    assert compressed(graph, tmp_path)[1]["evidence"]["notes"][:2] == [
        "not quantised, weight has 3 axes, not 2: MatMul many",
        "not quantised, weight is not a constant: MatMul both",
    ]


def test_products_inside_a_branch_are_named(tmp_path: Path) -> None:
    body = graph_of([("MatMul", "hidden", "h v", "z")], {}, {"v": normal(8, 8)}, "z").graph
    nodes = [
        ("MatMul", "outer", "x w", "h"),
        ("ReduceSum", "sum", "x", "s", {"keepdims": 0}),
        ("Greater", "positive", "s zero", "c"),
        ("If", "choice", "c", "y", {"then_branch": body, "else_branch": body}),
    ]
    weights = {"w": normal(16, 8), "zero": np.float32(0)}
    _, card = compressed(graph_of(nodes, {"x": ["rows", 16]}, weights, "y"), tmp_path)
    assert card["evidence"]["notes"][0] == "not quantised, inside If choice: MatMul hidden, MatMul hidden"


def test_a_graph_of_which_nothing_can_be_quantised_is_refused_by_name(tmp_path: Path) -> None:
    nodes = [("MatMul", f"square{n}", f"y{n} y{n}", f"y{n + 1}") for n in range(7)]
    path = saved(graph_of(nodes, {"y0": ["rows", 4, 4]}, {}, "y7"), tmp_path)
    with pytest.raises(KDError) as caught:
        compress_file(path)
    named = "; ".join(f"MatMul square{n} (weight is not a constant)" for n in range(5))
    assert str(caught.value) == f"{path}: nothing of it can be quantised: {named} and 2 more"


def half() -> Any:
    kind = {"x": np.float16, "y": np.float16}
    weights = {"w": normal(16, 8).astype(np.float16)}
    return graph_of([("MatMul", "product", "x w", "y")], {"x": ["rows", 16]}, weights, "y", kinds=kind)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "not an ONNX model"),
        (b"a text about models\n", "not an ONNX model"),
        (None, "no such file"),
        (mlp().SerializeToString()[:-2000], "not an ONNX model"),
        (graph_of(RELU, {"x": ["rows", 4]}, {}, "y"), "nothing to quantise: no product"),
        (half(), r"MatMul product \(float16, not float32\)"),
        (graph_of([("Strange", "odd", "x", "y")], {"x": ["rows", 4]}, {}, "y"), "not an ONNX model that runs here"),
        (
            graph_of([("MatMul", "product", "x w", "y")], {"x": ["rows", "length", 16]}, {"w": normal(16, 8)}, "y"),
            r"input x: float32 \[rows, any, 16\], a length besides the rows is open; give rows=FILE\.npz",
        ),
    ],
)
def test_what_cannot_be_quantised_is_refused_in_one_line(content: Any, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    with pytest.raises(KDError, match=expected) as caught:
        compress_file(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "net-int8").exists()


def test_more_than_one_file_can_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kd.compress.foreign.graph.LARGEST", 1000)
    with pytest.raises(KDError, match=r"[\d,]+ bytes with its weights; larger than 2 GB is not supported"):
        compress_file(saved(mlp(), tmp_path))


def test_a_quantised_model_is_refused(tmp_path: Path) -> None:
    folder, _ = compress_file(saved(mlp(), tmp_path))
    with pytest.raises(KDError, match="already quantised"):
        compress_file(folder / "model.onnx", to=tmp_path / "twice")


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"y": normal(4, 16)}, r"x: no array of this name; expected float32 \[rows, 16\]"),
        ({"x": normal(4, 16).astype(float)}, "x: expected float32, got float64"),
        ({"x": normal(4, 15)}, r"x: expected float32 \[rows, 16\], got shape \[4, 15\]"),
        ({"x": normal(4, 16, 1)}, r"x: expected float32 \[rows, 16\], got shape \[4, 16, 1\]"),
        ({"x": np.where(np.arange(4)[:, None] == 2, np.nan, normal(4, 16))}, "x: row 2 is NaN or infinite"),
        ({"x": normal(0, 16)}, "expected at least 1 rows, got 0"),
        ({"x": np.array([{}, {}])}, "no npz of plain arrays"),
    ],
)
def test_wrong_rows_are_refused_by_array_and_row(arrays: dict[str, Any], expected: str, tmp_path: Path) -> None:
    with pytest.raises(KDError, match=expected) as caught:
        compress_file(saved(mlp(), tmp_path), rows=stored(tmp_path, **arrays))
    assert str(caught.value).startswith(str(tmp_path / "rows.npz"))
    assert "\n" not in str(caught.value)


def test_arrays_of_different_lengths_are_refused(tmp_path: Path) -> None:
    graph = graph_of([("MatMul", "p", "x w", "h"), ("Add", "a", "h z", "y")], {"x": ["n", 4], "z": ["n", 4]}, {}, "y")
    graph.graph.initializer.append(onnx.numpy_helper.from_array(normal(4, 4), "w"))
    with pytest.raises(DataError, match="expected one number of rows, got 4 in x, 5 in z"):
        compress_file(saved(graph, tmp_path), rows=stored(tmp_path, x=normal(4, 4), z=normal(5, 4)))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"percentile": 99.0}, r"percentile: no setting here; only with rows=FILE\.npz"),
        ({"embedings": False}, "embedings: no setting here; did you mean 'embeddings'"),
        ({"embeddings": 3}, "embeddings: expected bool, got 3"),
    ],
)
def test_settings_are_checked_before_anything_is_read(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        compress_file(Path("nowhere.onnx"), settings=settings)


def test_a_folder_of_other_files_is_not_replaced_and_an_earlier_result_is(tmp_path: Path) -> None:
    path = saved(mlp(), tmp_path)
    for folder in (tmp_path, tmp_path / "net-int8"):
        folder.mkdir(exist_ok=True)
        (folder / "thesis.txt").write_text("years of work")
        with pytest.raises(KDError, match="exists and is no earlier result of kd compress"):
            compress_file(path, to=folder)
    (tmp_path / "net-int8" / "thesis.txt").unlink()
    compress_file(path)
    first = (tmp_path / "net-int8" / "model.onnx").read_bytes()
    compress_file(path, rows=stored(tmp_path, x=normal(20, 16)))
    assert (tmp_path / "net-int8" / "model.onnx").read_bytes() != first


def test_what_a_foreign_graph_fills_in_sets_its_ranges(tmp_path: Path) -> None:
    # A mask of ours would be opened while ranges are measured; here 50 is what the product reads.
    nodes = [("Greater", "ask", "x zero", "c"), ("Where", "fill", "c x high", "f"), ("MatMul", "p", "f w", "y")]
    weights = {"zero": np.float32(0), "high": np.float32(50), "w": normal(16, 8)}
    graph = prepared(read(saved(graph_of(nodes, {"x": ["rows", 16]}, weights, "y"), tmp_path)))
    with Calibrated(graph, [{"x": normal(20, 16)}], activations="signed", percentile=100) as calibrated:
        made = calibrated.quantised()
    scale = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in made.graph.initializer}["f_scale"]
    assert scale * 127 == pytest.approx(50, rel=0.01)


def test_no_output_is_rounded(tmp_path: Path) -> None:
    nodes = [("MatMul", "body", "x w", "h"), ("MatMul", "one", "h v", "y"), ("MatMul", "two", "h u", "z")]
    weights = {"w": normal(16, 8), "v": normal(8, 4), "u": normal(8, 2)}
    whole = graph_of(nodes, {"x": ["rows", 16]}, weights, "y", "z")
    graph, _ = compressed(whole, tmp_path, stored(tmp_path, x=normal(20, 16)))
    assert {node.op_type for node in graph.graph.node if node.output[0] in ("y", "z")} == {"MatMul"}


def test_the_difference_of_an_output_is_relative_to_its_own_scale(tmp_path: Path) -> None:
    nodes = [("Mul", "a", "x one", "small"), ("Mul", "b", "x hundred", "large"), ("Greater", "c", "x one", "flag")]

    def graph(offset: float) -> Graph:
        weights = {"one": np.float32(1 + offset), "hundred": np.float32(100)}
        made = graph_of(nodes, {"x": ["rows", 1]}, weights, "small", "large", "flag", kinds={"flag": np.bool_})
        return Graph(made, tmp_path)

    feeds = [{"x": np.array([[2.0], [1.2]], np.float32)}]
    assert differences_by_output(graph(0), graph(0.5), feeds) == pytest.approx({"small": 0.5, "large": 0, "flag": 1})
