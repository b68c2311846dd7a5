"""One method against all its rivals at once, setting by setting, as text: the whole contest, and rival by rival."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kd.report import tables
from kd.report.setting import value_name
from kd.statistics import STRICT
from kd.statistics.significance import holm
from kd.statistics.verdicts import INCONCLUSIVE, LOSS, TIE, WIN, contest

NOTE = (
    "A win takes every rival: a difference of at least 1 point where no other is declared, the lower end of its 99% "
    "interval above 0 against each (an intersection-union test) and, after Holm over the settings, a p below 0.01. It "
    "takes 20 seeds and is of new seeds and new rows. A tie has every interval above 0 or inside the margin, a loss "
    "one below 0; all else is inconclusive. Worst is each method's own worst subset on validation rows."
)
WHOLE = ("rival", "metric", "estimate", "low", "high", "beaten", "rivals", "ahead", "p", "seeds", "untested")
ON = {"complete": "complete rows", "mean": "mean over subsets", "worst": "worst subset"}


def decided(frame: pd.DataFrame, axes: Sequence[str] = ()) -> pd.DataFrame:
    """Return a row per contest, setting and kind of test rows: who is hardest to beat, by how much, and the verdict.

    Args:
        frame: `contests` of a run, or of an ablation with the values of its axes.
        axes: of the grid.

    Returns:
        contest, method, the axes, on, verdict, rival (the one with the smallest estimate), its estimate, low and high,
        `beaten` of `rivals`, `ahead` (those whose whole interval is above the method's), p and p_holm, over settings.
    """
    keys = ["contest", "method", *axes, "on"]
    rows = [
        dict(zip(keys, key, strict=True)) | _whole(own) for key, own in frame.groupby(keys, sort=False, dropna=False)
    ]
    found = pd.DataFrame(rows, columns=[*keys, "verdict", *WHOLE])
    found["p_holm"] = found.groupby(["contest", "on"], sort=False)["p"].transform(lambda p: holm(p.to_numpy(float)))
    unsure = (found["verdict"] == WIN) & ~(found["p_holm"] < 1 - STRICT)
    found.loc[unsure, "verdict"] = INCONCLUSIVE
    return found


def _whole(own: pd.DataFrame) -> dict[str, Any]:
    """Return what all rivals of one setting come to."""
    each = [contest(r["estimate"], r["low"], r["high"], r["least"]) for r in own.to_dict("records")]
    hardest = own.loc[own["estimate"].idxmin()]
    verdict = INCONCLUSIVE
    if all(one == WIN for one in each):
        verdict = WIN
    elif LOSS in each:
        verdict = LOSS
    elif all(one in (WIN, TIE) for one in each):
        verdict = TIE
    p = np.where(own["estimate"] > 0, own["p"], own["p"].where(own["p"].isna(), 1.0))
    return {
        **{name: hardest[name] for name in ("rival", "metric", "estimate", "low", "high", "seeds")},
        "verdict": verdict,
        "beaten": each.count(WIN),
        "rivals": len(each),
        "ahead": ", ".join(rival for rival, one in zip(own["rival"], each, strict=True) if one == LOSS),
        "p": float(np.max(p)),
        "untested": own["untested"].iloc[0],
    }


def contests_table(frame: pd.DataFrame, axes: Sequence[str] = ()) -> pd.DataFrame:
    """Return `decided` as text."""
    rows = [
        {
            "contest": row["contest"],
            **{axis: value_name(row[axis]) for axis in axes},
            "on": ON[row["on"]],
            "verdict": row["verdict"],
            "beaten": f"{row['beaten']} of {row['rivals']}",
            "hardest": row["rival"],
            "difference [99%]": _difference(row),
            "ahead of it": row["ahead"] or tables.NOTHING,
            "p": row["untested"] or tables.p_value(row["p_holm"]),
        }
        for row in decided(frame, axes).to_dict("records")
    ]
    return pd.DataFrame(rows)


def rivals_table(frame: pd.DataFrame, axes: Sequence[str] = ()) -> pd.DataFrame:
    """Return each rival's difference as text, a row per setting and rival, a column per kind of test rows."""
    keys = ["contest", *axes, "rival"]
    rows = []
    for key, own in frame.groupby(keys, sort=False, dropna=False):
        named = dict(zip(keys, key, strict=True))
        cells = dict.fromkeys(ON.values(), tables.NOTHING)
        cells |= {ON[row["on"]]: _difference(row) for row in own.to_dict("records")}
        rows.append({**named, **{axis: value_name(named[axis]) for axis in axes}, **cells})
    return pd.DataFrame(rows, columns=[*keys, *ON.values()])


def contests_content(frame: pd.DataFrame, axes: Sequence[str] = ()) -> dict[str, Any]:
    """Return what both forms of a report show of a run's or an ablation's contests."""
    if not len(frame):
        return {"contests": pd.DataFrame(), "rivals": pd.DataFrame(), "contests_note": NOTE}
    return {
        "contests": contests_table(frame, axes),
        "rivals": rivals_table(frame, axes),
        "contests_note": NOTE,
    }


def contests_markdown(content: Mapping[str, Any]) -> list[str]:
    """Return the section of a Markdown report; nothing where no contest was declared."""
    if not len(content["contests"]):
        return []
    return ["## Contests", tables.markdown(content["contests"]), NOTE, tables.markdown(content["rivals"])]


def _difference(row: dict[str, Any]) -> str:
    return tables.interval(row["estimate"], row["low"], row["high"], row["metric"], signed=True)
