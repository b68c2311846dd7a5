"""The report of an ablation: what a score along an axis is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kd.report.ablation import along, by_setting, failed_cells, scores
from kd.report.axis import axis_chart, line_of
from kd.report.declared import tally, verdicts


@pytest.fixture
def results() -> pd.DataFrame:
    """Return two rates x two weights, five seeds, a node that sees both modalities and one that sees a single one."""
    rows = []
    for variant, (rate, weight) in enumerate([(0.0, 1.0), (0.0, 2.0), (0.5, 1.0), (0.5, 2.0)]):
        for seed in range(5):
            base = 0.5 + 0.2 * rate + 0.01 * weight + 0.02 * seed
            for node, subsets in {"both": ("a", "b", "a+b"), "single": ("a", "a+b")}.items():
                for subset in subsets:
                    value = base + (0.1 if subset == "a+b" else 0.0)
                    row = {"variant": variant, "rate": rate, "weight": weight, "node": node, "stage": "float"}
                    row |= {"seed": seed, "subset": subset, "size": subset.count("+") + 1, "n": 10}
                    rows += [{**row, "metric": "accuracy", "value": value}, {**row, "metric": "nll", "value": 9.0}]
    return pd.DataFrame(rows)


def test_scores_are_of_everything_present_and_the_mean_of_those_that_answer_every_subset(results) -> None:
    found = scores(results, "accuracy")
    first = found[(found.variant == 0) & (found.seed == 0)].set_index(["node", "what"])["value"]
    assert first["both", "complete"] == pytest.approx(0.61)
    assert first["both", "mean"] == pytest.approx((0.51 + 0.51 + 0.61) / 3)
    assert set(first.index) == {("both", "complete"), ("both", "mean"), ("single", "complete")}


def test_along_an_axis_a_seeds_score_is_its_mean_over_the_others(results) -> None:
    table = along(scores(results, "accuracy"), "rate", "accuracy")
    assert list(table.columns) == ["node", "score", "0", "0.5"]
    row = table[(table.node == "both") & (table.score == "complete")].iloc[0]
    means = [np.mean([0.6 + 0.01 * w + 0.02 * seed for w in (1, 2)]) for seed in range(5)]
    assert row["0"].startswith(f"{100 * np.mean(means):.1f} [")
    assert row["0.5"].startswith(f"{100 * (np.mean(means) + 0.1):.1f} [")


def declared(*estimates: float, p: float | None = None) -> pd.DataFrame:
    rows = [
        {
            "method": "new",
            "baseline": "plain",
            "metric": "accuracy",
            "p": p,
            "estimate": estimate,
            "low": estimate - 0.02,
            "high": estimate + 0.02,
            "verdict": "better" if estimate > 0.02 else "worse" if estimate < -0.02 else "inconclusive",
        }
        for estimate in estimates
    ]
    return pd.DataFrame(rows)


def test_comparisons_over_settings_are_their_range_and_how_many_are_sure() -> None:
    assert tally(declared(-0.05, 0.01, 0.06)).to_dict("records") == [
        {"method": "new", "against plain": "−5.0 to +6.0; 1 better, 1 worse of 3"}
    ]
    # Tested, the verdict of the interval alone says nothing.
    assert tally(declared(-0.05, 0.01, 0.06, p=0.5))["against plain"].item() == "−5.0 to +6.0; neither of 3"


def test_a_comparison_in_one_setting_is_its_difference_with_the_verdict() -> None:
    assert tally(declared(0.05))["against plain"].item() == "+5.0 [3.0, 7.0]; better"
    assert tally(declared(0.05, p=0.01))["against plain"].item() == "+5.0 [3.0, 7.0]; better*"
    assert tally(declared(0.05, p=0.06))["against plain"].item() == "+5.0 [3.0, 7.0]; better"


def test_verdicts_against_one_baseline_stand_by_setting() -> None:
    parts = [declared(0.05, p=0.001).assign(use="few"), declared(-0.01, p=0.2).assign(use="many")]
    frame = pd.concat([*parts, parts[0].assign(baseline="other", method="old")], ignore_index=True)
    assert verdicts(frame, ["use"], "plain").to_dict("records") == [
        {"method": "new", "few": "+5.0 [3.0, 7.0]; better*", "many": "−1.0 [−3.0, 1.0]; inconclusive"}
    ]
    untested = verdicts(declared(0.05), [], "plain")
    assert untested.to_dict("records") == [{"method": "new", "": "+5.0 [3.0, 7.0]; better"}]


def test_a_grid_over_how_many_modalities_there_are_has_its_own_complete_rows_in_each_variant(results) -> None:
    fewer = results[results["size"] < results["size"].max()].assign(variant=results["variant"].max() + 1)
    found = scores(pd.concat([results, fewer], ignore_index=True), "accuracy")
    complete = found[found["what"] == "complete"]
    assert set(complete["variant"]) == {*results["variant"], *fewer["variant"]}


def test_scores_of_a_run_without_axes_stand_under_the_metrics_name(results) -> None:
    one = scores(results, "accuracy")
    one = one[one["variant"] == one["variant"].iloc[0]]
    assert list(by_setting(one, [], "accuracy").columns) == ["node", "score", "accuracy"]


def test_a_node_is_drawn_alike_in_every_chart_and_no_two_alike() -> None:
    assert len({tuple(line_of(place).values())[:2] for place in range(28)}) == 28
    points = {"b": [(0.1, 0.5, 0.4, 0.6), (0.2, 0.6, 0.5, 0.7)]}
    alone = axis_chart(points, ["a", "b"], "rate", "accuracy", 100.0, "x")
    assert line_of(1)["color"].lower() in alone.lower()
    assert alone == axis_chart(points, ["a", "b"], "rate", "accuracy", 100.0, "x")
    named = axis_chart({"b": [("kl", 0.5, 0.4, 0.6), ("none", 0.6, 0.5, 0.7)]}, ["b"], "loss", "accuracy", 1.0, "y")
    assert "kl" in named


def test_cells_that_failed_are_told_once_with_their_seeds() -> None:
    cells = pd.DataFrame(
        [
            {"rate": 0.1, "node": "s", "seed": seed, "failed": reason}
            for seed, reason in ((0, ""), (1, "lower it"), (2, "lower it"))
        ]
    )
    found = failed_cells(cells, ["rate"])
    assert found.to_dict("records") == [{"rate": 0.1, "node": "s", "reason": "lower it", "seeds": "1, 2"}]
