"""The distillation graph of a study: which node learns from which, in what order, and everything wrong with it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from typing import Any

from kd.baselines import BASELINES
from kd.config import Edge, Node, Study, family_contrasts
from kd.data import MECHANISMS, SOURCES
from kd.data.mechanisms.at_test import whole_faults
from kd.data.stream import shares_out
from kd.distill import AUGMENTATIONS, OPTIMIZERS, SCHEDULES
from kd.distill.trainer import trainer_faults
from kd.errors import GraphError
from kd.models import ENCODERS, FUSIONS, STAND_INS
from kd.models.imported import spec_faults
from kd.objectives import OBJECTIVES, TEACHER_WEIGHTS
from kd.parsing import name_fault
from kd.registry import suggest

CLEAN = "clean"
"""What tables call test rows that hide nothing."""
MODEL_KEYS = ("width", "encoder", "encoders", "fusion", "absent")


def order(study: Study) -> list[str]:
    """Return the nodes' names, teachers before students, otherwise by name.

    Raises:
        GraphError: naming the cycle.
    """
    sorter = TopologicalSorter({name: set() for name in study.nodes})
    for edge in study.edges.values():
        if edge.teacher != edge.student:
            sorter.add(edge.student, edge.teacher)
    for name, node in study.nodes.items():
        sorter.add(name, *(node.origins & set(study.nodes)))
    try:
        sorter.prepare()
    except CycleError as error:
        cycle = " -> ".join(error.args[1])
        raise GraphError(f"edges: the graph has a cycle ({cycle}); a teacher is trained before its student") from None
    found: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        found += ready
        sorter.done(*ready)
    return found


def edges_into(study: Study, student: str) -> dict[str, Edge]:
    """Return the edges whose student is this node."""
    return {name: edge for name, edge in study.edges.items() if edge.student == student}


def made_from(study: Study, name: str) -> set[str]:
    """Return the other nodes that a node needs trained: its teachers, and those whose weights it starts from."""
    teachers = {edge.teacher for edge in edges_into(study, name).values()}
    return (teachers | study.nodes[name].origins) - {name}


def part_faults(study: Study) -> list[str]:
    """Return every fault that can be told without loading data: parts, ranges, names, cycles."""
    found = SOURCES.faults(study.data, "data") + MECHANISMS.faults(study.mask, "mask")
    if not study.nodes:
        found.append("nodes: expected at least one node")
    if study.seeds < 1:
        found.append(f"seeds: expected at least 1, got {study.seeds}")
    for field in ("threads", "jobs"):
        if getattr(study, field) < 1:
            found.append(f"{field}: expected at least 1, got {getattr(study, field)}")
    for name, node in study.nodes.items():
        found += _node_faults(node, f"nodes.{name}") + _init_faults(node, f"nodes.{name}.init", study.nodes)
        found += _combine_faults(study, name)
    for name, edge in study.edges.items():
        found += _edge_faults(edge, f"edges.{name}", study.nodes)
    found += _test_mask_faults(study)
    found += _baseline_faults(study) + _ensemble_faults(study) + _comparison_faults(study)
    found += trainer_faults(study.trainer)
    if not found:
        try:
            order(study)
        except GraphError as error:
            found += error.faults
    return found


def data_faults(study: Study, modalities: Sequence[str]) -> list[str]:
    """Return every fault that needs the data's modalities: unknown names, one that no node sees."""
    found = []
    seen = {f"nodes.{name}": node.sees for name, node in study.nodes.items()}
    seen |= {f"baselines.{name}": baseline.sees for name, baseline in study.baselines.items()}
    for where, sees in seen.items():
        unknown = [modality for modality in sees if modality not in modalities]
        found += [f"{where}.sees: unknown modality {m!r}; {suggest(m, modalities)}" for m in unknown]
    for name, node in study.nodes.items():
        # One that the node does not see is no fault: `defaults` names encoders for every node at once.
        encoders = {} if "import" in node.model else node.model.get("encoders", {})
        for where, named in (("model.encoders", encoders), ("augment", node.augment)):
            unknown = [modality for modality in named if modality not in modalities]
            found += [f"nodes.{name}.{where}.{m}: unknown modality {m!r}; {suggest(m, modalities)}" for m in unknown]
    return found


def changed_faults(study: Study, name: str, changed: Mapping[str, Any], where: str) -> list[str]:
    """Return the faults that a node has with other values in some of its fields, and does not have as it is."""
    own = _node_faults(study.nodes[name], where)
    return [fault for fault in _node_faults(replace(study.nodes[name], **changed), where) if fault not in own]


def _node_faults(node: Node, where: str) -> list[str]:
    found = _sees_faults(node.sees, where) + _number_faults(node, where)
    if node.patience is not None and (node.patience < 1 or node.select == "last"):
        needs = "at least 1" if node.select != "last" else "no patience with select: last, which compares no scores"
        found.append(f"{where}.patience: expected {needs}, got {node.patience}")
    if node.steps == 0 and node.init is None and "import" not in node.model:
        found.append(f"{where}.steps: 0 uses given weights, and none are given; name init or a model with import")
    if node.validate_every >= 1 and node.steps % node.validate_every:
        found.append(f"{where}.steps: expected a multiple of validate_every={node.validate_every}, got {node.steps}")
    found += OPTIMIZERS.faults(node.optimizer, f"{where}.optimizer")
    found += SCHEDULES.faults(node.schedule, f"{where}.schedule")
    for modality, part in node.augment.items():
        found += AUGMENTATIONS.faults(part, f"{where}.augment.{modality}")
    if "import" in node.model:
        return found + spec_faults(node.model, node.sees, f"{where}.model")
    return found + _model_faults(node.model, f"{where}.model")


def _number_faults(node: Node, where: str) -> list[str]:
    """Return the fields of a node that hold a number out of range."""
    found = []
    for field in ("supervised", "taught"):
        if not (getattr(node, field) >= 0 and math.isfinite(getattr(node, field))):
            found.append(f"{where}.{field}: expected a finite number of at least 0, got {getattr(node, field)}")
    if not 0 <= node.drop < 1:
        found.append(f"{where}.drop: expected a probability in [0, 1), got {node.drop}")
    for field in ("drop_warmup", "recombine"):
        if not 0 <= getattr(node, field) <= 1:
            found.append(f"{where}.{field}: expected a share in [0, 1], got {getattr(node, field)}")
    if node.labelled_share is not None and not shares_out(node.labelled_share, node.batch_size):
        found.append(
            f"{where}.labelled_share: expected a share in (0, 1), or null, of batches of at least 2 rows, "
            f"got {node.labelled_share} of {node.batch_size}"
        )
    for field, least in (("steps", 0), ("validate_every", 1), ("batch_size", 1)):
        if getattr(node, field) < least:
            found.append(f"{where}.{field}: expected at least {least}, got {getattr(node, field)}")
    return found


def _init_faults(node: Node, where: str, nodes: Mapping[str, Node]) -> list[str]:
    if node.init is None:
        return []
    unknown = sorted(node.origins - set(nodes))
    if unknown:
        return [f"{where}: unknown node {name!r}; {suggest(name, nodes)}" for name in unknown]
    if isinstance(node.init, str):
        sees = nodes[node.init].sees
        return (
            []
            if set(sees) == set(node.sees)
            else [f"{where}: {node.init} sees {', '.join(sees)}; name an origin by modality"]
        )
    found = []
    for modality, origin in node.init.items():
        for named, sees in (("the node", node.sees), (origin, nodes[origin].sees)):
            if modality not in sees:
                found.append(f"{where}.{modality}: {named} does not see it; {suggest(modality, sees)}")
    lacking = [modality for modality in node.sees if modality not in node.init]
    if node.steps == 0 and lacking:
        found.append(f"{where}: 0 steps use given weights, and none are given for {', '.join(lacking)}")
    return found


def _model_faults(model: Mapping[str, Any], where: str) -> list[str]:
    found = [f"{where}.{key}: unknown key; {suggest(key, MODEL_KEYS)}" for key in model if key not in MODEL_KEYS]
    if not isinstance(model.get("width", 64), int) or model.get("width", 64) < 1:
        found.append(f"{where}.width: expected a whole number of at least 1, got {model['width']!r}")
    if "encoder" in model:
        found += ENCODERS.faults(model["encoder"], f"{where}.encoder")
    if "fusion" in model:
        found += FUSIONS.faults(model["fusion"], f"{where}.fusion")
    if "absent" in model:
        found += STAND_INS.faults(model["absent"], f"{where}.absent")
    encoders = model.get("encoders", {})
    if not isinstance(encoders, Mapping):
        return [*found, f"{where}.encoders: expected a mapping from modality to encoder, got {encoders!r}"]
    for modality, part in encoders.items():
        found += ENCODERS.faults(part, f"{where}.encoders.{modality}")
    return found


def _edge_faults(edge: Edge, where: str, nodes: Mapping[str, Node]) -> list[str]:
    found = OBJECTIVES.faults(edge.loss, f"{where}.loss")
    for role in ("teacher", "student"):
        if getattr(edge, role) not in nodes:
            found.append(f"{where}.{role}: unknown node {getattr(edge, role)!r}; {suggest(getattr(edge, role), nodes)}")
    if not (edge.weight >= 0 and math.isfinite(edge.weight)):
        found.append(f"{where}.weight: expected a finite number of at least 0, got {edge.weight}")
    if (edge.teacher == edge.student) != (edge.view != "own"):
        own = "'full' or 'averaged' belongs to an edge whose teacher is its own student, and to no other"
        found.append(f"{where}.view: {own}")
    if not 0 <= edge.decay < 1:
        found.append(f"{where}.decay: expected a number in [0, 1), got {edge.decay}")
    if edge.student in nodes and edge.teacher in nodes:
        found += _taught_faults(edge, where, nodes[edge.teacher], nodes[edge.student])
    return found


def _combine_faults(study: Study, name: str) -> list[str]:
    part, edges, where = study.nodes[name].combine, edges_into(study, name), f"nodes.{name}.combine"
    if part is None:
        return []
    found = TEACHER_WEIGHTS.faults(part, where)
    if not edges:
        found.append(f"{where}: no edge leads to {name}; add its teachers or remove it")
    if found or part.get("of", "losses") == "losses":
        return found
    losses = [edge.loss for edge in edges.values()]
    if any(loss != losses[0] for loss in losses) or any(OBJECTIVES.faults(loss, "") for loss in losses):
        return [f"{where}.of: {part['of']} are combined before one objective; give its edges the same loss"]
    if not OBJECTIVES.build(losses[0]).compares_logits:
        return [f"{where}.of: {losses[0]['name']} compares more than logits; combine losses"]
    return []


def _taught_faults(edge: Edge, where: str, teacher: Node, student: Node) -> list[str]:
    if student.steps == 0:
        return [f"{where}.student: {edge.student} takes 0 steps and learns nothing; give it steps or remove the edge"]
    changed = sorted(changed_for(teacher, student))
    if edge.cache and changed:
        return [
            f"{where}.cache: outputs computed once belong to {', '.join(changed)} as it is, which {edge.student} "
            "augments or recombines; remove cache"
        ]
    return []


def changed_for(teacher: Node, student: Node) -> set[str]:
    """Return the modalities of a teacher that its student's training changes: augments, or takes from other rows."""
    return set(teacher.sees) if student.recombine else set(student.augment) & set(student.sees) & set(teacher.sees)


def _test_mask_faults(study: Study) -> list[str]:
    found = []
    for name, part in study.test_masks.items():
        wrong = name_fault(name, "test_masks")
        if name == CLEAN:
            wrong = f"test_masks.{CLEAN}: this name stands for test rows that hide nothing; choose another"
        where = f"test_masks.{name}"
        found += [wrong] if wrong else MECHANISMS.faults(part, where) or whole_faults(part, where)
    return found


def _baseline_faults(study: Study) -> list[str]:
    found = []
    for name, baseline in study.baselines.items():
        where = f"baselines.{name}"
        found += _sees_faults(baseline.sees, where) + BASELINES.faults(baseline.model, f"{where}.model")
        if name in study.nodes:
            found.append(f"{where}: a node has this name; choose another")
    return found


def _sees_faults(sees: Sequence[str], where: str) -> list[str]:
    if not sees:
        return [f"{where}.sees: expected at least one modality"]
    return [f"{where}.sees: names a modality twice"] if len(set(sees)) != len(sees) else []


def _ensemble_faults(study: Study) -> list[str]:
    found = []
    for name, ensemble in study.ensembles.items():
        where = f"ensembles.{name}"
        known = [*study.nodes, *study.baselines]
        unknown = [member for member in ensemble.members if member not in known]
        found += [f"{where}.members: unknown node {m!r}; {suggest(m, known)}" for m in unknown]
        if not ensemble.members or len(set(ensemble.members)) != len(ensemble.members):
            found.append(f"{where}.members: expected at least one node, each once, got {ensemble.members}")
        if name in known:
            found.append(f"{where}: a node has this name; choose another")
    return found


def _comparison_faults(study: Study) -> list[str]:
    comparable = [*study.nodes, *study.baselines, *study.ensembles]
    margins = {"margin": study.margin}
    if study.compress is not None:
        margins |= {"compress.margin": study.compress.margin, "compress.margin_subset": study.compress.margin_subset}
    found = [f"{name}: expected at least 0, got {value}" for name, value in margins.items() if value < 0]
    for name, contrast in study.contrasts.items():
        where = f"contrasts.{name}"
        if contrast.method == contrast.baseline:
            found.append(f"{where}: compares {contrast.method!r} with itself; name another baseline")
        for role, value in (("method", contrast.method), ("baseline", contrast.baseline)):
            if value not in comparable and not any(value in names for names in _named(study).values()):
                found.append(f"{where}.{role}: unknown node or ensemble {value!r}; {suggest(value, comparable)}")
    found += _contest_faults(study)
    for role, names in _named(study).items():
        found += [
            f"{role}: unknown node or ensemble {n!r}; {suggest(n, comparable)}" for n in sorted(names - set(comparable))
        ]
    if study.family is not None and not family_contrasts(study):
        found.append(
            "family: no method is left to compare with its baselines; name family.methods and family.baselines"
        )
    if study.compress is not None and study.compress.student not in study.nodes:
        value = study.compress.student
        found.append(f"compress.student: unknown node {value!r}; {suggest(value, study.nodes)}")
    return found


def _contest_faults(study: Study) -> list[str]:
    found = []
    for name, contest in study.contests.items():
        where = f"contests.{name}"
        if not contest.against or contest.method in contest.against:
            found.append(f"{where}.against: expected rivals, {contest.method!r} itself not among them")
        if contest.least < 0:
            found.append(f"{where}.least: expected at least 0, got {contest.least}")
    return found


def _named(study: Study) -> dict[str, set[str]]:
    """Return field -> methods that it names, beside the contrasts."""
    family = study.family
    own = {} if family is None else {"family.baselines": family.baselines, "family.methods": family.methods}
    own |= {f"contests.{name}": [one.method, *one.against] for name, one in study.contests.items()}
    return {role: set(names) for role, names in {**own, "simple": study.simple}.items()}
