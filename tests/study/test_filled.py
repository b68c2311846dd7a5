"""Scores of models that learnt from complete rows say how they answer incomplete ones."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from kd.parsing import parse
from kd.study.evidence import _marked


@pytest.mark.parametrize(
    ("model", "expected"),
    [({}, "7 subsets; filled with zeros"), ({"absent": {"name": "mean"}}, "7 subsets; filled with mean")],
)
def test_a_model_of_complete_rows_is_marked_where_rows_are_incomplete(model: dict[str, Any], expected: str) -> None:
    nodes = {"whole": {"sees": ["m0"], "rows": "complete", "model": model}, "any": {"sees": ["m0"]}}
    study = parse({"data": {"name": "synthetic"}, "nodes": nodes})
    rows = [(node, what, note) for node in nodes for what, note in (("complete", ""), ("mean", "7 subsets"))]
    found = _marked(pd.DataFrame(rows, columns=["node", "what", "note"]), study)
    assert found["note"].tolist() == ["", expected, "", "7 subsets"]
