"""What only building tells, told once per process: the variants of a grid share nearly all that they build."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kd.config import Study
from kd.distill import trial
from kd.study.check import faults


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the models that are built from now on, as they are; nothing was tried before."""
    seen: list[Any] = []
    build = trial.blank_network

    def counting(source: Any, sees: Any, model: Any, seed: int = 0) -> Any:
        seen.append(model)
        return build(source, sees, model, seed)

    monkeypatch.setattr(trial, "blank_network", counting)
    monkeypatch.setattr(trial, "_passed", set())
    return seen


def with_model(study: Study, name: str, **changes: Any) -> Study:
    return replace(study, nodes={**study.nodes, name: replace(study.nodes[name], **changes)})


def test_a_study_that_was_checked_builds_nothing_again(small_study, built: list[Any]) -> None:
    study = small_study()
    assert faults(study) == []
    first = len(built)
    assert first >= len(study.nodes)
    assert faults(study) == []
    assert faults(with_model(study, "student", steps=2 * study.nodes["student"].steps)) == []
    assert len(built) == first


def test_what_differs_in_the_network_is_built_and_its_fault_told_every_time(small_study, built: list[Any]) -> None:
    study = small_study()
    assert faults(study) == []
    first = len(built)
    wider = {**study.nodes["student"].model, "width": 12}
    assert faults(with_model(study, "student", model=wider)) == []
    assert built[first:] == [wider]
    wrong = with_model(study, "student", learning_rates={"nothing": 0.1})
    assert faults(wrong) == faults(wrong) != []
