"""Heat maps as tables: a number in every cell on a shade of one scale, its interval in the cell's title.

One hue from light to dark is told apart by colour-blind readers and in print; the numbers say the same without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kd.report.setting import value_name
from kd.report.tables import LOWER_IS_BETTER, NOTHING, interval, modalities, number, subset_order, subset_table
from kd.statistics import SEEDS_FOR_INTERVAL
from kd.statistics.intervals import half_width

SHADES = 10
"""Steps of the scale, as the style sheet has them: `s0` is the worst, `s9` the best."""


@dataclass(frozen=True)
class Cell:
    """One number: how it is shown, what its title says, and the class of its shade; none where nothing is known."""

    text: str
    title: str
    shade: str


@dataclass(frozen=True)
class HeatMap:
    """A table of shaded numbers.

    Attributes:
        heads: names of the columns that name a row.
        columns: names of the others.
        rows: what names a row, and its cells.
        dots: modality -> whether it is present, by column; empty where columns are no subsets.
    """

    heads: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[tuple[str, ...], tuple[Cell, ...]], ...]
    dots: dict[str, tuple[bool, ...]]


def heat_map(frame: pd.DataFrame, heads: Sequence[str], metric: str, columns: Sequence[str] | None = None) -> HeatMap:
    """Return a heat map of means with intervals.

    Args:
        frame: the columns `heads`, `column`, `mean`, `low`, `high` and `seeds`, a row per cell.
        heads: columns that name a row, which are left out where they are the same in all rows but the first of them.
        metric: whose unit and direction the numbers have.
        columns: names of the columns in order; by default as they come.
    """
    order = list(columns) if columns is not None else list(dict.fromkeys(frame["column"]))
    span = limits(frame["mean"])
    rows = []
    for key, group in frame.groupby(list(heads), sort=False, dropna=False):
        known = {r.column: cell(r, metric, span) for r in group.itertuples(index=False)}
        rows.append((tuple(map(value_name, key)), tuple(known.get(name, UNKNOWN) for name in order)))
    return HeatMap(tuple(heads), tuple(order), tuple(rows), {})


UNKNOWN = Cell(NOTHING, "no answer", "none")


def limits(means: pd.Series) -> tuple[float, float]:
    """Return the least and the greatest finite number; 0 and 1 where there is none."""
    known = means.to_numpy(float)
    known = known[np.isfinite(known)]
    return (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)


def cell(row: object, metric: str, span: tuple[float, float]) -> Cell:
    """Return a row of `mean`, `low`, `high` and `seeds` as a cell."""
    mean, low, high, seeds = (getattr(row, name) for name in ("mean", "low", "high", "seeds"))
    if pd.isna(mean):
        return UNKNOWN
    title = f"{interval(mean, low, high, metric)}, {seeds} seed{'s' * (seeds != 1)}"
    return Cell(number(mean, metric), title, shade(mean, metric, span))


def shade(value: float, metric: str, span: tuple[float, float]) -> str:
    """Return the class of a number's shade; the darker, the better.

    >>> shade(0.9, "accuracy", (0.5, 0.9)), shade(0.9, "nll", (0.5, 0.9)), shade(0.7, "accuracy", (0.7, 0.7))
    ('s9', 's0', 's5')
    """
    low, high = span
    strength = (value - low) / (high - low) if high > low else 0.5
    good = 1 - strength if metric in LOWER_IS_BETTER else strength
    return f"s{min(SHADES - 1, int(SHADES * good))}"


def subset_heat_map(frame: pd.DataFrame, metric: str) -> HeatMap:
    """Return the heat map of methods and stages by subsets of modalities.

    Args:
        frame: a run's `subsets`, or the rows of one setting of an ablation's `results`.
        metric: one of its metrics.
    """
    table = subset_table(frame, metric).rename(columns={"subset": "column"})
    columns = subset_order(table["column"])
    stages = ["stage"] if table["stage"].nunique() > 1 else []
    found = heat_map(table, ["node", *stages], metric, columns)
    present = {name: tuple(name in subset.split("+") for subset in columns) for name in modalities(columns)}
    return HeatMap(found.heads, found.columns, found.rows, present)


def over_seeds(frame: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Return mean and 95% t interval over seeds per key, each seed's score being its mean over all else.

    Args:
        frame: `seed`, `value` and the keys; a row per score.
        keys: columns that name a cell.
    """
    per_seed = frame.groupby([*keys, "seed"], sort=False, dropna=False)["value"].mean().astype(float)
    found = per_seed.groupby(level=list(range(len(keys))), sort=False, dropna=False).agg(["mean", "sem", "size"])
    half = half_width(found["sem"], found["size"] - 1).where(found["size"] >= SEEDS_FOR_INTERVAL)
    ends = {"low": found["mean"] - half, "high": found["mean"] + half, "seeds": found["size"]}
    return found.assign(**ends).reset_index()[[*keys, "mean", "low", "high", "seeds"]]


def heat_picture(table: pd.DataFrame, labels: Sequence[str], title: str, factor: float, name: str) -> str:
    """Draw a table of numbers as an SVG: each on a shade of one scale, the darker, the higher.

    Args:
        table: [rows, columns], names as index and columns; NaN is left white.
        labels: of the index and of the columns.
        title: of the picture.
        factor: from a recorded number to the one shown.
        name: of the figure, for its ids.
    """
    from kd.report.figures import drawing, svg

    values = factor * table.to_numpy(float)
    heads = [value_name(value) for value in table.index]
    left = 0.25 * bool(labels[0]) + 0.075 * max(map(len, heads)) + 0.15
    width, height = left + 0.62 * values.shape[1] + 0.1, 0.28 * values.shape[0] + 0.95
    with drawing(name, width, height) as figure:
        axes = figure.add_axes((left / width, 0.6 / height, 1 - (left + 0.1) / width, 1 - 0.95 / height))
        axes.imshow(
            values, cmap="Blues", aspect="auto", vmin=np.nanmin(values) - 0.1 * np.ptp(values[~np.isnan(values)])
        )
        middle = (np.nanmin(values) + np.nanmax(values)) / 2
        for (row, column), value in np.ndenumerate(values):
            if not np.isnan(value):
                colour = "white" if value > middle else "#1a1a1a"
                axes.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=8, color=colour)
        columns = [value_name(value).replace("+", "\n") for value in table.columns]
        axes.set_xticks(range(len(columns)), columns, fontsize=7.5)
        axes.set_yticks(range(len(heads)), heads, fontsize=8)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_title(title, fontsize=9.5, loc="left")
        axes.set_xlabel(labels[1])
        axes.set_ylabel(labels[0])
        return svg(figure, name, title)


def as_text(frame: pd.DataFrame, heads: Sequence[str], metric: str, columns: Sequence[str]) -> pd.DataFrame:
    """Return the same cells as a table of text with intervals, for Markdown, LaTeX and readers of the page."""
    rows = []
    for key, group in frame.groupby(list(heads), sort=False, dropna=False):
        known = {r.column: interval(r.mean, r.low, r.high, metric) for r in group.itertuples(index=False)}
        rows.append([*map(value_name, key), *(known.get(name, NOTHING) for name in columns)])
    return pd.DataFrame(rows, columns=[*heads, *columns])
