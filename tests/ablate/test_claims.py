"""Claims: a comparison or its trend along an axis, put to a grid, and the verdict on the sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kd.ablate import ablate
from kd.ablate.claims import Claim, verdicts
from kd.ablate.grid import Grid, make_grid
from kd.config import Study
from kd.errors import ConfigError
from kd.report.claims import claims_table
from kd.statistics.intervals import crossed_difference

AXES = {"mask.complete": [20, 50, 100], "edges.*.weight": [0.5, 1.0]}
SEEDS, ROWS = 20, 80


@pytest.fixture
def planted(tmp_path: Path, small_study: Callable[..., Study]) -> Callable[..., pd.DataFrame]:
    """Return the verdicts on claims over invented differences: `mean(values)` of each variant, plus noise."""

    def make(claims: dict[str, Claim], mean: Callable[[Any], float], seeds: int = SEEDS, **kept: Any) -> pd.DataFrame:
        study, random = small_study(), np.random.default_rng(0)
        row_effect, (name, *_) = 0.02 * random.standard_normal(ROWS), study.contrasts
        variants, folders = [], {}
        for c in AXES["mask.complete"]:
            for w in AXES["edges.*.weight"]:
                values = {"mask.complete": c, "edges.*.weight": w}
                table = mean(values) + row_effect + 0.05 * random.standard_normal((seeds, ROWS))
                place = len(variants)
                folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
                folder.mkdir()
                frame = pd.DataFrame(
                    {
                        "contrast": name,
                        "seed": np.repeat(np.arange(seeds), ROWS),
                        "row": np.tile(np.arange(ROWS) + kept.get("shift", 0) * place, seeds),
                        "group": np.tile(np.arange(ROWS) // 2, seeds),
                        "difference": table.ravel(),
                    }
                )
                frame.sample(frac=1, random_state=0).to_parquet(folder / "differences.parquet")
                pd.DataFrame({"metric": ["accuracy"]}).to_parquet(folder / "contrasts.parquet")
                variants.append((values, study))
                if place != kept.get("lost"):
                    folders[place] = folder
        return verdicts(claims, AXES, variants, folders).set_index("claim")

    return make


@pytest.fixture
def contrast(small_study: Callable[..., Study]) -> str:
    return next(iter(small_study().contrasts))


def claims(contrast: str) -> dict[str, Claim]:
    return {
        "better": Claim(says="it is better", contrast=contrast),
        "better_at_20": Claim(says="it is better with 20", contrast=contrast, at={"mask.complete": 20}),
        "fewer": Claim(says="the gain grows as complete rows get fewer", contrast=contrast, falls_with="mask.complete"),
        "heavier": Claim(says="the more weight the better", contrast=contrast, rises_with="edges.*.weight"),
        "clinical": Claim(says="it is better on patients", unchecked="the data are not public"),
    }


def test_a_planted_gain_that_shrinks_is_found_and_what_is_not_there_is_not(planted, contrast) -> None:
    found = planted(claims(contrast), lambda v: 0.05 - 0.02 * AXES["mask.complete"].index(v["mask.complete"]))
    assert found["verdict"].to_dict() == {
        "better": "reproduced",
        "better_at_20": "reproduced",
        "fewer": "reproduced",
        "heavier": "inconclusive",
        "clinical": "cannot be checked",
    }
    assert found.loc["fewer", "estimate"] == pytest.approx(-0.02, abs=0.003)  # per step
    assert found.loc["better_at_20", "estimate"] == pytest.approx(0.05, abs=0.01)
    assert found.loc["clinical", "reason"] == "the data are not public"
    assert found.loc["fewer", "measure"] == "slope per step"
    assert found.loc["better_at_20", "setting"] == "mask.complete = 20; edges.*.weight = 0.5, 1"


def test_the_opposite_contradicts_and_so_does_a_tie(planted, contrast) -> None:
    found = planted(claims(contrast), lambda v: -0.05 + 0.02 * AXES["mask.complete"].index(v["mask.complete"]))
    assert found.loc[["better", "fewer"], "verdict"].tolist() == ["contradicted", "contradicted"]
    tied = planted({"better": claims(contrast)["better"]}, lambda _: 0.0)
    assert tied.loc["better", ["verdict", "reason"]].tolist() == ["contradicted", "no difference beyond the margin"]


def test_a_slope_has_the_interval_of_the_rows_own_slopes(planted, contrast, tmp_path) -> None:
    found = planted({"fewer": claims(contrast)["fewer"]}, lambda _: 0.0)
    frames = [pd.read_parquet(tmp_path / str(k) / "differences.parquet") for k in range(6)]
    tables = [f.pivot(index="seed", columns="row", values="difference").to_numpy() for f in frames]
    low, middle, high = (np.mean([tables[2 * k], tables[2 * k + 1]], axis=0) for k in range(3))
    expected = crossed_difference((high - low) / 2, margin=0, group=np.arange(ROWS) // 2)
    assert found.loc["fewer", "low"] == pytest.approx(expected.low, rel=1e-9)
    assert found.loc["fewer", "high"] == pytest.approx(expected.high, rel=1e-9)
    assert middle.shape == (SEEDS, ROWS)  # the step in the middle has no weight in a slope over three


def test_few_seeds_lost_settings_and_other_rows_give_no_verdict(planted, contrast) -> None:
    asked = {"better": claims(contrast)["better"]}
    few = planted(asked, lambda _: 0.5, seeds=5)
    assert few.loc["better", ["verdict", "reason"]].tolist() == ["inconclusive", "5 seeds, 20 are needed"]
    assert few.loc["better", "low"] > 0.4
    lost = planted(asked, lambda _: 0.5, lost=3)
    assert lost.loc["better", ["verdict", "reason"]].tolist() == ["inconclusive", "1 of 6 settings have no result"]
    other = planted(asked, lambda _: 0.5, shift=1)
    assert other.loc["better", "reason"] == "its settings are tested on different rows"


def test_what_cannot_be_checked_is_none_of_the_family(planted, contrast) -> None:
    asked = claims(contrast)
    one = {"better": asked["better"]}
    alone = planted(one, lambda _: 0.008)
    beside = planted({**one, "clinical": asked["clinical"]}, lambda _: 0.008)
    assert alone.loc["better", "p_holm"] == alone.loc["better", "p"] == beside.loc["better", "p_holm"]


def test_the_table_says_what_was_measured_or_why_not(planted, contrast) -> None:
    found = planted(claims(contrast), lambda v: 0.05 - 0.02 * AXES["mask.complete"].index(v["mask.complete"]))
    shown = claims_table(found.reset_index()).set_index("claim")
    assert shown.loc["the gain grows as complete rows get fewer", "measured"].endswith("points per step")
    assert "could not have been seen" in shown.loc["the more weight the better", "why"]
    clinical = shown.loc["it is better on patients"]
    assert clinical[["verdict", "measured", "p", "why"]].tolist() == [
        *("cannot be checked", "–", "–", "the data are not public"),
    ]


FAULTS = {
    "claims.x.contrast: required, unless unchecked: says why nothing here can check it": {"says": "s"},
    "claims.x.contrast: 'nothing' is unknown": {"says": "s", "contrast": "nothing"},
    "claims.x.rises_with: 'mask.rat' is no axis of the grid": {"says": "s", "contrast": "*", "rises_with": "mask.rat"},
    "claims.x: both rises_with and falls_with": {
        "says": "s",
        "contrast": "*",
        "rises_with": "edges.*.weight",
        "falls_with": "edges.*.weight",
    },
    "claims.x.at.edges.*.weight: 7 is none of its values": {"says": "s", "contrast": "*", "at": {"edges.*.weight": 7}},
    "claims.x.falls_with: a trend needs at least 2 values": {
        "says": "s",
        "contrast": "*",
        "falls_with": "edges.*.weight",
        "at": {"edges.*.weight": 2.0},
    },
    "claims.x.contrast: it is unchecked; drop one of the two": {"says": "s", "contrast": "*", "unchecked": "no data"},
    "claims.x.says: required key is missing": {"contrast": "*"},
    "claims.x.along: unknown key": {"says": "s", "contrast": "*", "along": "edges.*.weight"},
}


@pytest.mark.parametrize("line", FAULTS)
def test_a_fault_is_one_line_that_names_the_claim(line, small_study, contrast) -> None:
    written = {key: contrast if value == "*" else value for key, value in FAULTS[line].items()}
    with pytest.raises(ConfigError) as told:
        with_claims(small_study(), {"x": written})
    assert any(fault.startswith(line) for fault in told.value.faults), told.value.faults


def with_claims(study: Study, written: dict[str, Any]) -> Grid:
    return make_grid({**asdict(study), "grid": {"edges.*.weight": [0.5, 2.0]}, "claims": written})


def test_folds_and_families_are_refused(small_study, contrast) -> None:
    asked = {"x": {"says": "s", "contrast": contrast}}
    with pytest.raises(ConfigError, match=r"claims\.x: split\.folds: folds share training rows"):
        with_claims(small_study(split={"folds": 2}), asked)
    family = {"baselines": ["product"], "over": "complete"}
    spelt = {"x": {"says": "s", "contrast": "student_vs_product"}}
    with pytest.raises(ConfigError, match="is spelt out by family; declare it under contrasts"):
        with_claims(small_study(family=family, contrasts={}), spelt)


def test_a_sweep_puts_its_claims_into_table_page_and_record(small_study, contrast) -> None:
    asked = {"says": "heavier helps", "contrast": contrast, "rises_with": "edges.*.weight"}
    grid = with_claims(small_study(), {"x": asked})
    folder = ablate(grid)
    found = pd.read_parquet(folder / "claims.parquet").iloc[0]
    assert found["reason"] == f"{grid.first.seeds} seeds, 20 are needed"
    variants = sorted(pd.read_parquet(folder / "contrasts.parquet").query("contrast == @contrast")["estimate"])
    assert abs(found["estimate"]) == pytest.approx(variants[1] - variants[0], abs=1e-9)  # the slope over one step
    assert "heavier helps" in (folder / "report.html").read_text()
    assert "heavier helps" in (folder / "report.md").read_text()
