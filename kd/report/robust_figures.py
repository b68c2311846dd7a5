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


def rate_chart(frame: pd.DataFrame, nodes: Sequence[str], metric: str, name: str = "rates") -> str:
    """Draw a metric along the missing rate, a line per float node with its 95% t band over seeds.

    Args:
        frame: a run's `robustness`.
        nodes: to draw, the first 14; the training prior is drawn with them.
        metric: one of its metrics.
        name: of the figure, for its ids.
    """
    chosen = frame[(frame["metric"] == metric) & (frame["stage"] == "float")]
    points = rate_points(chosen[chosen["quantity"] == "rate"], nodes[:MOST_LINES])
    chance = float(chosen[chosen["quantity"] == "chance"]["value"].mean())
    points[PRIOR] = [(rate, chance, chance, chance) for rate in sorted(set(chosen["rate"].dropna()))]
    return axis_chart(points, list(points), "missing rate", metric_name(metric), scale(metric), name)


def setting_rate_chart(frame: pd.DataFrame, nodes: Sequence[str], metric: str, name: str, title: str) -> str:
    """Draw the same for one setting of an ablation; a node is drawn alike in the charts of all settings.

    Args:
        frame: the setting's rows of an ablation's `rates`.
        nodes: to draw, the first 14.
        metric: the primary one.
        name: of the figure, for its ids.
        title: of the setting.
    """
    chosen = list(nodes[:MOST_LINES])
    points = {node: own for node, own in rate_points(frame[frame["stage"] == "float"], chosen).items() if own}
    return axis_chart(points, chosen, "missing rate at test", title, scale(metric), name)


def rate_points(frame: pd.DataFrame, nodes: Sequence[str]) -> dict[str, list[tuple[object, float, float, float]]]:
    """Return node -> rate, mean and 95% t interval over seeds at each missing rate."""
    lines = {node: frame[frame["node"] == node] for node in nodes}
    return {
        node: [(float(rate), *mean_interval(cell["value"].to_numpy(float))) for rate, cell in own.groupby("rate")]
        for node, own in lines.items()
    }


def shapley_charts(games: pd.DataFrame, metric: str) -> dict[str, str]:
    """Draw the Shapley values of a metric with their intervals, a panel per float node that sees several modalities.

    All panels share their scale.
    """
    chosen = games[(games["metric"] == metric) & (games["stage"] == "float")]
    sizes = chosen.groupby("node")["modality"].transform("nunique")
    chosen, span = chosen[sizes > 1], _span(chosen[sizes > 1], metric)
    nodes = list(dict.fromkeys(chosen["node"]))
    return {
        node: _bars(chosen[chosen["node"] == node], metric, span, f"shapley{place}", node)
        for place, node in enumerate(nodes)
    }


def _span(games: pd.DataFrame, metric: str) -> tuple[float, float]:
    ends = scale(metric) * games[["value", "low", "high"]].to_numpy(float)
    return (min(0.0, float(np.nanmin(ends))), float(np.nanmax(ends))) if len(ends) else (0.0, 1.0)


def _bars(own: pd.DataFrame, metric: str, span: tuple[float, float], name: str, node: str) -> str:
    labels = [short(str(modality), 30) for modality in own["modality"]]
    values, low, high = scale(metric) * own[["value", "low", "high"]].to_numpy(float).T
    room = 0.06 * (span[1] - span[0] or 1.0)
    height = 0.45 + (0.3 if len(labels) <= 8 else 0.2) * len(labels)
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


def setting_shapley_charts(
    games: pd.DataFrame, nodes: Sequence[str], metric: str, settings: dict[object, str]
) -> dict[str, str]:
    """Draw the Shapley values of chosen nodes, a panel for each: the settings of an ablation below every modality.

    All panels share their scale.

    Args:
        games: an ablation's `shapley`, with the column `variant`.
        nodes: to draw; those that see one modality are left out.
        metric: one of its metrics.
        settings: variant -> its name, those to draw.
    """
    chosen = games[(games["metric"] == metric) & (games["stage"] == "float") & games["variant"].isin(settings)]
    chosen = chosen[chosen.groupby("node")["modality"].transform("nunique") > 1]
    rows = chosen.assign(modality=chosen["modality"].astype(str), setting=chosen["variant"].map(settings))
    span = _span(rows, metric)
    found = {}
    for place, node in enumerate(nodes):
        own = rows[rows["node"] == node]
        if len(own):
            found[str(node)] = _bars(_by_modality(own), metric, span, f"shapley{place}", str(node))
    return found


def _by_modality(own: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of one node modality by modality; where there are several settings, each row names its own."""
    place = {name: number for number, name in enumerate(own["modality"].unique())}
    ordered = own.sort_values("modality", key=lambda names: names.map(place), kind="stable")
    if ordered["setting"].nunique() == 1:
        return ordered
    return ordered.assign(modality=ordered["modality"] + ", " + ordered["setting"].astype(str))
