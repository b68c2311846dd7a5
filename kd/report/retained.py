"""What compression keeps of a student on every subset, as a table and sentences; differences are stage minus float."""

from __future__ import annotations

import math

import pandas as pd

from kd.report.tables import NOTHING, interval, number, subset_order
from kd.report.words import modality_words, unit
from kd.statistics.verdicts import INCONCLUSIVE, INFERIOR, NON_INFERIOR

MEAN = "mean over subsets"
MARKS = {NON_INFERIOR: "", INFERIOR: " ✗", INCONCLUSIVE: " ?", "": ""}
NOTE = (
    "Stage minus the float student on the same test rows and seeds, with 95% intervals over seeds and rows, or folds. "
    "✗: worse by more than the margin, with its whole interval; ?: the interval is too wide to say; no mark: not worse "
    "by more than the margin. Teachers and controls have no mark. The intervals describe; nothing is tested."
)


def retained_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a row per subset, and for their mean, and a column per teacher, control and stage."""
    order = [MEAN, *subset_order(subset for subset in frame["subset"] if subset != MEAN)] if len(frame) else []
    table: dict[str, dict[str, str]] = {}
    for row in frame.itertuples(index=False):
        name = row.node if row.stage == "float" else row.stage
        shown = interval(row.estimate, row.low, row.high, row.metric, signed=True)
        table.setdefault(name, {})[row.subset] = shown + MARKS[row.verdict]
    columns = {name: [cells.get(subset, NOTHING) for subset in order] for name, cells in table.items()}
    return pd.DataFrame({"subset": order, **columns})


def retained_sentences(frame: pd.DataFrame) -> list[str]:
    """Say, for every stage, what it costs in the mean over subsets, and on which single ones it may cost too much.

    >>> rows = [("s", "int8", "mean over subsets", -0.001, -0.004, 0.002, 0.01, "non-inferior"),
    ...         ("s", "int8", "a", 0.0, -0.03, 0.03, 0.02, "inconclusive"),
    ...         ("s", "int8", "a+b", -0.002, -0.008, 0.004, 0.02, "non-inferior")]
    >>> names = ["node", "stage", "subset", "estimate", "low", "high", "margin", "verdict"]
    >>> retained_sentences(pd.DataFrame(rows, columns=names).assign(metric="accuracy"))
    ['s, int8 against float: −0.1 [−0.4, 0.2] points in the mean over 2 subsets: non-inferior, the margin is 1.0. On
     single subsets, margin 2.0: non-inferior on 1 of 2; inconclusive on a alone.']
    """
    stages = frame[frame["stage"] != "float"]
    return [
        _sentence(f"{node}, {stage} against float", own)
        for (node, stage), own in stages.groupby(["node", "stage"], sort=False)
    ]


def _sentence(head: str, own: pd.DataFrame) -> str:
    mean, single = own[own["subset"] == MEAN].iloc[0], own[own["subset"] != MEAN]
    metric = mean["metric"]
    shown = f"{interval(mean['estimate'], mean['low'], mean['high'], metric, signed=True)} {unit(metric)}"
    told = f"{head}: {shown} in the mean over {len(single)} subsets: {_judged(mean)}"
    kept = single["verdict"] == NON_INFERIOR
    parts = [f"non-inferior on {kept.sum()} of {len(single)}"]
    everything = max((subset.split("+") for subset in single["subset"]), key=len)
    for verdict in (INFERIOR, INCONCLUSIVE):
        names = [modality_words(subset, everything) for subset in single["subset"][single["verdict"] == verdict]]
        parts += [f"{verdict} on {', '.join(names)}"] if names and not math.isnan(mean["low"]) else []
    return f"{told}. On single subsets, margin {number(single['margin'].iloc[0], metric)}: {'; '.join(parts)}."


def _judged(mean: pd.Series) -> str:
    if math.isnan(mean["low"]):
        return "no interval under 5 seeds, so nothing is said"
    return f"{mean['verdict']}, the margin is {number(mean['margin'], mean['metric'])}"
