"""A float ONNX file that is not ours: read whole, made ready for a quantiser, and what of it cannot be quantised."""

from __future__ import annotations

import copy
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd.compress.context import Model
from kd.compress.graph import CONVOLUTIONS, PRODUCTS, constants, everywhere
from kd.compress.kernels import FLOAT, INT8
from kd.errors import KDError, RecordError
from kd.importing import in_words

LARGEST = 2**31 - 1
"""Bytes that one ONNX file can hold."""
OPSET = 13
"""The first in which a tensor can have a scale per channel."""
QUANTISED = INT8 | {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulNBits"}
SUPPORTED = (*PRODUCTS, *CONVOLUTIONS)


@dataclass(frozen=True)
class Source:
    """A graph as its file has it.

    Attributes:
        path: of the file.
        graph: all of its weights inside, every node with a name of its own.
        files: the file and those beside it that hold its weights.
    """

    path: Path
    graph: Model
    files: list[Path]

    @property
    def bytes(self) -> int:
        """Size of all of its files."""
        return sum(file.stat().st_size for file in self.files)


@dataclass(frozen=True)
class Left:
    """A product or convolution that stays float.

    Attributes:
        node: its name.
        kind: its type.
        reason: why.
    """

    node: str
    kind: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kind} {self.node}"


def read(path: Path) -> Source:
    """Return a float graph with its weights, those in files beside it included.

    Raises:
        RecordError: the file, or one that its weights are in, is missing or no ONNX model.
        KDError: it is quantised already, or larger than one file can be.
    """
    import onnx

    try:
        graph = onnx.load(str(path), load_external_data=False)
        if not graph.graph.node:
            raise ValueError("it has no nodes")
    except FileNotFoundError:
        raise RecordError(f"{path}: no such file; give an ONNX model") from None
    except Exception as error:  # what a damaged file raises shares no base class below Exception
        raise RecordError(f"{path}: not an ONNX model ({in_words(error)}); export it again") from None
    source = Source(path, graph, [path, *_beside(path, graph)])
    if source.bytes > LARGEST:
        raise KDError(f"{path}: {source.bytes:,} bytes with its weights; larger than 2 GB is not supported here")
    try:
        onnx.load_external_data_for_model(graph, str(path.parent))
    except Exception as error:
        raise RecordError(f"{path}: its weights cannot be read ({in_words(error)}); export it again") from None
    for node in (node for node, _ in everywhere(graph.graph)):
        if node.op_type in QUANTISED:
            raise KDError(f"{path}: already quantised ({node.op_type} {node.name!r}); give the float model")
    name_nodes(graph)
    return source


def _beside(path: Path, graph: Model) -> list[Path]:
    """Return the files that weights are in, in the order in which the graph names them."""
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    outside = [tensor for tensor in graph.graph.initializer if uses_external_data(tensor)]
    files = [path.parent / name for name in dict.fromkeys(ExternalDataInfo(tensor).location for tensor in outside)]
    for file in files:
        if not file.is_file():
            raise RecordError(f"{path}: its weights are in {file.name}, which is missing; put it beside the model")
    return files


def prepared(source: Source) -> Model:
    """Return a copy that a quantiser can work on.

    What follows from constants is one, batch norms are part of their convolutions, and the operators are recent enough
    for a scale per channel; nodes that stay keep their names.

    Raises:
        KDError: its operators are too old and cannot be converted.
    """
    graph = copy.deepcopy(source.graph)
    _free_of_default_inputs(graph)
    graph = _simplified(_converted(graph, source.path))
    name_nodes(graph)
    return graph


def _free_of_default_inputs(graph: Model) -> None:
    """Make constants of inputs that have a value already, as old files list their weights, in place."""
    known = constants(graph)
    inputs = [value for value in graph.graph.input if value.name not in known]
    del graph.graph.input[:]
    graph.graph.input.extend(inputs)
    graph.ir_version = max(graph.ir_version, 7)


def name_nodes(graph: Model) -> None:
    """Give a name to every node that has none or another's, in place."""
    taken = Counter(node.name for node in graph.graph.node)
    for place, node in enumerate(graph.graph.node):
        if node.name and taken[node.name] == 1:
            continue
        taken[node.name] -= 1
        name = f"{node.name or node.op_type}_{place}"
        while taken[name]:
            name += "_"
        node.name = name
        taken[name] += 1


def _converted(graph: Model, path: Path) -> Model:
    import onnx

    opset = next((entry.version for entry in graph.opset_import if entry.domain in ("", "ai.onnx")), OPSET)
    if opset >= OPSET:
        return graph
    try:
        return onnx.version_converter.convert_version(graph, OPSET)
    except Exception as error:
        reason = in_words(error)
        raise KDError(
            f"{path}: opset {opset} cannot be converted ({reason}); export with opset {OPSET} or later"
        ) from None


def _simplified(graph: Model) -> Model:
    """Return what ONNX Runtime makes of a graph before it fuses kernels of its own: operators stay the standard's."""
    import onnx
    import onnxruntime as ort

    from kd.compress.export import strip

    with tempfile.TemporaryDirectory() as scratch:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(scratch) / "simplified.onnx")
        options.log_severity_level = 3
        ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        made = onnx.load(options.optimized_model_filepath)
    strip(made)
    return made


def obstacles(source: Source, graph: Model, *, calibrated: bool) -> list[Left]:
    """Return every product and convolution that cannot be quantised, and why.

    Args:
        source: what was read, which tells what its nodes compute in.
        graph: what was prepared of it.
        calibrated: scales are fixed from rows; without rows more stays float.
    """
    known, kinds = constants(graph), _kinds(source.graph)
    found = []
    for node, inside in multiplying(graph):
        kind = kinds.get(node.name, "FLOAT")
        reason = f"{kind.lower()}, not float32" if kind != "FLOAT" else _reason(node, known, calibrated)
        reason = f"inside {inside}" if inside else reason
        found += [Left(node.name, node.op_type, reason)] if reason else []
    return found


def multiplying(graph: Model) -> list[tuple[Any, str]]:
    """Return all products and convolutions, each with the node whose body it is part of, if any."""
    return [(node, inside) for node, inside in everywhere(graph.graph) if node.op_type in FLOAT]


def _reason(node: Any, known: Mapping[str, Any], calibrated: bool) -> str:
    """Say why a node cannot be quantised; nothing where it can."""
    if node.op_type not in SUPPORTED:
        return "this type of node is not supported"
    if node.op_type in CONVOLUTIONS and not calibrated:
        return "convolutions stay float without rows=FILE.npz"
    weight = known.get(node.input[1])
    if weight is None and (node.op_type in CONVOLUTIONS or not calibrated):
        return "weight is not a constant"
    if weight is not None and node.op_type in PRODUCTS and len(weight.dims) != 2:
        return f"weight has {len(weight.dims)} axes, not 2"
    return ""


def _kinds(graph: Model) -> dict[str, str]:
    """Return what nodes compute in, where it is known: FLOAT, FLOAT16, ..."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(graph).graph
    values = (*inferred.input, *inferred.value_info, *inferred.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    types |= {tensor.name: tensor.data_type for tensor in inferred.initializer}
    read = {node.name: types.get(node.input[0], 0) for node in graph.graph.node if node.input}
    return {name: onnx.TensorProto.DataType.Name(kind) for name, kind in read.items() if kind}
