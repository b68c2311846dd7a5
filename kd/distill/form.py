"""Which trainings may run as one stack: those of one form, told from what decides their weights."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

from kd.config import Edge, Node, Study
from kd.data.source import Source
from kd.distill.graph import changed_for, edges_into
from kd.distill.loss import reads
from kd.distill.rates import OWN
from kd.distill.teachers import LOGITS
from kd.distill.trainer import UNDECIDING
from kd.distill.trial import blank
from kd.models.imported import Imported
from kd.models.stacked import unreplicable
from kd.objectives import OBJECTIVES, TEACHER_WEIGHTS
from kd.types import layers

TAKEN = {"accelerator", "gradient_clip_val", *UNDECIDING} - {"logger", "loggers"}
"""Settings of `trainer:` that a stack obeys as one training does."""


def form(study: Study, name: str, address: Mapping[str, Any], forms: Mapping[str, Any]) -> dict[str, Any]:
    """Return what trainings of one stack have in common: an address without all that may be each replica's own.

    Own are seed, mask, order of rows, rows hidden, initial weights, teachers, the weights of the losses, the numbers of
    objectives, learning rate and weight decay.

    Args:
        study: the config.
        name: node.
        address: what decides its weights.
        forms: node -> form of those that it is made from.
    """
    found = copy.deepcopy({key: value for key, value in address.items() if key not in ("seed", "mask", "name")})
    node = found["node"]
    for key in ("drop", "supervised", "taught", "labelled_share"):
        node.pop(key, None)
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
    """Return an objective without its numbers, which are its buffers; those of an objective inside it included."""

    def kind(part: Mapping[str, Any], numbers: Collection[str]) -> dict[str, Any]:
        inner = [name.removeprefix("loss.") for name in numbers if name.startswith("loss.")]
        kept = {key: value for key, value in part.items() if key not in numbers}
        return kept | ({"loss": kind(part["loss"], inner)} if isinstance(part.get("loss"), Mapping) else {})

    return kind(edge.loss, [name for name, _ in OBJECTIVES.build(edge.loss).named_buffers()])


def _teacher(study: Study, edge: Edge, forms: Mapping[str, Any]) -> Any:
    """Return what teachers have in common: what they see where only their logits are there, else their form."""
    if edge.view != "own":
        return ["self", edge.view, edge.decay if edge.view == "averaged" else None]
    only_logits = set(reads(OBJECTIVES.build(edge.loss), "teacher")) <= set(LOGITS)
    return sorted(study.nodes[edge.teacher].sees) if is_cached(study, edge) and only_logits else forms[edge.teacher]


def is_cached(study: Study, edge: Edge) -> bool:
    """Say whether what a student reads of its teacher is computed once.

    By default where the student changes nothing that the teacher sees and reads none of its layers, which may be large.
    """
    if edge.cache is not None:
        return edge.cache
    changed = changed_for(study.nodes[edge.teacher], study.nodes[edge.student])
    return not changed and not layers(reads(OBJECTIVES.build(edge.loss), "teacher"))


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
    parts: dict[str, nn.Module] = {"": blank(study, name, source)}
    parts |= {f"nodes.{teacher}": blank(study, teacher, source) for teacher in asked}
    parts |= {f"edges.{key}": OBJECTIVES.build(edge.loss) for key, edge in edges.items()}
    combine = study.nodes[name].combine
    parts |= {} if combine is None else {"combine": TEACHER_WEIGHTS.build(combine, sorted(edges))}
    for place, part in parts.items():
        if isinstance(part, Imported) and not any(getattr(m, "replicable", False) for m in part.modules()):
            return f"{type(part.network).__name__} does not say replicable = True"
        for found in unreplicable(part, place):
            return f"{found} does not stack"
    return ""
