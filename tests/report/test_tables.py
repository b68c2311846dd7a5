import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kd.errors import RecordError
from kd.record import RunRecord
from kd.report import tables
from kd.report.evidence import load_evidence

from .conftest import contrast_frame, stage_frame, subset_frame, write_run


def test_mean_and_interval_agree_with_scipy():
    frame = subset_frame()
    row = tables.subset_table(frame, "accuracy").query("node == 'student' and stage == 'int8' and subset == 'fou+zer'")
    mask = (frame["node"] == "student") & (frame["stage"] == "int8") & (frame["subset"] == "fou+zer")
    values = frame[mask & (frame["metric"] == "accuracy")]["value"]
    low, high = stats.t.interval(0.95, len(values) - 1, loc=values.mean(), scale=stats.sem(values))
    np.testing.assert_allclose(row[["mean", "low", "high"]].iloc[0].to_numpy(float), [values.mean(), low, high])


def test_a_teacher_has_no_row_for_a_subset_it_cannot_answer():
    table = tables.subset_table(subset_frame(), "accuracy")
    assert set(table[table["node"] == "fou"]["subset"]) == {"fou", "fou+kar", "fou+zer", "fou+kar+zer"}


def test_rows_stand_in_the_order_of_nodes_passes_and_subset_size():
    table = tables.subset_table(subset_frame().sort_values("subset", kind="stable"), "accuracy")
    student = table[table["node"] == "student"]
    assert list(student["stage"].unique()) == ["float", "pruned", "tuned", "int8"]
    assert list(student["size"])[:7] == [1, 1, 1, 2, 2, 2, 3]


def test_one_seed_has_a_mean_and_no_interval():
    frame = subset_frame().query("seed == 0")
    table = tables.subset_table(frame, "accuracy")
    assert table["low"].isna().all()
    assert tables.subset_grid(frame, "accuracy").iloc[0]["fou"] == tables.number(table["mean"].iloc[0])


def test_a_row_recorded_twice_is_refused():
    frame = subset_frame()
    with pytest.raises(RecordError, match="recorded twice"):
        tables.subset_table(pd.concat([frame, frame.head(1)]), "accuracy")


def test_seeds_measured_on_different_rows_are_refused():
    frame = subset_frame()
    frame.loc[0, "n"] = 599
    with pytest.raises(RecordError, match="same rows in every seed"):
        tables.subset_table(frame, "accuracy")


def test_an_empty_table_stays_a_table():
    empty = subset_frame().head(0)
    assert tables.subset_table(empty, "accuracy").empty
    assert tables.subset_grid(empty, "accuracy").empty
    assert tables.stage_table(stage_frame().head(0)).empty


def test_markdown_shows_the_recomputed_means():
    frame = subset_frame()
    line = next(
        line for line in tables.markdown(tables.subset_grid(frame, "accuracy")).splitlines() if "| pruned |" in line
    )
    shown = [float(number) for number in re.findall(r"(\d+\.\d) \[", line)]
    chosen = frame.query("node == 'student' and stage == 'pruned' and metric == 'accuracy'")
    expected = chosen.groupby("subset", sort=False)["value"].mean()
    np.testing.assert_allclose(shown, 100 * expected, atol=0.0501)


def test_nll_is_not_shown_as_a_percentage():
    assert tables.number(1.2345, "nll") == "1.234"


def test_markdown_survives_a_hostile_name():
    text = tables.markdown(pd.DataFrame({"node": ["a|b\n<script>"], "mean": [float("nan")]}))
    assert text.splitlines()[2] == "| a\\|b &lt;script> | – |"


def test_contrasts_are_shown_in_points_with_sign():
    table = tables.contrast_table(contrast_frame())
    assert list(table["difference"])[::2] == ["+1.2 [0.3, 2.1]", "−1.1 [−1.8, −0.4]"]


def test_stage_table_shows_speed_against_float():
    table = tables.stage_table(stage_frame())
    assert list(table["stage"]) == ["float", "pruned", "tuned", "int8"]
    assert list(table["speed, float = 1"]) == ["1.00×", "1.62×", "1.60×", "2.40×"]
    assert table["largest parity gap"].iloc[0] == "–"


def record(data="d", mask="m") -> RunRecord:
    return RunRecord(id="0", verb="run", name="test", config={}, data=data, mask=mask)


@pytest.mark.parametrize(
    ("other", "what"), [(record(data="x"), "data"), (record(mask="x"), "mask"), (record(data=""), "no data hash")]
)
def test_runs_of_other_origin_share_no_table(other, what):
    with pytest.raises(RecordError, match=what):
        tables.same_origin([record(), other])


def test_runs_of_one_origin_are_joined(tmp_path):
    folders = [write_run(tmp_path / "a"), write_run(tmp_path / "b", rename="pupil")]
    joined = tables.compare(folders)
    assert len(joined) == sum(len(load_evidence(folder).summary) for folder in folders)
    assert joined["run"].nunique() == 2


def test_compare_refuses_other_test_masks(tmp_path):
    with pytest.raises(RecordError, match="mask hashes differ"):
        tables.compare([write_run(tmp_path / "a"), write_run(tmp_path / "b", mask="f" * 64)])


def test_a_star_stands_only_where_the_adjusted_p_is_below_5_percent():
    frame = contrast_frame().assign(test="crossed", p=[0.01, 0.02, 0.03, float("nan")])
    frame["p_holm"] = [0.03, 0.06, 0.06, float("nan")]
    table = tables.contrast_table(frame)
    assert list(table["Holm p"]) == ["0.030*", "0.060", "0.060", "–"]
    assert "p" not in tables.contrast_table(contrast_frame())
    assert "p" not in tables.contrast_table(frame.assign(p=float("nan")))
