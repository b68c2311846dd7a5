"""Heat maps, the matrix of pairs, train by test: the numbers of the tables, best few first."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest

from kd.record import load_record
from kd.report import tables
from kd.report.ablation import gather, write_ablation_report
from kd.report.advised import read_advice
from kd.report.comparison import pair_matrices
from kd.report.grid import scores_at_test, train_axes, train_by_test
from kd.report.heatmap import heat_map, over_seeds, subset_heat_map
from kd.report.leading import SUBSETS, shown_first, validation_means
from kd.report.matrix import matrix
from kd.report.page import write_report
from kd.report.setting import plain
from kd.report.stamps import APART
from kd.statistics.intervals import mean_interval

from .conftest import subset_frame, write_run
from .planted import located, masked_tests, pairs, rates, validation, write_ablation
from .test_page import Balance

SKILLS = {"late": 0.80, "masked": 0.79, "fancy": 0.85, "odd": 0.70}
MANY = {f"method{number}": 0.5 + 0.01 * number for number in range(35)}


@pytest.fixture(scope="module")
def ablation(tmp_path_factory):
    """Three settings: fancy wins the first, ties in the second, loses the third."""
    settings = [SKILLS, {**SKILLS, "fancy": 0.802}, {**SKILLS, "fancy": 0.75}]
    folder = write_ablation(tmp_path_factory.mktemp("planted") / "abc", settings, ["late", "masked"])
    write_ablation_report(folder)
    return folder


@pytest.fixture(scope="module")
def part(ablation):
    """What its page says, the one part that there is."""
    return gather(load_record(ablation), ablation)["parts"][""]


def test_a_cell_shows_the_mean_and_its_title_the_interval() -> None:
    frame = subset_frame()
    found = subset_heat_map(frame[frame["stage"] == "float"], "accuracy")
    table = tables.subset_table(frame, "accuracy").query("node == 'fou' and stage == 'float'").set_index("subset")
    own = next(cells for names, cells in found.rows if names[0] == "fou")
    cells = dict(zip(found.columns, own, strict=True))
    row = table.loc["fou+kar"]
    assert cells["fou+kar"].text == tables.number(row["mean"])
    assert cells["fou+kar"].title == f"{tables.interval(row['mean'], row['low'], row['high'])}, 5 seeds"
    assert (cells["kar"].text, cells["kar"].shade) == (tables.NOTHING, "none")
    assert found.dots["kar"] == tuple("kar" in subset.split("+") for subset in found.columns)


def test_the_darkest_cell_is_the_best_whichever_way_the_metric_goes() -> None:
    frame = pd.DataFrame({"node": ["a", "b"], "column": "x", "mean": [0.2, 0.9], "low": np.nan, "high": np.nan})
    shades = {
        metric: [cells[0].shade for _, cells in heat_map(frame.assign(seeds=1), ["node"], metric).rows]
        for metric in ("accuracy", "nll")
    }
    assert shades == {"accuracy": ["s0", "s9"], "nll": ["s9", "s0"]}


@pytest.mark.parametrize("seeds", [1, 4, 5, 7])
def test_means_over_seeds_are_those_of_one_cell_at_a_time(seeds) -> None:
    frame = validation({"a": 0.7, "b": 0.8}, seeds)
    found = over_seeds(frame, ["node"]).set_index("node")
    for node, own in frame.groupby("node"):
        expected = mean_interval(own.groupby("seed")["value"].mean().to_numpy())
        np.testing.assert_allclose(found.loc[node, ["mean", "low", "high"]].to_numpy(float), expected)


def test_every_shade_is_in_the_style_sheet_of_the_page(ablation) -> None:
    page = (ablation / "report.html").read_text()
    style = page[: page.index("</style>")]
    assert all(f".s{shade} {{ background" in style for shade in range(10))


def test_the_matrix_reads_the_same_from_both_sides() -> None:
    found = matrix(pairs(SKILLS), SUBSETS, list(SKILLS))
    cells = {
        (a, b): cell
        for a, row in zip(found.methods, found.rows, strict=True)
        for b, cell in zip(found.methods, row, strict=True)
    }
    assert cells["fancy", "late"].text == "+5.0 W"
    assert cells["fancy", "late"].below == "[4.5, 5.5]"
    assert cells["late", "fancy"].text == "−5.0 L"
    assert "late − fancy: −5.0 [−5.5, −4.5] points, worse" in cells["late", "fancy"].title
    assert cells["late", "late"] is None
    opposite = {"better": "worse", "worse": "better"}
    assert all(
        cells[b, a].kind == opposite.get(cell.kind, cell.kind) for (a, b), cell in cells.items() if cell is not None
    )


def test_ties_and_undecided_pairs_have_letters_of_their_own() -> None:
    tie = matrix(pairs({"a": 0.8, "b": 0.8}), SUBSETS, ["a", "b"]).rows[0][1]
    undecided = matrix(pairs({"a": 0.8, "b": 0.8}, half=0.05), SUBSETS, ["a", "b"]).rows[0][1]
    assert tie is not None
    assert undecided is not None
    assert (tie.text, undecided.text) == ("+0.0 T", "+0.0 ?")


def test_an_ablation_counts_its_settings(part) -> None:
    found = part["matrices"][0].first
    row = found.rows[found.methods.index("fancy")]
    cell = row[found.methods.index("late")]
    assert cell.text == "1/1/1"
    assert cell.title == "fancy against late in 3 settings: 1 better, 1 worse, 1 tie, 0 inconclusive"


def test_an_ablation_says_what_to_use_setting_by_setting_and_in_all(ablation, part) -> None:
    assert list(part["advice_table"].query("question.str.startswith('Any')")["use"]) == ["fancy", "late", "late"]
    assert part["words"][0].startswith("Any modality may be missing at test: `late` is advised in 2 of 3 settings")
    assert "mcar, rate 0.5 (MCAR)" in part["advice"][1].paragraphs[-1]
    text = (ablation / "report.md").read_text()
    assert tables.markdown(part["advice_table"]) in text


def test_train_by_test_has_the_means_and_the_clean_column_first() -> None:
    curves = pd.concat([located(rates(SKILLS), place, "mask.rate", rate) for place, rate in enumerate((0.2, 0.5))])
    tests = pd.concat(
        [located(masked_tests(SKILLS), place, "mask.rate", rate) for place, rate in enumerate((0.2, 0.5))]
    )
    frame = scores_at_test(curves, tests, ["mask.rate"])
    means = over_seeds(frame, ["node", "mask.rate", "column"])
    found = train_by_test(means, ["mask.rate"], "accuracy")["fancy"]
    assert found.columns == ("clean", "20%", "50%", "mar (30% hidden)", "sick (MNAR, 50% hidden)")
    assert [names for names, _ in found.rows] == [("0.2",), ("0.5",)]
    assert [cell.text for cell in found.rows[0][1]] == ["85.0", "80.0", "72.5", "75.0", "65.0"]


def test_the_axes_of_the_mask_are_the_training_settings() -> None:
    assert train_axes(["edges.*.weight", "mask", "mask_seed"]) == ["mask"]
    assert train_axes(["use", "mask.rate", "edges.*.weight"]) == ["use", "mask.rate"]


def test_of_many_methods_the_best_on_validation_and_the_simple_ones_come_first() -> None:
    means = validation_means(validation(MANY), SUBSETS)
    first, rest = shown_first(list(MANY), means, ["method3"])
    assert first == [f"method{number}" for number in (34, 33, 32, 31, 30, 29, 3)]
    assert sorted([*first, *rest]) == sorted(MANY)
    assert shown_first(list(SKILLS), means, []) == (list(SKILLS), [])


def test_the_whole_matrix_is_folded_away_where_there_are_many() -> None:
    found = pair_matrices(pairs(MANY), validation(MANY), ["method3"])[0]
    assert len(found.first.methods) == 7
    assert found.whole is not None
    assert len(found.whole.methods) == 35


def test_variants_under_mnar_masks_are_compared_apart(tmp_path) -> None:
    kinds, lacking = ("MCAR", "MCAR", "MNAR"), ["rates", "shapley"]
    folder = write_ablation(tmp_path / "abc", [SKILLS] * 3, ["late"], kinds=kinds, lacking=lacking)
    found = dict(read_advice(folder))
    assert {label: len(advices) for label, advices in found.items()} == {"": 2, APART: 1}
    assert "it holds for that mechanism only" in found[APART][0].paragraphs[-1]
    parts = gather(load_record(folder), folder)["parts"]
    cells = [part["matrices"][0].first.rows[0][1].title for part in parts.values()]
    assert ["in 2 settings" in title for title in cells] == [True, False]


def test_a_mask_as_an_axis_is_named_and_stands_in_the_advice(tmp_path) -> None:
    values = [{"name": "mcar", "rate": 0.4}, {"name": "block", "rate": 0.6}]
    folder = write_ablation(tmp_path / "abc", [SKILLS] * 2, ["late"], axis="mask", values=values)
    advices = dict(read_advice(folder))[""]
    assert [one.name for one in advices] == ["mask = mcar, rate 0.4", "mask = block, rate 0.6"]
    assert "hidden by block, rate 0.6" in advices[1].paragraphs[-1]


def test_an_older_ablation_without_the_tables_keeps_its_page(tmp_path) -> None:
    lacking = ["validation", "pairs", "test_masks", "shapley", "cost", "rates"]
    folder = write_ablation(tmp_path / "abc", [SKILLS] * 3, ["late"], lacking=lacking)
    page = write_ablation_report(folder).read_text()
    assert "Every subset of modalities" in page
    assert not any(text in page for text in ("What should I use?", "Every two methods", "Hidden in training"))


def test_the_page_of_an_ablation_is_well_formed_and_self_contained(ablation) -> None:
    page = (ablation / "report.html").read_text()
    parser = Balance()
    parser.feed(page)
    assert (parser.wrong, parser.open) == ([], [])
    assert len(parser.ids) == len(set(parser.ids))
    assert not re.search(r"@import|<link|<script src|<img|url\((?!#)", page)
    titles = ("What should I use?", "Along the missing rate at test", "Hidden in training, hidden at test")
    assert all(title in page for title in (*titles, "What each modality contributes", "Every two methods"))


def test_a_run_with_the_tables_shows_them(tmp_path) -> None:
    skills = {"student": 0.9, "complete-case": 0.8, "late fusion": 0.85}
    more = {"validation": validation(skills), "pairs": pairs(skills), "test_masks": masked_tests(skills)}
    folder = write_run(tmp_path / "run", more=more, simple=["late fusion"], robust=False, stages=False)
    page, text = write_report(folder).read_text(), (tmp_path / "run" / "report.md").read_text()
    assert "use <code>student</code>" in page
    assert "use `student`" in text
    assert "student − late fusion: +5.0 [4.5, 5.5] points, better" in page
    assert "sick (MNAR, 50% hidden)" in page
    assert "no estimate of the others" in page
    parser = Balance()
    parser.feed(page)
    assert (parser.wrong, parser.open) == ([], [])


def test_a_name_that_is_html_is_shown_as_text(tmp_path) -> None:
    hostile = {'<img src=x onerror="alert(1)">': 0.9, "late": 0.8}
    page = write_ablation_report(write_ablation(tmp_path / "abc", [hostile] * 2, ["late"])).read_text()
    assert "<img" not in page


def test_the_rule_for_json_values_survives_what_is_no_json() -> None:
    assert plain("[not json") == "[not json"
    assert plain(json.dumps({"name": "mcar"})) == {"name": "mcar"}


@pytest.mark.slow
def test_the_page_of_many_methods_and_settings_stays_small(tmp_path) -> None:
    values = [round(0.1 * place, 1) for place in range(1, 7)]
    folder = write_ablation(tmp_path / "abc", [MANY] * 6, ["method3"], values=values, kinds=["MCAR"] * 6)
    assert write_ablation_report(folder).stat().st_size < 3_000_000
