"""What a paper claims and what a grid showed, sentence by sentence, as text."""

from __future__ import annotations

from typing import Any

import pandas as pd

from kd.report import tables
from kd.report.words import unit

NOTE = (
    "Each sentence is the paper's; what was measured is ours. A slope is per step of the values as they are listed; "
    "where no value is picked, the mean over the grid's other values counts. Reproduced or contradicted take 20 seeds "
    "and, after Holm over these claims, a p below 0.05 for new seeds and new rows; a comparison whose whole interval "
    "lies inside the margin contradicts a gain as well."
)


def claims_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return an ablation's `claims` as text: a row per claim."""
    rows = [
        {
            "claim": row["says"],
            "verdict": row["verdict"],
            "measured": _measured(row),
            "p": tables.p_value(row["p_holm"]),
            "seeds": tables.NOTHING if pd.isna(row["seeds"]) else f"{row['seeds']:.0f}",
            "setting": row["setting"] if isinstance(row["setting"], str) else "",
            "why": _why(row),
        }
        for row in frame.to_dict("records")
    ]
    return pd.DataFrame(rows, columns=["claim", "verdict", "measured", "p", "seeds", "setting", "why"])


def claims_markdown(table: pd.DataFrame) -> list[str]:
    """Return the section of a Markdown report; nothing where nothing was claimed."""
    return ["## Claims", tables.markdown(table), NOTE] if len(table) else []


def _measured(row: dict[str, Any]) -> str:
    if pd.isna(row["estimate"]):
        return tables.NOTHING
    shown = tables.interval(row["estimate"], row["low"], row["high"], row["metric"], signed=True)
    step = " per step" if row["measure"] == "slope per step" else ""
    return f"{row['method']} − {row['baseline']}, {row['subset']}: {shown} {unit(row['metric'])}{step}"


def _why(row: dict[str, Any]) -> str:
    if row["reason"]:
        return str(row["reason"])
    if row["verdict"] != "inconclusive":
        return ""
    return f"less than {tables.number(row['detectable'], row['metric'])} {unit(row['metric'])} could not have been seen"
