"""Tables of embeddings in int8: a row is read as int8 and scaled afterwards, one scale per table.

No activation is rounded, so nothing is calibrated. Source: Zafrir et al. 2019, Q8BERT (1910.06188), Section 3:
symmetric, by the largest weight of the table.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from kd.compress.graph import constants

LEAST = 4096
"""Weights of a table that is worth it: below, the nodes added weigh as much as what is saved."""
LIMIT = 127


def quantise_embeddings(graph: Any) -> tuple[Any, list[str]]:
    """Return a graph whose tables of embeddings are int8, and the names of those tables."""
    from onnx import helper, numpy_helper

    graph = copy.deepcopy(graph)
    found = _tables(graph)
    for name, tensor in found.items():
        weight = numpy_helper.to_array(tensor)
        largest = float(np.abs(weight).max()) or 1.0
        scale = np.float32(largest / LIMIT)
        tensor.CopyFrom(numpy_helper.from_array(np.rint(weight / scale).clip(-LIMIT, LIMIT).astype(np.int8), name))
        graph.graph.initializer.append(numpy_helper.from_array(np.asarray(scale), f"{name}.scale"))
    nodes = []
    for node in graph.graph.node:
        nodes.append(node)
        if node.op_type == "Gather" and node.input[0] in found:
            (whole,) = node.output
            node.output[0] = f"{whole}.int8"
            scaled = helper.make_node("DequantizeLinear", [node.output[0], f"{node.input[0]}.scale"], [whole])
            scaled.name = f"{node.name}.scaled"
            nodes.append(scaled)
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    return graph, list(found)


def _tables(graph: Any) -> dict[str, Any]:
    """Return float tables that are only ever looked up by row."""
    from onnx import TensorProto, helper

    def looks_up(node: Any, name: str) -> bool:
        axis = next((helper.get_attribute_value(a) for a in node.attribute if a.name == "axis"), 0)
        return node.op_type == "Gather" and node.input[0] == name and name not in node.input[1:] and axis == 0

    found = {}
    for name, tensor in constants(graph).items():
        large = tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2 and np.prod(tensor.dims) >= LEAST
        readers = [node for node in graph.graph.node if name in node.input]
        if large and readers and all(looks_up(node, name) for node in readers):
            found[name] = tensor
    return found
