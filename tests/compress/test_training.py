"""Passes that train: as the student was trained, unless their settings say otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from torch import nn

import kd.distill.fit
from kd.compress import PASSES
from kd.compress.context import Context
from kd.config import Edge, Node
from kd.errors import ConfigError, KDError
from kd.models.classifier import Classifier
from kd.record import load_record, runs_root
from kd.study import run
from kd.study.check import faults
from kd.types import Batch
from tests.study.test_compress import study

TRAINING = ("tune", "qat")


@pytest.mark.parametrize("name", TRAINING)
def test_a_context_hears_of_the_settings_that_are_given_and_of_no_others(
    name: str, student: Classifier, rows: Batch
) -> None:
    heard: list[dict[str, Any]] = []

    def fit(model: nn.Module, **changed: Any) -> nn.Module:
        heard.append(changed)
        return model

    PASSES.build({"name": name})(student, Context(rows, fit=fit))
    faster = {"like": "other", "steps": 7, "optimizer": {"name": "sgd", "lr": 0.1}, "schedule": {"name": "cosine"}}
    PASSES.build({"name": name, **faster})(student, Context(rows, fit=fit))
    assert heard == [{}, faster]


@pytest.mark.parametrize("name", TRAINING)
def test_a_context_that_cannot_train_is_refused(name: str, student: Classifier, rows: Batch) -> None:
    with pytest.raises(KDError, match=f"^{name}: the context has no fit"):
        PASSES.build({"name": name})(student, Context(rows))


def test_no_steps_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"tune\.steps: expected at least 1, got 0"):
        PASSES.build({"name": "tune", "steps": 0})


def test_settings_that_the_student_cannot_have_are_refused_before_anything_runs() -> None:
    found = faults(study({"t": {"name": "tune", "steps": 3, "optimizer": {"name": "adamm"}}}))
    assert any(fault.startswith("compress.passes.t.steps: expected a multiple of validate_every=2") for fault in found)
    assert any(fault.startswith("compress.passes.t.optimizer.name: unknown optimizer 'adamm'") for fault in found)
    (found,) = faults(study({"t": {"name": "qat", "optimizer": {"name": "adam", "lr": -1.0}}}))
    assert found.startswith("compress.passes.t.optimizer")


@pytest.mark.parametrize(
    ("like", "fault"),
    [
        ("teecher", "compress.passes.t.like: unknown node 'teecher'; did you mean 'teacher'?"),
        ("half", "compress.passes.t.like: half sees other modalities than one; name a node that sees the same"),
        ("given", "compress.passes.t.steps: given is used as it was given, with 0 steps; say how many this pass"),
    ],
)
def test_a_node_that_the_student_cannot_learn_like_is_refused(like: str, fault: str) -> None:
    half = Node(sees=["m0"], steps=4, validate_every=2)
    given = Node(sees=["m0", "m1"], init="one", steps=0, validate_every=2)
    asked = study({"t": {"name": "tune", "like": like}})
    (found,) = faults(replace(asked, nodes={**asked.nodes, "half": half, "given": given}))
    assert found.startswith(fault)


def test_a_stage_learns_like_another_node_from_that_node_s_teachers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = study({"tuned": {"name": "tune", "like": "again"}})
    again = replace(asked.nodes["one"], steps=6)
    edges = {"again": Edge(teacher="one", student="again"), **asked.edges}
    asked = replace(asked, nodes={**asked.nodes, "again": again}, edges=edges)
    learnt: list[tuple[list[str], int]] = []
    fit = kd.distill.fit.fit

    def noting(module: Any, node: Any, *arguments: Any) -> Any:
        learnt.append((list(module.edges), node.steps))
        return fit(module, node, *arguments)

    monkeypatch.setattr("kd.distill.fit.fit", noting)
    run(asked)
    assert learnt[-1] == (["again"], 6)
    (stage,) = [load_record(path.parent) for path in (runs_root() / "stage").glob("*/record.json")]
    trained = [load_record(path.parent) for path in (runs_root() / "train").glob("*/record.json")]
    assert stage.config["like"] in {record.id for record in trained}


def test_a_stage_trains_for_its_own_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    fit = kd.distill.fit.fit

    def counting(module: Any, node: Any, *arguments: Any) -> Any:
        made = fit(module, node, *arguments)
        steps.append(made.steps)
        return made

    monkeypatch.setattr("kd.distill.fit.fit", counting)
    run(study({"tuned": {"name": "tune"}, "longer": {"name": "tune", "steps": 6}}))
    assert steps == [4, 4, 4, 6]
