"""The section on robustness and the cost columns: what they say of the records, and that older records have neither."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kd.report import tables
from kd.report.costs import with_cost
from kd.report.evidence import load_evidence
from kd.report.page import write_report
from kd.report.robust import robust_content, robust_sentences, sample_note

from .conftest import SUBSETS, robust_frames, stage_frame, subset_frame, summary_frame, write_run


@pytest.fixture
def content(reported) -> dict:
    return robust_content(load_evidence(reported))


def test_the_table_holds_areas_margins_and_evenness_over_seeds(content) -> None:
    frame = robust_frames()["robustness"].query("node == 'student' and stage == 'int8' and quantity == 'retained'")
    row = content["table"].query("node == 'student' and stage == 'int8'").iloc[0]
    kept = frame[frame["rate"] == 0.5]["value"]
    assert row["margin kept at 50% missing"].startswith(tables.number(kept.mean()))
    assert row["evenness"] == "0.900"
    scores = subset_frame().query("node == 'student' and stage == 'int8' and metric == 'accuracy'")
    assert row["never shown"] == "3 of 7"
    assert row["never shown mean"].startswith(tables.number(scores[scores["size"] == 1]["value"].mean()))
    assert row["shown mean"].startswith(tables.number(scores[scores["size"] > 1]["value"].mean()))


def test_the_words_say_what_is_kept_and_what_is_drawn_on(content) -> None:
    text = " ".join(content["words"] + content["unseen"] + [content["line"]])
    assert "`student` keeps 91% of its margin over the training prior when half of the modalities are missing." in text
    assert "`student` draws most on zer (+40.0) and least on fou (+20.0), Shapley values in points." in text
    assert "Training never showed `student` 3 of its 7 patterns" in text
    assert "Effective robustness is not reported: 2 baselines answer every subset, and a line needs 8." in text


def test_page_and_markdown_show_curve_bars_and_the_same_table(reported, content) -> None:
    page, text = (reported / "report.html").read_text(), (reported / "report.md").read_text()
    assert "accuracy along missing rate" in page
    assert "Shapley value of each modality for student" in page
    assert tables.markdown(content["table"]) in text
    assert tables.markdown(content["shapley"]) in text
    assert all(value in page for value in content["table"].iloc[0])


def test_an_older_record_has_neither_section_nor_cost(tmp_path) -> None:
    page = write_report(write_run(tmp_path / "run", robust=False))
    for text in (page.read_text(), (page.parent / "report.md").read_text()):
        assert "How robust" not in text
        assert "optimiser steps" not in text.lower()


def test_a_node_no_better_than_the_prior_keeps_no_stated_margin() -> None:
    frames = robust_frames()
    frame = frames["robustness"].copy()
    frame.loc[(frame["quantity"] == "retained") & (frame["seed"] == 1), "value"] = np.nan
    found = " ".join(robust_sentences(frame, frames["shapley"], {"student": "student"}, "accuracy"))
    assert "`student` is no better than the training prior with everything present, in one seed at least." in found
    assert "keeps" not in found


def test_costs_stand_in_the_summary() -> None:
    summary = tables.summary_table(summary_frame(subset_frame()), "accuracy")
    table = with_cost(summary, robust_frames()["cost"], stage_frame()).set_index(["node", "stage"])
    assert table.loc[("student", "float"), "optimiser steps"] == "1,200"
    assert table.loc[("complete-case", "float"), "optimiser steps"] == "no steps"
    assert table.loc[("student", "int8"), ["optimiser steps", "parameters"]].tolist() == ["–", "7,925"]
    assert tables.is_numeric(table["optimiser steps"])
    assert with_cost(summary, pd.DataFrame(columns=["node", "steps", "parameters"]), stage_frame()) is summary


def test_a_sample_of_subsets_is_said_to_be_one() -> None:
    assert sample_note(pd.DataFrame({"subset": SUBSETS})) == ""
    note = sample_note(pd.DataFrame({"subset": ["a", "b", "c", "a+b+c"]}))
    assert note.startswith("4 of the 7 subsets were tested, a fixed sample")


def test_report_and_tasks_agree_on_what_is_better_when_lower() -> None:
    from kd.tasks import LOWER_IS_BETTER

    assert tables.LOWER_IS_BETTER == LOWER_IS_BETTER
