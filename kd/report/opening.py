"""A report's first paragraph: short sentences for a reader who knows neither the study nor its statistics.

Names of nodes stand between backticks; `kd.report.words.rich` and the page turn them into code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from kd.report.tables import LOWER_IS_BETTER, interval, metric_name, number, stage_order
from kd.report.words import count_seeds, unit
from kd.statistics.verdicts import VERDICTS

PLACES = {"complete": "with every modality present", "mean over subsets": "in the mean over all subsets"}


def opening(
    subsets: pd.DataFrame,
    summary: pd.DataFrame,
    contrasts: pd.DataFrame,
    stages: pd.DataFrame,
    kinds: Mapping[str, str],
    metric: str,
) -> list[str]:
    """Return the first paragraph, sentence by sentence: what won, what was decided, what compression did.

    Args:
        subsets, summary, contrasts, stages: a run's tables.
        kinds: node -> baseline, teacher, student or ensemble.
        metric: the one the report leads with.
    """
    chosen = summary[summary["metric"] == metric]
    rows = contrasts[contrasts["metric"] == metric].to_dict("records")
    sentences = [
        _leader(chosen, versatile(subsets), kinds, metric),
        _extreme(rows, "better", metric),
        _extreme(rows, "worse", metric),
        _tally(rows, metric),
        *_compression(chosen, stages, metric),
    ]
    few = min(summary["seeds"], default=0)
    if 0 < few < 5:
        sentences.append(f"Only {count_seeds(few)}: a demonstration that every stage runs, not a result.")
    if not len(subsets):
        sentences.append("No subset of modalities was evaluated.")
    return [sentence for sentence in sentences if sentence]


def _code(name: object) -> str:
    text = str(name).replace("`", "'")
    return f"`{text}`"


def versatile(subsets: pd.DataFrame) -> list[str]:
    """Return the nodes that answer every subset: only their means are over the same questions."""
    answered = subsets.groupby("node", sort=False)["subset"].nunique()
    return list(answered[answered == subsets["subset"].nunique()].index)


def _leader(summary: pd.DataFrame, nodes: list[str], kinds: Mapping[str, str], metric: str) -> str:
    """Say which node has the best mean over all subsets, and that nothing distilled reached it where that is so."""
    cells = summary[(summary["what"] == "mean") & summary["node"].isin(nodes) & summary["mean"].notna()]
    if cells.empty:
        return ""
    best = cells.loc[cells["mean"].idxmin() if metric in LOWER_IS_BETTER else cells["mean"].idxmax()]
    kind = kinds.get(best["node"], "")
    stage = "" if best["stage"] == "float" else f", {best['stage']},"
    who = f"{kind} {_code(best['node'])}{stage}".strip()
    shown = interval(best["mean"], best["low"], best["high"], metric)
    extreme = "lowest" if metric in LOWER_IS_BETTER else "highest"
    fact = f"has the {extreme} {metric_name(metric)} in the mean over all subsets, {shown}."
    if kind in ("baseline", "ensemble", "teacher") and "student" in kinds.values():
        return f"Nothing distilled here scores above the {who}, which {fact}"
    return f"The {who} {fact}" if kind else f"{who} {fact}"


def _extreme(rows: list[dict[str, Any]], verdict: str, metric: str) -> str:
    """Say the largest decided gain or loss."""
    decided = [row for row in rows if row["verdict"] == verdict]
    if not decided:
        return ""
    row = max(decided, key=lambda row: abs(row["estimate"]))
    low, middle, high = row["low"], row["estimate"], row["high"]
    size = interval(*((middle, low, high) if middle > 0 else (-middle, -high, -low)), metric)
    middle, _, bracket = size.partition(" ")
    subset = str(row["subset"]).replace("`", "'")
    place = PLACES.get(subset, f"on {subset}")
    head, does = ("Best gain", "beats") if verdict == "better" else ("Worst loss", "is behind")
    amount = f"{middle} {unit(metric)} {bracket}".strip()
    return f"{head}: {_code(row['method'])} {does} {_code(row['baseline'])} by {amount} {place}."


def _tally(rows: list[dict[str, Any]], metric: str) -> str:
    if not rows:
        return "No comparison was declared, so nothing here is better or worse than anything else."
    counts = {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in VERDICTS}
    listing = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    return f"Of {len(rows)} declared comparison{'s' * (len(rows) != 1)} in {metric_name(metric)}: {listing}."


def _compression(summary: pd.DataFrame, stages: pd.DataFrame, metric: str) -> list[str]:
    """Say, per compressed node, what its last stage did to size, mean and worst subset, against float."""
    sentences = []
    for node, group in stages.groupby("node", sort=False):
        last = stage_order(group["stage"])[-1]
        size = group.groupby("stage")["bytes"].median()
        if last == "float" or "float" not in size:
            continue
        cells = summary[summary["node"] == node].set_index(["what", "stage"])["mean"]
        changes = [
            f"{number(cells[what, last] - cells[what, 'float'], metric, signed=True)} {unit(metric)} {place}"
            for what, place in (("mean", "in the mean over all subsets"), ("worst", "on the worst subset"))
            if (what, last) in cells and (what, "float") in cells
        ]
        after = f", at {' and '.join(changes)}" if changes else ""
        ratio = size["float"] / size[last]
        sentences.append(f"Compressing {_code(node)} to {last} divides its size by {ratio:.1f}{after}.")
    return sentences
