"""What every teacher knew of the rows that it taught, and how faithful its student became (protocols 7 and 13).

It describes; the verdict on an edge is that of the contrasts with its controls.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kd.config import Edge, Study
from kd.data.source import Source
from kd.distill.graph import edges_into
from kd.distill.outputs import teacher_outputs
from kd.distill.setting import Setting, training_rows
from kd.distill.teachers import Frozen
from kd.distill.trained import package_folder
from kd.evaluate.fidelity import agreement, information, label_entropy, uncertainty
from kd.evaluate.predictions import all_subsets, answer
from kd.models.package import load_package
from kd.record import RunRecord
from kd.study.answers import FLOAT, Answers
from kd.tasks import Task, make_task


def teaching_rows(
    study: Study, setting: Setting, trained: Mapping[str, RunRecord], answers: Mapping[tuple[str, str], Answers]
) -> list[dict[str, Any]]:
    """Return a row per edge of one replicate whose teacher and student are trained.

    `taught` counts the training rows on which the teacher counts, `labelled` those of them that show their label;
    `teacher_taught` and `teacher_hidden` are its scores on these and on the others, whose label the data know. Scores
    and agreement on test rows are with everything present; `agreement_subsets` is that of the student on every subset
    with the teacher that has everything. NaN where there is nothing to measure.

    Args:
        study: the config.
        setting: data of the replicate.
        trained: node -> record.
        answers: (node, stage) -> logits on validation and test rows.
    """
    task = make_task(setting.source.task, setting.source.classes, study.class_weight)
    logits: dict[str, Tensor] = {}
    found = []
    for name, edge in study.edges.items():
        if edge.teacher not in trained or edge.student not in trained:
            continue  # its training failed
        if edge.teacher not in logits:
            network = load_package(package_folder(trained[edge.teacher]), imports=True)
            logits[edge.teacher] = teacher_outputs(Frozen(network), setting).logits
        rows = _taught(study, edge, setting)
        known = {"edge": name, "teacher": edge.teacher, "student": edge.student}
        taught = _on_taught_rows(logits[edge.teacher][rows], rows, setting.source, task)
        given, own = answers[edge.teacher, FLOAT].test, answers[edge.student, FLOAT].test
        found.append({**known, **taught, **_on_test_rows(given, own, setting, task)})
    return found


def _taught(study: Study, edge: Edge, setting: Setting) -> Tensor:
    """Return the ids of the training rows on which an edge's teacher counts."""
    rows = training_rows(study.nodes[edge.student], setting, edges_into(study, edge.student))
    sees = study.nodes[edge.teacher].sees
    there = setting.available[rows][:, [setting.source.modalities.index(name) for name in sees]]
    return rows[there.all(dim=1) if edge.when == "all" and edge.view == "own" else there.any(dim=1)]


def _on_taught_rows(logits: Tensor, rows: Tensor, source: Source, task: Task) -> dict[str, float]:
    labelled, label = source.labelled[rows], source.label[rows]

    def score(chosen: Tensor) -> float:
        return task.score(logits[chosen], label[chosen]) if bool(chosen.any()) else float("nan")

    certain = task.name == "multiclass" and len(rows) > 0
    return {
        "taught": len(rows),
        "labelled": int(labelled.sum()),
        "teacher_taught": score(labelled),
        "teacher_hidden": score(~labelled),
        "entropy": uncertainty(logits) if certain else float("nan"),
    }


def _on_test_rows(teacher: Mapping[str, Tensor], student: Mapping[str, Tensor], setting: Setting, task: Task) -> Any:
    every = all_subsets(setting.source.modalities)
    label = setting.source.label[setting.split.test]
    given, own = (answer(dict(logits), every[-1]) for logits in (teacher, student))
    assert given is not None
    assert own is not None
    found = {"teacher_test": task.score(given, label), "student_test": task.score(own, label)}
    if task.name != "multiclass":
        nothing = ("agreement", "agreement_subsets", "information", "label_entropy")
        return found | dict.fromkeys(nothing, float("nan"))
    shown = [answer(dict(student), subset) for subset in every]
    each = [agreement(logits, given) for logits in shown if logits is not None]
    return found | {
        "agreement": agreement(own, given),
        "agreement_subsets": float(torch.tensor(each, dtype=torch.float64).mean()),
        "information": information(given, label),
        "label_entropy": label_entropy(label),
    }
