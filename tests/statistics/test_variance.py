"""Shares of variance: known components come back, other libraries agree, what is not balanced is refused."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest

from kd.errors import DataError
from kd.statistics.variance import components


def scores(levels: dict[str, int], deviations: dict[str, float], seed: int = 0) -> pd.DataFrame:
    """Return a balanced table whose factors have the given standard deviations; `rest` is that of what is left."""
    random = np.random.default_rng(seed)
    effects = {name: deviations[name] * random.standard_normal(count) for name, count in levels.items()}
    frame = pd.DataFrame(list(product(*map(range, levels.values()))), columns=list(levels))
    frame["score"] = sum(effects[name][frame[name]] for name in levels)
    frame["score"] += deviations["rest"] * random.standard_normal(len(frame))
    return frame


def test_known_components_come_back() -> None:
    truth = {"mask": 3.0, "model": 1.0, "split": 2.0, "rest": 0.5}
    found = [
        components(scores({"mask": 12, "model": 12, "split": 12}, truth, seed), ["mask", "model", "split"], "score")
        for seed in range(40)
    ]
    means = pd.concat(found).groupby("factor")["variance"].mean()
    assert {name: float(means[name]) for name in truth} == pytest.approx(
        {name: value**2 for name, value in truth.items()}, rel=0.2
    )
    assert found[0]["share"].sum() == pytest.approx(1)


def test_components_are_those_of_the_anova_table_of_statsmodels() -> None:
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    frame = scores({"mask": 4, "model": 5}, {"mask": 1.0, "model": 2.0, "rest": 1.0})
    squares = anova_lm(ols("score ~ C(mask) + C(model)", frame).fit())["mean_sq"]
    rest = squares["Residual"]
    expected = [(squares["C(mask)"] - rest) / 5, (squares["C(model)"] - rest) / 4, rest]
    assert list(components(frame, ["mask", "model"], "score")["variance"]) == pytest.approx(expected)


def test_a_negative_estimate_is_0_and_said() -> None:
    frame = pd.DataFrame({"a": [0, 0, 1, 1], "b": [0, 1, 0, 1], "score": [0.0, 1.0, 1.0, 0.0]})
    found = components(frame, ["a", "b"], "score").set_index("factor")
    assert list(found["variance"]) == [0.0, 0.0, 1.0]
    assert list(found["negative"]) == [True, True, False]


def test_a_table_with_a_gap_is_refused() -> None:
    frame = scores({"mask": 3, "model": 3}, {"mask": 1.0, "model": 1.0, "rest": 1.0})
    with pytest.raises(DataError, match="8 of 9 combinations of mask, model have scores"):
        components(frame.iloc[1:], ["mask", "model"], "score")
    with pytest.raises(DataError, match="model has one level"):
        components(frame[frame["model"] == 0], ["mask", "model"], "score")
