"""The content address of a trained node: everything that decides its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from kd.config import Study
from kd.distill.graph import edges_into, made_from
from kd.distill.setting import Fingerprints
from kd.distill.trainer import deciding
from kd.models.imported import addressed
from kd.record import code_address


def parents_of(study: Study, name: str, trained: Mapping[str, str]) -> dict[str, str]:
    """Return node -> run of the teachers and origins that a node is made from, given the runs of those before it."""
    return {parent: trained[parent] for parent in sorted(made_from(study, name))}


def node_address(study: Study, name: str, data: Fingerprints, parents: Mapping[str, str]) -> dict[str, Any]:
    """Return everything that decides a node's weights; its hash is the run's id.

    Modalities are taken in the source's order, so the order in the YAML decides nothing.

    Args:
        study: the config.
        name: node.
        data: of its replicate.
        parents: node -> run of those that it is made from.
    """
    node = asdict(study.nodes[name])
    node["sees"] = sorted(node["sees"])
    node["model"] = _model(node["model"], node["sees"])
    # The names stay in: they seed the initial weights and order the terms of the loss.
    edges = {
        key: asdict(edge) | {"teacher": parents.get(edge.teacher, "self"), "student": "self"}
        for key, edge in edges_into(study, name).items()
    }
    if not edges:
        del node["taught"], node["labelled_share"]  # nobody teaches it, and all its rows have a label
    node["augment"] = {m: part for m, part in node["augment"].items() if m in node["sees"]}
    node["init"] = _init(node["init"], parents)
    rooms = ["models", "distill", "tasks", "types", "seeding", "data/stream"] + (["objectives"] if edges else [])
    return {
        "node": node,
        "edges": edges,
        "class_weight": study.class_weight,
        "threads": study.threads,
        "trainer": deciding(study.trainer),
        "seed": data.seed,
        "name": name,
        "data": data.data,
        "processors": {m: digest for m, digest in data.processors.items() if m in node["sees"]},
        "split": data.split,
        "mask": data.mask,
        "code": code_address(*rooms),
        "torch": ".".join(torch.__version__.split(".")[:2]),
    }


def _init(init: str | dict[str, str] | None, parents: Mapping[str, str]) -> str | dict[str, str] | None:
    if isinstance(init, dict):
        return {modality: parents[origin] for modality, origin in init.items()}
    return None if init is None else parents[init]


def _model(model: dict[str, Any], sees: list[str]) -> dict[str, Any]:
    if "import" in model:
        return addressed(model)
    # A study may name encoders for all modalities at once; those of modalities that a node does not see decide nothing.
    own = {modality: part for modality, part in model.get("encoders", {}).items() if modality in sees}
    return {key: value for key, value in model.items() if key != "encoders"} | ({"encoders": own} if own else {})
