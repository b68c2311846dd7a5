"""What in an exported graph comes before its encoders, and whether absence is told apart behind them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from kd.evaluate.predictor import PRESENT

ENCODERS = "model.encoders."
"""How the constants of encoders are named in a graph that `kd.compress.export` wrote."""
SCALES = ".standardise."
"""Of these a graph may hold one copy for the encoder and for what stands in for its input: they tell nothing."""
FILLING = ("model.absent.maps.", "model.absent.nearest.")
"""How the constants of stand-ins are named that compute an input by matrix products."""


def products_before_encoders(graph: Any, products: Collection[str]) -> list[str]:
    """Return the names of the matrix products by which a stand-in computes absent inputs for the encoders.

    Args:
        graph: ONNX, its nodes in an order in which they can run.
        products: types of node that count as one.
    """
    if not any(tensor.name.startswith(FILLING) for tensor in graph.initializer):
        return []
    behind, read = behind_encoders(graph), _read_by_encoders(graph)
    nodes = [node for node in graph.node if node.op_type in products]
    return [node.name for node in nodes if read.intersection(node.output) and not behind.intersection(node.output)]


def tells_absence_apart(graph: Any) -> bool:
    """Say whether something behind an encoder depends on `present`; if nothing does, encoders read what is filled in.

    A graph without encoders of ours is taken to tell it apart.
    """
    if not _encoder_constants(graph):
        return True
    behind, pattern = behind_encoders(graph), _of_present_alone(graph)
    return any(behind.intersection(node.input) and pattern.intersection(node.input) for node in graph.node)


def behind_encoders(graph: Any) -> set[str]:
    """Return the values that an encoder has had a part in, its constants included."""
    found = _encoder_constants(graph)
    for node in graph.node:
        if found.intersection(node.input):
            found.update(node.output)
    return found


def _read_by_encoders(graph: Any) -> set[str]:
    constants = _encoder_constants(graph)
    found: set[str] = set()
    for node in reversed(graph.node):
        if constants.intersection(node.input) or found.intersection(node.output):
            found.update(node.input)
    return found


def _of_present_alone(graph: Any) -> set[str]:
    """Return the values that depend on which modalities are present and on nothing else, more than its shape."""
    constants, found = {tensor.name for tensor in graph.initializer}, {PRESENT}
    for node in graph.node:
        read = {name for name in node.input if name and name not in constants}
        if not read or node.op_type == "Shape":
            constants.update(node.output)
        elif read <= found:
            found.update(node.output)
    return found


def _encoder_constants(graph: Any) -> set[str]:
    return {t.name for t in graph.initializer if t.name.startswith(ENCODERS) and SCALES not in t.name}
