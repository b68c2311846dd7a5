"""Train by test: what a method scores under each way to hide modalities at test, for each way to hide them in training.

Columns are missing rates at test, from the rate curves, and the test masks of the config; the clean one stands first.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from kd.evaluate import BAYES
from kd.report.heatmap import HeatMap, as_text, heat_map

CLEAN = "clean"
"""Nothing hidden from test rows."""


def scores_at_test(rates: pd.DataFrame, masks: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Return every score under something hidden at test, in one form.

    Args:
        rates: of an ablation: `node`, `stage`, `seed`, `rate`, `value`; may have no rows.
        masks: `test_masks`; may have no rows.
        keys: columns that name a training setting; empty for a run.

    Returns:
        the keys, `node`, `seed`, `value` and `column`: `clean`, a rate in percent, or a test mask with its kind.
    """
    wanted = [*keys, "node", "seed", "value", "column"]
    curves, drawn = _float(rates), _float(masks)
    found = []
    if len(curves):
        found.append(curves.assign(column=[rate_name(rate) for rate in curves["rate"]]))
    if len(drawn):
        if len(curves):
            found[0] = found[0][found[0]["column"] != CLEAN]  # one clean column: that of the test masks
        found.append(drawn.assign(column=drawn["test_mask"].map(mask_names(drawn))))
    if not found:
        return pd.DataFrame(columns=wanted)
    return pd.concat([frame[wanted] for frame in found], ignore_index=True)


def _float(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[(frame["stage"] == "float") & (frame["node"] != BAYES)]


def rate_name(rate: float) -> str:
    """Return a missing rate as a column's name.

    >>> rate_name(0.0), rate_name(0.3), rate_name(2 / 3)
    ('clean', '30%', '67%')
    """
    return CLEAN if rate == 0 else f"{rate:.0%}"


def mask_names(masks: pd.DataFrame) -> dict[str, str]:
    """Return test mask -> the name of its column: its key in the config, MNAR where it is, and the share it hides.

    What a mask hides differs a little from seed to seed; its share is the mean.
    """
    found = {CLEAN: CLEAN}
    for key, own in masks[masks["test_mask"] != CLEAN].groupby("test_mask", sort=False):
        facts = [*(["MNAR"] if (own["kind"] == "MNAR").any() else []), f"{own['hidden'].mean():.0%} hidden"]
        found[str(key)] = f"{key} ({', '.join(facts)})"
    return found


def column_order(columns: Sequence[str]) -> list[str]:
    """Return columns with the clean one first and the others as they come, rates before masks.

    >>> column_order(["50%", "clean", "mar (30% hidden)", "20%"])
    ['clean', '20%', '50%', 'mar (30% hidden)']
    """
    known = list(dict.fromkeys(columns))
    rates = sorted((name for name in known if name[:-1].isdigit()), key=lambda name: int(name[:-1]))
    return [*([CLEAN] if CLEAN in known else []), *rates, *(n for n in known if n not in rates and n != CLEAN)]


def train_axes(axes: Sequence[str]) -> list[str]:
    """Return the axes that can set how modalities are hidden in training; all of them where none does.

    A grid of one has no axis: its only variant names the row.

    >>> train_axes(["mask.rate", "edges.*.weight"]), train_axes(["nodes.a.drop"]), train_axes([])
    (['mask.rate'], ['nodes.a.drop'], ['variant'])
    """
    return [axis for axis in axes if axis in ("mask", "use") or axis.startswith("mask.")] or list(axes) or ["variant"]


def train_by_test(means: pd.DataFrame, keys: Sequence[str], metric: str) -> dict[str, HeatMap]:
    """Return a heat map per method: training settings down, what is hidden at test across.

    Args:
        means: of `scores_at_test`, over seeds per node, key and column.
        keys: columns that name a training setting.
        metric: whose unit the scores have.
    """
    columns = column_order(list(means["column"]))
    return {str(node): heat_map(own, list(keys), metric, columns) for node, own in means.groupby("node", sort=False)}


def train_by_test_table(means: pd.DataFrame, keys: Sequence[str], metric: str) -> pd.DataFrame:
    """Return the same as one table of text with intervals, a row per method and training setting."""
    return as_text(means, ["node", *keys], metric, column_order(list(means["column"])))
