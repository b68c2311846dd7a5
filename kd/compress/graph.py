"""What passes ask of an exported graph: its products and convolutions, the layer of a node, tables of embeddings.

`kd.compress.export` calls every node after the layer it computes; a graph that is not ours has other names, and each
node is a layer of its own.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from kd.evaluate.predictor import PRESENT

PRODUCTS = ("MatMul", "Gemm")
CONVOLUTIONS = ("Conv",)
PASSING_ON = ("Relu", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze")
"""Give the values that they get, in another shape or from 0 up."""
LAYER_END = "/"
"""Stands in a node's name between its layer and its operation."""
ENCODERS, STAND_IN = "encoders.", "absent"
"""How the layers of encoders, and of what stands in for absent inputs, begin."""
SCALES = "standardise"
"""Of these a graph may hold one copy for the encoder and for what stands in for its input: they tell nothing."""
RANGES = "kd.ranges"
"""Note on a graph: the network's learnt ranges."""
REST = "fusion and head"
"""Branch of what belongs to no encoder."""


def layer_of(name: str) -> str:
    """Return the layer that a node computes.

    >>> layer_of("encoders.fou.layers.0/linear.1")
    'encoders.fou.layers.0'
    """
    return name.rpartition(LAYER_END)[0] or name


def branch_of(layer: str) -> str:
    """Return the modality whose encoder a layer belongs to.

    >>> branch_of("encoders.fou.layers.0"), branch_of("head")
    ('fou', 'fusion and head')
    """
    return layer.split(".")[1] if layer.startswith(ENCODERS) else REST


def computing(graph: Any, kinds: Collection[str] = (*PRODUCTS, *CONVOLUTIONS)) -> list[Any]:
    """Return the nodes of some types, in the order in which they run."""
    return [node for node in graph.graph.node if node.op_type in kinds]


def everywhere(graph: Any, inside: str = "") -> Iterator[tuple[Any, str]]:
    """Give all nodes of a `GraphProto`, each with the node whose body it is part of, if any."""
    for node in graph.node:
        yield node, inside
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from everywhere(body, inside or f"{node.op_type} {node.name}")


def constants(graph: Any) -> dict[str, Any]:
    """Return a graph's constant tensors by name."""
    return {tensor.name: tensor for tensor in graph.graph.initializer}


def note_ranges(graph: Any, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Write a network's learnt ranges, by layer, on its graph, in place."""
    graph.metadata_props.add(key=RANGES, value=json.dumps(ranges))


def noted_ranges(graph: Any) -> dict[str, tuple[float, float]]:
    """Return the learnt ranges that came with a graph, by tensor.

    Where only `PASSING_ON` lies between a result and what enters a layer, both get one range, so that rounding twice is
    rounding once. A tensor that enters several layers gets the range that holds all of theirs.
    """
    noted: Mapping[str, tuple[float, float]] = next(
        (json.loads(note.value) for note in graph.metadata_props if note.key == RANGES), {}
    )
    found: dict[str, tuple[float, float]] = {}
    for node in computing(graph):
        if layer_of(node.name) in noted:
            low, high = noted[layer_of(node.name)]
            other = found.get(node.input[0], (low, high))
            found[node.input[0]] = min(low, other[0]), max(high, other[1])
    readers = Counter(name for node in graph.graph.node for name in node.input)
    for node in reversed(computing(graph, PASSING_ON)):
        if node.output[0] in found and readers[node.input[0]] == 1:
            found.setdefault(node.input[0], found[node.output[0]])
    return found


def products_before_encoders(graph: Any) -> list[str]:
    """Return the names of the matrix products by which a stand-in computes absent inputs for the encoders."""
    nodes, own = graph.graph.node, _of_encoders(graph)
    behind = _reached((node.output for node in own), nodes)
    read = _reached((node.input for node in own), reversed(nodes), backwards=True)
    standing_in = [node for node in computing(graph, PRODUCTS) if node.name.startswith(STAND_IN)]
    return [n.name for n in standing_in if read.intersection(n.output) and not behind.intersection(n.output)]


def tells_absence_apart(graph: Any) -> bool:
    """Say whether something behind an encoder depends on `present`; if nothing does, encoders read what is filled in.

    A graph without encoders of ours is taken to tell it apart.
    """
    nodes, own = graph.graph.node, _of_encoders(graph)
    if not own:
        return True
    behind, pattern = _reached((node.output for node in own), nodes), _of_present_alone(graph)
    return any(behind.intersection(node.input) and pattern.intersection(node.input) for node in nodes)


def _of_encoders(graph: Any) -> list[Any]:
    """Return the nodes of encoders that read values, but for the scaling of their inputs."""
    still = _without_content(graph)
    found = [node for node in graph.graph.node if layer_of(node.name).startswith(ENCODERS)]
    return [n for n in found if not layer_of(n.name).endswith(SCALES) and not still.issuperset(n.input)]


def _reached(starts: Iterable[Iterable[str]], nodes: Iterable[Any], *, backwards: bool = False) -> set[str]:
    """Return all values that depend on some, or backwards, that some depend on; nodes in that order."""
    found = {name for names in starts for name in names}
    for node in nodes:
        given, made = (node.output, node.input) if backwards else (node.input, node.output)
        if found.intersection(given):
            found.update(made)
    return found


def _without_content(graph: Any) -> set[str]:
    """Return the values that are constant, but for what follows from the number of rows."""
    found = {"", *constants(graph)}
    for node in graph.graph.node:
        if node.op_type == "Shape" or found.issuperset(node.input):
            found.update(node.output)
    return found


def _of_present_alone(graph: Any) -> set[str]:
    """Return the values that depend on which modalities are present and on nothing else, more than its shape."""
    still, found = _without_content(graph), {PRESENT}
    for node in graph.graph.node:
        read = set(node.input) - still
        if read and read <= found:
            found.update(node.output)
    return found
