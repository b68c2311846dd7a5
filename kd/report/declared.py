"""The comparisons that an ablation declares, over its settings, as text."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from kd.report import tables
from kd.report.setting import value_name
from kd.statistics import ALPHA
from kd.statistics.significance import holm


def tally(frame: pd.DataFrame) -> pd.DataFrame:
    """Return declared comparisons over all settings as text: a row per method, for each baseline what was found.

    A cell has the range of the differences over settings, and in how many of them the method is better or worse by
    Holm's test over all comparisons of the table; without a test, by the verdict of the interval. Of one setting it has
    the difference, its interval and the verdict, with a star where that test is sure.

    Args:
        frame: an ablation's `contrasts`, of one part.
    """
    sure = _sure(frame)
    rows = []
    for method, own in frame.groupby("method", sort=False):
        cells = {}
        for baseline, found in own.groupby("baseline", sort=False):
            metric, told = found["metric"].iloc[0], found[sure[found.index]]
            if len(found) == 1:
                star = "*" if _tested(frame) and len(told) else ""
                cells[f"against {baseline}"] = _alone(found.iloc[0], metric) + star
                continue
            ends = [tables.number(found["estimate"].agg(end), metric, signed=True) for end in ("min", "max")]
            counts = [f"{count} {word}" for word, count in _signs(told) if count]
            cells[f"against {baseline}"] = f"{ends[0]} to {ends[1]}; {', '.join(counts) or 'neither'} of {len(found)}"
        rows.append({"method": method, **cells})
    return pd.DataFrame(rows).fillna(tables.NOTHING)


def verdicts(frame: pd.DataFrame, axes: Sequence[str], baseline: str) -> pd.DataFrame:
    """Return every method's comparison with one baseline as text: a row per method, a column per setting.

    A star says that Holm's test over all comparisons of the frame is sure.

    Args:
        frame: an ablation's `contrasts`, of one part.
        axes: of the grid; their values name the columns.
        baseline: that the methods are compared with.
    """
    sure = _sure(frame) & _tested(frame)
    own = frame[frame["baseline"] == baseline]
    cells = [
        {
            "method": row["method"],
            "setting": ", ".join(value_name(row[axis]) for axis in axes),
            "cell": _alone(row, row["metric"]) + ("*" if sure[place] else ""),
        }
        for place, row in own.iterrows()
    ]
    table = pd.DataFrame(cells, columns=["method", "setting", "cell"])
    methods, settings = list(dict.fromkeys(table["method"])), list(dict.fromkeys(table["setting"]))
    found = table.pivot(index="method", columns="setting", values="cell").reindex(index=methods, columns=settings)
    return found.fillna(tables.NOTHING).rename_axis(columns=None).reset_index()


def _sure(frame: pd.DataFrame) -> pd.Series:
    """Say per comparison whether Holm's test over all of them finds a difference; without tests, the interval."""
    if _tested(frame):
        return pd.Series(holm(frame["p"]), frame.index) < ALPHA
    return frame["verdict"].isin(["better", "worse"])


def _tested(frame: pd.DataFrame) -> bool:
    return "p" in frame and bool(frame["p"].notna().any())


def _alone(found: pd.Series, metric: str) -> str:
    shown = tables.interval(found["estimate"], found["low"], found["high"], metric, signed=True)
    return f"{shown}; {found['verdict']}"


def _signs(told: pd.DataFrame) -> list[tuple[str, int]]:
    return [("better", int((told["estimate"] > 0).sum())), ("worse", int((told["estimate"] < 0).sum()))]
