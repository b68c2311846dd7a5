"""What teachers knew: told from the rows that they taught, beside what their students made of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from kd.config import Study
from kd.distill.fit import Setting, train_graph, training_rows
from kd.distill.trained import package_folder
from kd.models.package import load_package
from kd.record import load_record
from kd.report.teaching import information_table, negative_transfer, teaching_table
from kd.study import run, setting_for
from kd.study.answers import FLOAT, node_answers
from kd.study.check import load
from kd.study.teaching import teaching_rows


@pytest.fixture
def study(small_study: Callable[..., Study], store: Path) -> Study:
    parts = {"modalities": {"name": "mcar", "rate": 0.3}, "labels": {"name": "unlabelled", "labels": 100}}
    found = small_study(mask={"name": "joint", "parts": parts}, seeds=1)
    found.nodes["student"].rows = "any"
    return found


def rows_of(study: Study) -> tuple[Setting, dict[str, dict[str, float]]]:
    setting = setting_for(study, load(study), 0)
    trained = train_graph(study, setting)
    answers = {(node, FLOAT): node_answers(record, setting, 1) for node, record in trained.items()}
    return setting, {row["edge"]: row for row in teaching_rows(study, setting, trained, answers)}


def test_rows_that_a_teacher_taught_are_those_that_it_saw(study: Study) -> None:
    setting, found = rows_of(study)
    assert set(found) == {"one", "two"}
    ids = training_rows(study.nodes["student"], setting, study.edges)
    for edge, modality in (("one", 0), ("two", 1)):
        taught = ids[setting.available[ids, modality]]
        assert found[edge]["taught"] == len(taught)
        assert found[edge]["labelled"] == int(setting.source.labelled[taught].sum())
        assert 0 < found[edge]["labelled"] < len(taught)


def test_scores_are_those_of_the_teacher_on_these_rows(study: Study) -> None:
    setting, found = rows_of(study)
    record = train_graph(study, setting)["one"]
    network = load_package(package_folder(record))
    ids = training_rows(study.nodes["student"], setting, study.edges)
    taught = ids[setting.available[ids, 0]]
    with torch.no_grad():
        batch = setting.rows(taught, setting.available).select(["m0"])
        logits = network(batch.inputs, batch.present).logits
    right = (logits.argmax(dim=1) == setting.source.label[taught]).float()
    shown = setting.source.labelled[taught]
    assert found["one"]["teacher_taught"] == pytest.approx(float(right[shown].mean()), abs=1e-6)
    assert found["one"]["teacher_hidden"] == pytest.approx(float(right[~shown].mean()), abs=1e-6)
    assert 0 < found["one"]["entropy"] < np.log(3)
    assert 0 < found["one"]["agreement"] <= 1


def test_a_student_that_teaches_itself_agrees_with_itself(small_study: Callable[..., Study], store: Path) -> None:
    study = small_study(seeds=1)
    study.edges["own"] = type(study.edges["one"])("student", "student", {"name": "kl"}, 1.0, "full")
    _, found = rows_of(study)
    assert found["own"]["agreement"] == 1.0
    assert found["own"]["agreement_subsets"] < 1.0


def test_a_run_records_it_and_its_report_tells_it(study: Study) -> None:
    folder = run(study)
    frame = pd.read_parquet(folder / load_record(folder).files["teaching"])
    assert list(frame["edge"]) == ["one", "two"]
    page = (folder / "report.html").read_text()
    assert "What was taught, and what became of it" in page
    assert "undecided against product" in page or "than product" in page
    assert "## What was taught" in (folder / "report.md").read_text()


def test_a_student_that_loses_is_told_with_what_its_teachers_knew() -> None:
    numbers = {"taught": 50, "labelled": 40, "teacher_taught": 0.91, "teacher_hidden": np.nan, "teacher_test": 0.8}
    numbers |= {"student_test": 0.7, "entropy": 0.2, "agreement": 0.9, "agreement_subsets": 0.8, "information": 1.1}
    teaching = pd.DataFrame(
        [{"seed": seed, "edge": "e", "teacher": "full", "student": "reverse", **numbers} for seed in range(3)]
    )
    compared = {"subset": "complete", "metric": "accuracy", "estimate": -0.05, "low": -0.08, "high": -0.02, "seeds": 3}
    compared |= {"estimand": "new rows", "detectable": 0.03}
    contrasts = pd.DataFrame(
        [
            {"method": "reverse", "baseline": "plain", "verdict": "worse", **compared},
            {"method": "reverse", "baseline": "shuffled", "verdict": "tie", **compared},
            {"method": "plain", "baseline": "shuffled", "verdict": "worse", **compared},
        ]
    )
    (told,) = negative_transfer(teaching, contrasts, "accuracy")
    assert told.startswith("reverse vs plain on complete: ")
    assert told.endswith("Its teachers: full, right on 91.0 of what it taught.")
    table = teaching_table(teaching, contrasts, "accuracy")
    assert table.loc[0, "verdict"] == "worse than plain; tie with shuffled"
    assert table.loc[0, "teacher, hidden labels"] == "–"
    assert table.loc[0, "label information"] == "1.100"


def test_label_information_is_of_the_method_that_validation_chose() -> None:
    def frame(metric: str, values: dict[tuple[str, str], float]) -> pd.DataFrame:
        rows = [{"node": node, "subset": subset, "value": value} for (node, subset), value in values.items()]
        return pd.DataFrame(rows).assign(stage="float", seed=0, metric=metric)

    validation = frame("accuracy", {("x", "a"): 0.8, ("y", "a"): 0.7, ("x", "a+b"): 0.8, ("y", "a+b"): 0.9})
    subsets = frame("nll", {("x", "a"): 0.5, ("y", "a"): 0.4, ("x", "a+b"): 0.3, ("y", "a+b"): 0.2})
    teaching = pd.DataFrame([{"label_entropy": 1.5}])
    table, note = information_table(teaching, subsets, validation, {"data": {"name": "synthetic", "gamma": 0.25}})
    assert table.to_dict("list") == {"subset": ["a", "a+b"], "at least": ["1.000", "1.300"], "by": ["x", "y"]}
    assert note.startswith("Of 1.500 nats that the labels have. In these synthetic data gamma = 0.25 of every ")
    assert information_table(teaching, subsets, validation, {})[1] == "Of 1.500 nats that the labels have."
