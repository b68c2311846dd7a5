"""What only building tells: ranges inside parts, a branch or layer that is not there, a network with other logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kd.config import Study
from kd.data.source import Source
from kd.distill.augment import build_augmentations
from kd.distill.branches import branches, parameter_groups
from kd.distill.graph import edges_into
from kd.distill.loss import Edge, asks_for_shapes
from kd.errors import ConfigError
from kd.models.network import Network
from kd.models.start import start_from
from kd.networks import blank_network
from kd.objectives import OBJECTIVES, TEACHER_WEIGHTS
from kd.objectives.base import Objective
from kd.record import digest

_passed: set[str] = set()
"""What this process has tried without a fault: the variants of a grid share nearly all of their nodes and edges."""


def try_node(study: Study, name: str, source: Source) -> None:
    """Build a node's network and what belongs to it, on no row, and throw them away.

    Args:
        study: without the faults that can be told without building.
        name: node.
        source: prepared.

    Raises:
        ConfigError: every fault, its place below `nodes.NAME`.
    """
    node, taught = study.nodes[name], sorted(edges_into(study, name))
    built = {origin: _built(study, origin) for origin in [name, *sorted(node.origins)]}
    tried = [built, taught, node.init, node.learning_rates, node.combine, node.recombine, node.augment]
    key = _key("node", tried, source)
    if key in _passed:
        return
    sees = [modality for modality in source.modalities if modality in node.sees]
    found: list[str] = []

    def attempt(where: str, build: Callable[[], object]) -> None:
        try:
            build()
        except ConfigError as error:
            found.extend(f"{where}{fault}" for fault in error.faults)

    def network() -> None:
        model = blank(study, name, source)
        attempt("", lambda: parameter_groups(model, [], branches(model, node.learning_rates)))
        if isinstance(node.init, dict):
            givers = {modality: blank(study, origin, source) for modality, origin in node.init.items()}
            attempt("", lambda: start_from(model, givers))

    attempt("model.", network)
    if node.combine is not None:
        attempt("combine.", lambda: TEACHER_WEIGHTS.build(node.combine, taught))  # type: ignore[arg-type]
        if source.task not in TEACHER_WEIGHTS[node.combine["name"]].load().tasks:  # type: ignore[attr-defined]
            found.append(f"combine.name: {node.combine['name']} is not for {source.task}; weigh by mean, fixed or best")
    if node.recombine and source.task != "multiclass":
        found.append(f"recombine: rows of one class give each other modalities; {source.task} has none, set it to 0")
    attempt("", lambda: build_augmentations(node.augment, {m: source.modality[m] for m in sees}))
    if found:
        raise ConfigError(found)
    _passed.add(key)


def try_edge(study: Study, name: str, source: Source) -> None:
    """Build an edge between networks that have seen no row, and throw all of it away.

    Args:
        study: without the faults that can be told without building.
        name: edge.
        source: prepared.

    Raises:
        ConfigError: every fault, its place below `edges.NAME.loss`.
    """
    edge = study.edges[name]
    key = _key("edge", [edge.loss, edge.view, _built(study, edge.teacher), _built(study, edge.student)], source)
    if key in _passed:
        return
    objective: Objective = OBJECTIVES.build(edge.loss)
    if source.task not in objective.tasks:
        suited = [known for known, entry in OBJECTIVES.items() if source.task in entry.load().tasks]  # type: ignore[attr-defined]
        raise ConfigError(
            f"name: {edge.loss['name']} is not for {source.task}; objectives that are: {', '.join(suited)}"
        )
    objective.remember(len(source))
    if asks_for_shapes(objective):
        teacher = None if edge.view != "own" else blank(study, edge.teacher, source)
        Edge(teacher, objective, view=edge.view).prepare(blank(study, edge.student, source), seed=0)
    _passed.add(key)


def blank(study: Study, name: str, source: Source) -> Network:
    """Return a node's network that has seen no row; one that starts from another node's weights is that node's."""
    sees, model = _built(study, name)
    return blank_network(source, [modality for modality in source.modalities if modality in sees], model)


def _built(study: Study, name: str) -> tuple[list[str], dict[str, Any]]:
    """Return what a node's network is built from: the modalities it sees, and the model of whose weights it starts."""
    node = study.nodes[name]
    return _built(study, node.init) if isinstance(node.init, str) else (node.sees, node.model)


def _key(what: str, tried: Sequence[Any], source: Source) -> str:
    shapes = {name: repr(source.modality[name]) for name in source.modalities}
    return digest([what, *tried, shapes, source.classes, source.task, len(source)])
