"""Contests: one method against all its rivals at once, what is measured and what is decided."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from kd.config import Study
from kd.data import load_source
from kd.distill.graph import part_faults
from kd.report.contests import contests_table, decided, rivals_table
from kd.statistics import STRICT
from kd.statistics.intervals import crossed_difference
from kd.statistics.verdicts import contest
from kd.study.answers import FLOAT, Answers
from kd.study.contests import contests
from kd.study.evidence import Rows
from kd.tasks import make_task

EVERY = ["m0", "m1", "m0+m1"]
ROWS = 100
CONTEST = {"best": {"method": "student", "against": ["one", "product"]}}


@pytest.fixture
def measured(small_study: Callable[..., Study]) -> Callable[..., pd.DataFrame]:
    """Return what contests measure of answers that are right with a node's probability, by subset."""
    source = load_source("synthetic", modalities=2, rows=400, classes=3, width=4)

    def logits(random: np.random.Generator, label: torch.Tensor, shares: dict[str, float]) -> dict[str, torch.Tensor]:
        found = {}
        for subset, share in shares.items():
            right = torch.from_numpy(random.random(ROWS) < share)
            found[subset] = torch.nn.functional.one_hot(torch.where(right, label, (label + 1) % 3), 3).float()
        return found

    def make(seeds: int, **shares: dict[str, float]) -> pd.DataFrame:
        random = np.random.default_rng(0)
        test, validation = torch.arange(ROWS), torch.arange(ROWS, 2 * ROWS)
        answers = {
            (node, FLOAT, seed): Answers(
                validation=logits(random, source.label[validation], own), test=logits(random, source.label[test], own)
            )
            for seed in range(seeds)
            for node, own in shares.items()
        }
        rows = {seed: Rows(validation, test, [ROWS], 0.3) for seed in range(seeds)}
        make.answers, make.label = answers, source.label[test]
        study = small_study(contests=CONTEST, seeds=seeds)
        return contests(study, answers, EVERY, source, rows, make_task("multiclass", 3))

    return make


def everywhere(share: float) -> dict[str, float]:
    return dict.fromkeys(EVERY, share)


def test_a_difference_is_that_of_the_crossed_interval_at_99_percent(measured) -> None:
    found = measured(20, student=everywhere(0.8), one=everywhere(0.6), product=everywhere(0.7))
    row = found[(found["rival"] == "product") & (found["on"] == "complete")].iloc[0]
    right = {k: (a.test["m0+m1"].argmax(-1) == measured.label).double().numpy() for k, a in measured.answers.items()}
    table = np.stack([right["student", FLOAT, s] - right["product", FLOAT, s] for s in range(20)])
    expected = crossed_difference(table, margin=0.01)
    half = stats.t.ppf(0.995, expected.degrees) * expected.error
    assert (row.estimate, row.low, row.high) == pytest.approx(
        (table.mean(), table.mean() - half, table.mean() + half), abs=1e-12
    )
    assert row.p == pytest.approx(expected.p)


def test_the_worst_subset_is_each_methods_own_on_validation(measured) -> None:
    student, rival = {"m0": 0.5, "m1": 0.9, "m0+m1": 0.9}, {"m0": 0.9, "m1": 0.3, "m0+m1": 0.9}
    found = measured(20, student=student, one=everywhere(0.9), product=rival).set_index(["rival", "on"])["estimate"]
    assert found["product", "worst"] == pytest.approx(0.2, abs=0.05)
    assert found["one", "worst"] == pytest.approx(-0.4, abs=0.05)
    assert found["product", "mean"] == pytest.approx((0.5 + 0.9 + 0.9 - 0.9 - 0.3 - 0.9) / 3, abs=0.05)


def test_one_that_cannot_answer_every_subset_is_met_on_complete_rows_alone(measured) -> None:
    found = measured(5, student=everywhere(0.8), one={"m0+m1": 0.6}, product=everywhere(0.7))
    assert set(found[found["rival"] == "one"]["on"]) == {"complete"}
    assert set(found[found["rival"] == "product"]["on"]) == {"complete", "mean", "worst"}


def test_a_win_takes_every_rival(measured) -> None:
    against_both = decided(measured(20, student=everywhere(0.8), one=everywhere(0.6), product=everywhere(0.7)))
    assert list(against_both["verdict"]) == ["win"] * 3
    against_one = decided(measured(20, student=everywhere(0.7), one=everywhere(0.6), product=everywhere(0.8)))
    assert list(against_one["verdict"]) == ["loss"] * 3
    assert set(against_one["rival"]) == {"product"} == set(against_one["ahead"])
    assert list(against_one["beaten"]) == [1, 1, 1]


def test_under_20_seeds_nothing_is_won(measured) -> None:
    found = decided(measured(10, student=everywhere(0.9), one=everywhere(0.5), product=everywhere(0.5)))
    assert list(found["verdict"]) == ["inconclusive"] * 3
    assert set(found["untested"]) == {"10 seeds, 20 are needed"}


def row(setting: str, rival: str, estimate: float, half: float, p: float) -> dict[str, object]:
    return {
        "contest": "best",
        "method": "student",
        "rival": rival,
        "on": "complete",
        "metric": "accuracy",
        "seeds": 20,
        "rows": 100,
        "estimate": estimate,
        "low": estimate - half,
        "high": estimate + half,
        "p": p,
        "least": 0.01,
        "untested": "",
        "use": setting,
    }


def test_holm_is_over_settings_and_not_over_rivals() -> None:
    rivals = [row("a", f"rival{place}", 0.03, 0.02, 0.004) for place in range(5)]
    assert decided(pd.DataFrame(rivals), ["use"])["verdict"].tolist() == ["win"]
    settings = pd.DataFrame([*rivals, *(row(s, "rival0", 0.03, 0.02, 0.004) for s in "bcd")])
    found = decided(settings, ["use"])
    assert found["p_holm"].tolist() == pytest.approx([0.016] * 4)
    assert set(found["verdict"]) == {"inconclusive"}


@pytest.mark.parametrize(
    ("estimate", "half", "expected"),
    [(0.008, 0.005, "inconclusive"), (0.002, 0.005, "tie"), (-0.03, 0.02, "loss"), (0.005, 0.02, "inconclusive")],
)
def test_what_is_no_win(estimate: float, half: float, expected: str) -> None:
    found = decided(pd.DataFrame([row("a", "one", estimate, half, 0.001), row("a", "two", 0.05, 0.01, 1e-6)]), ["use"])
    assert found["verdict"].tolist() == [expected]
    assert found["rival"].tolist() == ["one"]


def test_tables_say_who_was_hardest() -> None:
    frame = pd.DataFrame([row("a", "one", 0.03, 0.01, 1e-4), row("a", "two", 0.05, 0.01, 1e-6)])
    shown = contests_table(frame, ["use"]).iloc[0]
    assert (shown["verdict"], shown["beaten"], shown["hardest"]) == ("win", "2 of 2", "one")
    assert shown["difference [99%]"] == "+3.0 [2.0, 4.0]"
    assert rivals_table(frame, ["use"])["complete rows"].tolist() == ["+3.0 [2.0, 4.0]", "+5.0 [4.0, 6.0]"]


def test_faults_name_the_contest(small_study) -> None:
    def told(**changes: object) -> list[str]:
        return part_faults(small_study(contests={"best": {"method": "student", "against": ["product"], **changes}}))

    assert told() == []
    assert told(against=[]) == ["contests.best.against: expected rivals, 'student' itself not among them"]
    assert told(against=["student"]) == ["contests.best.against: expected rivals, 'student' itself not among them"]
    assert told(least=-1.0) == ["contests.best.least: expected at least 0, got -1.0"]
    assert "contests.best: unknown node or ensemble 'produkt'" in told(against=["produkt"])[0]


def test_a_rival_that_is_as_good_is_beaten_no_more_often_than_a_contest_says() -> None:
    random, wins, studies = np.random.default_rng(0), 0, 400
    for _ in range(studies):
        seed, row = 0.015 * random.standard_normal((20, 1)), 0.1 * random.standard_normal((1, 100))
        found = crossed_difference(seed + row + 0.3 * random.standard_normal((20, 100)), margin=0.01)
        wins += contest(found.estimate, *found.interval(STRICT), least=0.0) == "win"
    assert wins <= stats.binom.ppf(0.999, studies, (1 - STRICT) / 2)
