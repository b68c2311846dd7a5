"""Which layers int8 hurts, and mixed precision: the most sensitive stay float until a budget holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kd.compress.context import Model
from kd.compress.graph import branch_of, layer_of
from kd.errors import KDError

Moved = Callable[[Model], Mapping[str, float]]
"""How far a graph is from the float one, as `kd.compress.rows.differences` says it."""


@dataclass(frozen=True)
class Sensitivity:
    """What was found out layer by layer.

    Attributes:
        branches: one row each, a modality's encoder or the rest, the most sensitive first: `parity_max` and
            `agreement` where it alone is int8.
        layers: the same of every layer.
        left: names of the nodes that stay float.
    """

    branches: list[dict[str, Any]] = field(default_factory=list)
    layers: list[dict[str, Any]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def leave_float(
    nodes: Sequence[str], quantised: Callable[[Sequence[str]], Model], moved: Moved, budget: float
) -> Sensitivity:
    """Return the fewest layers, the most sensitive first, that have to stay float for a budget to hold.

    Args:
        nodes: what could be int8.
        quantised: makes the graph in which the nodes given stay float.
        moved: measures a graph.
        budget: see `kd.compress.quantise.StaticInt8`.

    Raises:
        KDError: the budget holds only where everything stays float.
    """
    if _spent(moved(quantised([]))) <= budget:
        return Sensitivity()

    def alone(own: Sequence[str]) -> Mapping[str, float]:
        return moved(quantised([node for node in nodes if node not in own]))

    by_layer, by_branch = _grouped(nodes, layer_of), _grouped(nodes, lambda node: branch_of(layer_of(node)))
    layers = _ranked({layer: alone(own) for layer, own in by_layer.items()})
    branches = _ranked({branch: alone(own) for branch, own in by_branch.items()})
    order = list(layers)
    fewest, most = 1, len(order)
    while fewest < most:
        middle = (fewest + most) // 2
        if _spent(moved(quantised(_nodes(order[:middle], by_layer)))) <= budget:
            most = middle
        else:
            fewest = middle + 1
    if most == len(order):
        raise KDError(f"static_int8.budget: {budget:g} holds only where every layer stays float; raise it")
    return Sensitivity(
        [{"branch": branch, **found} for branch, found in branches.items()],
        [{"branch": branch_of(layer), "layer": layer, **found} for layer, found in layers.items()],
        _nodes(order[:most], by_layer),
    )


def _grouped(nodes: Sequence[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for node in nodes:
        found.setdefault(key(node), []).append(node)
    return found


def _ranked(alone: Mapping[str, Mapping[str, float]]) -> dict[str, Mapping[str, float]]:
    """Return the same, the most sensitive first."""
    return dict(sorted(alone.items(), key=lambda item: (-_spent(item[1]), -item[1]["parity_max"])))


def _nodes(layers: Sequence[str], by_layer: Mapping[str, Sequence[str]]) -> list[str]:
    return [node for layer in layers for node in by_layer[layer]]


def _spent(found: Mapping[str, float]) -> float:
    """Return what counts against the budget: decisions that differ, or of regression the greatest difference."""
    return 1 - found["agreement"] if "agreement" in found else found["parity_max"]
