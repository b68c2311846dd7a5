"""Pictures of robustness: scores along the missing rate, and what each modality contributes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kd.report.axis import axis_chart
from kd.report.figures import BLUE, INK, PALE, drawing, short, svg
from kd.report.tables import metric_name, scale
from kd.statistics.intervals import mean_interval

PRIOR = "training prior"
MOST_LINES = 14


def rate_chart(frame: pd.DataFrame, nodes: Sequence[str], metric: str) -> str:
    """Draw a metric along the missing rate, a line per float node with its 95% t band over seeds.

    Args:
        frame: a run's `robustness`.
        nodes: to draw, the first 14; the training prior is drawn with them.
        metric: one of its metrics.
    """
    chosen = frame[(frame["metric"] == metric) & (frame["stage"] == "float")]
    lines = {node: chosen[chosen["node"] == node] for node in nodes[:MOST_LINES]}
    points = {
        node: [(float(rate), *mean_interval(cell["value"].to_numpy(float))) for rate, cell in _rates(own)]
        for node, own in lines.items()
    }
    chance = float(chosen[chosen["quantity"] == "chance"]["value"].mean())
    points[PRIOR] = [(rate, chance, chance, chance) for rate in sorted(set(chosen["rate"].dropna()))]
    return axis_chart(points, list(points), "missing rate", metric_name(metric), scale(metric), "rates")


def _rates(own: pd.DataFrame) -> list[tuple[float, pd.DataFrame]]:
    return list(own[own["quantity"] == "rate"].groupby("rate"))


def shapley_charts(games: pd.DataFrame, metric: str) -> dict[str, str]:
    """Draw the Shapley values of a metric with their intervals, a panel per float node that sees several modalities.

    All panels share their scale.
    """
    chosen = games[(games["metric"] == metric) & (games["stage"] == "float")]
    sizes = chosen.groupby("node")["modality"].transform("nunique")
    chosen = chosen[sizes > 1]
    ends = scale(metric) * chosen[["value", "low", "high"]].to_numpy(float)
    span = (min(0.0, float(np.nanmin(ends))), float(np.nanmax(ends))) if len(ends) else (0.0, 1.0)
    nodes = list(dict.fromkeys(chosen["node"]))
    return {
        node: _bars(chosen[chosen["node"] == node], metric, span, f"shapley{place}", node)
        for place, node in enumerate(nodes)
    }


def _bars(own: pd.DataFrame, metric: str, span: tuple[float, float], name: str, node: str) -> str:
    labels = [short(str(modality), 16) for modality in own["modality"]]
    values, low, high = scale(metric) * own[["value", "low", "high"]].to_numpy(float).T
    room = 0.06 * (span[1] - span[0] or 1.0)
    height = 0.45 + 0.3 * len(labels)
    left = min(0.45, (0.085 * max(map(len, labels)) + 0.15) / 4.2)
    with drawing(name, 4.2, height) as figure:
        axes = figure.add_axes((left, 0.3 / height, 0.98 - left, 1 - 0.35 / height))
        axes.barh(range(len(labels)), values, color=BLUE, height=0.6)
        axes.hlines(range(len(labels)), low, high, color=INK, linewidth=1.4)
        axes.axvline(0, color=PALE, linewidth=1, zorder=0)
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.set_xlim(span[0] - room * (span[0] < 0), span[1] + room)
        axes.tick_params(axis="y", length=0)
        axes.locator_params(axis="x", nbins=6)
        return svg(figure, name, f"Shapley value of each modality for {node}")
