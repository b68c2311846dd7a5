"""Which trainings may run as one stack: those of one form, told from what decides their weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import nn

from kd.config import Edge, Node, Study
from kd.data.source import Source
from kd.distill.graph import changed_for, edges_into
from kd.distill.rates import OWN
from kd.distill.trainer import UNDECIDING
from kd.models.imported import Imported
from kd.models.network import Network
from kd.models.stacked import unreplicable
from kd.networks import blank_network
from kd.objectives import OBJECTIVES

TAKEN = {"accelerator", "gradient_clip_val", *UNDECIDING} - {"logger", "loggers"}
"""Settings of `trainer:` that a stack obeys as one training does."""


def form(study: Study, name: str, address: Mapping[str, Any], forms: Mapping[str, Any]) -> dict[str, Any]:
    """Return what trainings of one stack have in common: an address without all that may be each replica's own.

    Own are seed, mask, rows hidden, initial weights, teachers, the weights of the losses, the objectives' numbers,
    learning rate and weight decay.

    Args:
        study: the config.
        name: node.
        address: what decides its weights.
        forms: node -> form of those that it is made from.
    """
    found = copy.deepcopy({key: value for key, value in address.items() if key not in ("seed", "mask", "name")})
    node = found["node"]
    for key in ("drop", "supervised"):
        del node[key]
    node["optimizer"] = {key: value for key, value in node["optimizer"].items() if key not in OWN}
    node["init"] = _origins(study.nodes[name], forms)
    for key, edge in edges_into(study, name).items():
        found["edges"][key] |= {"weight": None, "loss": _kind(edge), "teacher": _teacher(study, edge, forms)}
    return found


def _origins(node: Node, forms: Mapping[str, Any]) -> Any:
    if isinstance(node.init, dict):
        return {modality: forms[origin] for modality, origin in node.init.items()}
    return None if node.init is None else forms[node.init]


def _kind(edge: Edge) -> dict[str, Any]:
    """Return an objective without its numbers, which are its buffers."""
    numbers = dict(OBJECTIVES.build(edge.loss).named_buffers())
    return {key: value for key, value in edge.loss.items() if key not in numbers}


def _teacher(study: Study, edge: Edge, forms: Mapping[str, Any]) -> Any:
    """Return what teachers have in common: their form where asked anew, what they see where cached."""
    if edge.view == "full":
        return "self"
    return sorted(study.nodes[edge.teacher].sees) if is_cached(study, edge) else forms[edge.teacher]


def is_cached(study: Study, edge: Edge) -> bool:
    """Say whether a teacher's outputs are computed once: by default where the student changes nothing that it sees."""
    changed = changed_for(study.nodes[edge.teacher], study.nodes[edge.student])
    return not changed if edge.cache is None else edge.cache


def alone(study: Study, name: str, source: Source) -> str:
    """Say why a node is trained by itself; an empty text where it stacks.

    Args:
        study: the config.
        name: node.
        source: prepared.
    """
    if study.nodes[name].steps == 0:
        return "nothing is trained"
    for key in study.trainer:
        if key not in TAKEN:
            return f"trainer.{key} acts on one training"
    edges = edges_into(study, name)
    asked = [edge.teacher for edge in edges.values() if edge.view == "own" and not is_cached(study, edge)]
    parts: dict[str, nn.Module] = {"": _blank(study, name, source)}
    parts |= {f"nodes.{teacher}": _blank(study, teacher, source) for teacher in asked}
    parts |= {f"edges.{key}": OBJECTIVES.build(edge.loss) for key, edge in edges.items()}
    for place, part in parts.items():
        if isinstance(part, Imported) and not any(getattr(m, "replicable", False) for m in part.modules()):
            return f"{type(part.network).__name__} does not say replicable = True"
        for found in unreplicable(part, place):
            return f"{found} does not stack"
    return ""


def _blank(study: Study, name: str, source: Source) -> Network:
    """Return a network as a node's is built, without its weights."""
    node = study.nodes[name]
    if isinstance(node.init, str):
        return _blank(study, node.init, source)
    return blank_network(source, [modality for modality in source.modalities if modality in node.sees], node.model)
