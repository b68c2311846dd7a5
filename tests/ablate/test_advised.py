"""The generated advice, on made data where the right answer is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kd.ablate import ablate
from kd.ablate.grid import make_grid
from kd.report.advice import Advice, advise

SUBSETS = "mean over subsets"
NODES: dict[str, Any] = {
    "*": {"sees": ["*"]},
    "complete_case": {"sees": ["*"], "rows": "complete"},
    "masked": {"sees": ["*"]},
    "joint": {"sees": ["*"], "drop": 0.3, "model": {"fusion": {"name": "hemis"}}},
}


@pytest.fixture
def advised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what is advised for a config's parts, by question."""
    monkeypatch.setenv("KD_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)

    def found(over: str, **parts: Any) -> Advice:
        tree = {
            "nodes": NODES,
            "ensembles": {"late": {"members": ["*"], "combine": "product"}},
            "defaults": {"select": "subsets", "steps": 150, "validate_every": 50},
            "simple": ["late", "masked", "*"],
            "seeds": 5,
            **parts,
        }
        folder = ablate(make_grid(tree))  # in stacks: five seeds for little more than one
        tables = (pd.read_parquet(folder / f"{name}.parquet") for name in ("validation", "pairs"))
        advice = advise(*tables, over, ["late", "masked", "a", "b", "m0", "m1", "m2"])
        assert advice is not None
        return advice

    return found


def xor(folder: Path, rows: int = 900) -> dict[str, Any]:
    """Write two tables of which only both together tell the label: the sign of a product."""
    random = np.random.default_rng(0)
    names = [f"r{row:04}" for row in range(rows)]
    sign = random.choice([-1.0, 1.0], size=(rows, 2))
    pd.DataFrame({"id": names, "y": np.where(sign.prod(axis=1) > 0, "same", "other")}).to_csv(
        folder / "y.csv", index=False
    )
    for column, name in enumerate("ab"):
        values = 2 * sign[:, [column]] + 0.7 * random.normal(size=(rows, 2))
        pd.DataFrame(values, columns=[f"{name}1", f"{name}2"]).assign(id=names).to_csv(
            folder / f"{name}.csv", index=False
        )
    files = {name: {"file": f"{name}.csv"} for name in "ab"}
    return {"name": "table", "id": "id", "label": {"file": "y.csv", "column": "y"}, "modalities": files}


def test_modalities_that_tell_the_label_only_together_want_a_fusion_that_multiplies(
    advised: Any, tmp_path: Path
) -> None:
    # Late fusion, and a linear head on representations side by side, add what the modalities say: they stay at chance.
    joint = {"sees": ["*"], "drop": 0.3, "model": {"fusion": {"name": "transformer", "layers": 1}}}
    parts = {"nodes": {**NODES, "joint": joint}, "defaults": {"select": "subsets", "steps": 300, "validate_every": 100}}
    advice = advised("complete", data=xor(tmp_path), mask={"name": "mcar", "rate": 0.2}, **parts)
    assert advice.advised == "joint"
    assert advice.difference is not None
    assert advice.difference.low > 0.1
    assert set(advice.worse) >= {"late", "masked"}


def test_modalities_independent_given_the_label_want_nothing_beyond_late_fusion(advised: Any) -> None:
    # Their product is the Bayes rule's own form: nothing can beat it but by what its members learnt badly.
    data = {"name": "synthetic", "modalities": 3, "rows": 800, "gamma": 0.0}
    advice = advised(SUBSETS, data=data, mask={"name": "mcar", "rate": 0.4})
    assert advice.advised in ("late", "masked")
    assert "complete_case" in advice.worse


def test_few_complete_rows_do_not_want_complete_cases(advised: Any) -> None:
    data = {"name": "synthetic", "modalities": 3, "rows": 800, "gamma": 0.5}
    advice = advised("complete", data=data, mask={"name": "severe", "complete": 12, "pool": 150})
    assert advice.advised != "complete_case"
    assert "complete_case" in advice.worse
