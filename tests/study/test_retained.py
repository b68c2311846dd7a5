"""What stages keep of a student: paired differences on every subset, judged by the margins that a study declares."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from kd.config import Study
from kd.data import load_source
from kd.data.source import Source
from kd.report.retained import retained_sentences, retained_table
from kd.statistics.intervals import crossed_difference
from kd.study.answers import FLOAT, Answers
from kd.study.evidence import Rows
from kd.study.retained import retained
from kd.tasks import make_task

EVERY = ["m0", "m1", "m0+m1"]
ROWS, SEEDS = 400, 5
PASSES = {"graph": {"name": "onnx"}, "int8": {"name": "static_int8"}}


@pytest.fixture(scope="module")
def source() -> Source:
    loaded: Source = load_source("synthetic", modalities=2, rows=ROWS, classes=3, width=4)
    return loaded


def logits(source: Source, right: torch.Tensor) -> torch.Tensor:
    said = torch.where(right, source.label, (source.label + 1) % 3)
    return torch.nn.functional.one_hot(said, 3).float()


def answered(source: Source, flips: dict[str, float]) -> dict:
    """Return a float student right on about 80% of the rows, a graph equal to it, and int8 that fails on further rows.

    Args:
        source: the data.
        flips: subset -> share of all rows that int8 alone gets wrong.
    """
    random = np.random.default_rng(0)
    found = {}
    for seed in range(SEEDS):
        right = {subset: torch.from_numpy(random.random(ROWS) < 0.8) for subset in EVERY}
        lost = {s: each & torch.from_numpy(random.random(ROWS) >= flips[s] / 0.8) for s, each in right.items()}
        for stage, correct in ((FLOAT, right), ("graph", right), ("int8", lost)):
            each = {subset: logits(source, own) for subset, own in correct.items()}
            found["student", stage, seed] = Answers(each, each)
        one = {"m0": logits(source, right["m0"])}
        found["one", FLOAT, seed] = Answers(one, one)
        found["again", FLOAT, seed] = found["student", FLOAT, seed]
    return found


def table(small_study, source: Source, flips: dict[str, float], **margins: float) -> tuple[Study, pd.DataFrame]:
    study = small_study(compress={"student": "student", "passes": PASSES, **margins})
    splits = {seed: Rows(torch.arange(ROWS), torch.arange(ROWS), [ROWS], 0.3) for seed in range(SEEDS)}
    return study, retained(study, answered(source, flips), EVERY, source, splits, make_task("multiclass", 3))


def test_a_stage_equal_to_float_loses_nothing_anywhere(small_study, source) -> None:
    _, found = table(small_study, source, dict.fromkeys(EVERY, 0.0))
    graph = found[found.stage == "graph"]
    assert set(graph["subset"]) == {*EVERY, "mean over subsets"}
    assert (graph[["estimate", "low", "high"]] == 0).all(axis=None)
    assert set(graph["verdict"]) == {"non-inferior"}


def test_each_subset_is_judged_by_its_own_loss(small_study, source) -> None:
    _, found = table(small_study, source, {"m0": 0.0, "m1": 0.15, "m0+m1": 0.015})
    int8 = found[found.stage == "int8"].set_index("subset")
    assert int8.loc["m0", "verdict"] == "non-inferior"
    assert int8.loc["m1", "verdict"] == "inferior"
    assert int8.loc["m0+m1", "verdict"] == "inconclusive"
    assert int8.loc["mean over subsets", "verdict"] == "inferior"
    assert int8.loc["mean over subsets", "estimate"] == pytest.approx(int8.loc[EVERY, "estimate"].mean())


def test_intervals_are_those_of_paired_differences_over_seeds_and_rows(small_study, source) -> None:
    study, found = table(small_study, source, {"m0": 0.0, "m1": 0.1, "m0+m1": 0.0})
    answers = answered(source, {"m0": 0.0, "m1": 0.1, "m0+m1": 0.0})
    right = {
        stage: np.stack(
            [(answers["student", stage, s].test["m1"].argmax(1) == source.label).numpy() for s in range(SEEDS)]
        )
        for stage in (FLOAT, "int8")
    }
    difference = right["int8"].astype(float) - right[FLOAT].astype(float)
    expected = crossed_difference(difference, margin=study.margin, group=source.group.numpy())
    own = found[(found.stage == "int8") & (found.subset == "m1")].iloc[0]
    assert (own.estimate, own.low, own.high) == pytest.approx((expected.estimate, expected.low, expected.high))


def test_margins_are_the_studys(small_study, source) -> None:
    _, strict = table(small_study, source, dict.fromkeys(EVERY, 0.02), margin=0.0, margin_subset=0.0)
    _, loose = table(small_study, source, dict.fromkeys(EVERY, 0.02), margin=0.2, margin_subset=0.2)
    assert set(strict[strict.stage == "int8"]["verdict"]) == {"inferior"}
    assert set(loose[loose.stage == "int8"]["verdict"]) == {"non-inferior"}


def test_teachers_stand_beside_the_stages_unjudged_where_both_answer(small_study, source) -> None:
    _, found = table(small_study, source, dict.fromkeys(EVERY, 0.0))
    teacher = found[found.node == "one"]
    assert teacher["subset"].tolist() == ["m0", "m0+m1", "mean over subsets"]
    assert set(teacher["verdict"]) == {""}
    assert teacher["margin"].isna().all()


def test_a_node_that_passes_train_like_stands_beside_them_as_their_control(small_study, source) -> None:
    study = small_study(compress={"student": "student", "passes": {"tuned": {"name": "tune", "like": "again"}}})
    splits = {seed: Rows(torch.arange(ROWS), torch.arange(ROWS), [ROWS], 0.3) for seed in range(SEEDS)}
    answers = answered(source, dict.fromkeys(EVERY, 0.0))
    answers |= {("student", "tuned", seed): answers["student", "int8", seed] for seed in range(SEEDS)}
    found = retained(study, answers, EVERY, source, splits, make_task("multiclass", 3))
    own = found[found.node == "again"]
    assert len(own) == len(EVERY) + 1
    assert (own["estimate"] == 0).all()
    assert set(own["verdict"]) == {""}


def test_the_report_marks_what_is_lost_and_what_cannot_be_said(small_study, source) -> None:
    _, found = table(small_study, source, {"m0": 0.0, "m1": 0.15, "m0+m1": 0.015})
    shown = retained_table(found).set_index("subset")
    assert shown.columns.tolist() == ["one", "graph", "int8"]
    assert shown.index.tolist() == ["mean over subsets", *EVERY]
    assert shown.loc["m1", "int8"].endswith("✗")
    assert shown.loc["m0+m1", "int8"].endswith("?")
    assert shown.loc["m0", "int8"] == "+0.0 [0.0, 0.0]"
    graph, int8 = retained_sentences(found)
    assert "non-inferior on 3 of 3." in graph
    assert "non-inferior on 1 of 3; inferior on m1 alone; inconclusive on all modalities." in int8
