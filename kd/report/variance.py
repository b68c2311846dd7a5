"""Where the variance of a score comes from, told from a grid that varies the seeds of mask or split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kd.errors import DataError
from kd.report import tables
from kd.statistics.variance import REST, components

SEED_AXES = {"mask_seed": "mask", "split.seed": "split"}
"""Axis -> what its seed draws."""


@dataclass
class Shares:
    """Components of one node's score.

    Attributes:
        where: values of the other axes, node and score.
        parts: of `kd.statistics.variance.components`, factors by what they draw; no rows where it could not be split.
        reason: why it could not.
    """

    where: dict[str, str]
    parts: pd.DataFrame
    reason: str = ""


def drawn_anew(values: pd.DataFrame, axes: Sequence[str], config: Mapping[str, Any]) -> dict[str, str]:
    """Return column -> what it draws anew, where there is something to tell apart; else nothing.

    Args:
        values: scores of an ablation, a row per variant, node, seed and kind of score.
        axes: of the grid.
        config: of its first variant.
    """
    varied = {axis: name for axis, name in SEED_AXES.items() if axis in axes and values[axis].nunique() > 1}
    if not varied or values["seed"].nunique() < 2:
        return {}
    alone = "mask_seed" in varied or config.get("mask_seed") is not None
    return varied | {"seed": "training" if alone else "mask and training"}


def shares(values: pd.DataFrame, axes: Sequence[str], drawn: Mapping[str, str]) -> list[Shares]:
    """Return the components of every node's scores, apart for every value of the other axes."""
    found = []
    others = [axis for axis in axes if axis not in drawn]
    for key, group in values.groupby([*others, "node", "what"], sort=False):
        where = dict(zip([*others, "node", "score"], map(str, key), strict=True))
        try:
            parts = components(group, list(drawn), "value")
            found.append(Shares(where, parts.assign(factor=parts["factor"].replace(dict(drawn)))))
        except DataError as error:
            found.append(Shares(where, pd.DataFrame(columns=["factor", "variance", "share", "negative"]), str(error)))
    return found


def variance_table(found: Sequence[Shares], metric: str) -> pd.DataFrame:
    """Return components as text: standard deviation in the metric's unit, and its share of the variance."""
    rows = []
    for each in found:
        cells = {f"{part.factor}, SD": _cell(part, metric) for part in each.parts.itertuples(index=False)}
        rows.append({**each.where, **cells})
    return pd.DataFrame(rows).fillna(tables.NOTHING)


def _cell(part: Any, metric: str) -> str:
    share = "" if np.isnan(part.share) else f" ({part.share:.0%})"
    return tables.number(float(np.sqrt(part.variance)), metric) + share


def variance_sentences(found: Sequence[Shares]) -> list[str]:
    """Say for every node where its variance comes from, which estimates were cut at 0, and what could not be split."""
    sentences = []
    for each in found:
        rest = {name: value for name, value in each.where.items() if name not in ("node", "score")}
        place = "".join(f", {name} = {value}" for name, value in rest.items())
        sentences.append(f"`{each.where['node']}`, {each.where['score']}{place}: {_told(each)}.")
    return sentences


def _told(each: Shares) -> str:
    if each.reason:
        return each.reason
    if each.parts["share"].isna().any():
        return "its scores do not vary"
    ordered = each.parts.sort_values("share", ascending=False, kind="stable")
    names = ordered["factor"].replace({REST: "their interplay and the rest"})
    listing = ", ".join(f"{share:.0%} {name}" for name, share in zip(names, ordered["share"], strict=True))
    below = list(ordered.loc[ordered["negative"], "factor"])
    return f"{listing}{'; the estimate of ' + ' and '.join(below) + ' was below 0' if below else ''}"
