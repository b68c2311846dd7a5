"""The cost column of a summary: what a node's score took to train, and how large it is when used (protocol 7)."""

from __future__ import annotations

import pandas as pd

from kd.report.tables import NO_STEPS, NOTHING


def with_cost(table: pd.DataFrame, cost: pd.DataFrame, stages: pd.DataFrame) -> pd.DataFrame:
    """Return a summary table with `optimiser steps` and `parameters`; unchanged where a run recorded no cost.

    Args:
        table: of `kd.report.tables.summary_table`.
        cost: a run's `cost`: node, steps, parameters.
        stages: its compressed stages, whose parameters are their own; the steps of passes are not counted.
    """
    if not len(cost):
        return table
    steps, sizes = cost.set_index("node")["steps"], cost.set_index("node")["parameters"]
    compressed = stages.groupby(["node", "stage"])["parameters"].median()
    found = table.copy()
    pairs = list(zip(table["node"], table["stage"], strict=True))
    taken = [_steps(node, steps) if stage == "float" else NOTHING for node, stage in pairs]
    held = [sizes.get(node) if stage == "float" else compressed.get((node, stage)) for node, stage in pairs]
    place = list(table.columns).index("seeds")
    found.insert(place, "optimiser steps", taken)
    found.insert(place + 1, "parameters", [NOTHING if pd.isna(value) else f"{value:,.0f}" for value in held])
    return found


def _steps(node: str, steps: pd.Series) -> str:
    if node not in steps:
        return NOTHING
    return NO_STEPS if pd.isna(steps[node]) else f"{steps[node]:,.0f}"
