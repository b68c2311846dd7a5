"""Figures as inline SVG: the graph, training curves and the cost of each stage.

The same records give the same bytes: ids are salted with the figure's name, and no date is written. Colours are Okabe
and Ito's (2008), told apart by colour-blind readers; lines differ in dash as well.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kd.report.tables import metric_name, scale, stage_order, subset_table
from kd.statistics.intervals import mean_interval

BLUE, ORANGE, GREEN, INK, PALE = "#0072B2", "#D55E00", "#009E73", "#1a1a1a", "#d9d9d9"
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": "#8a8a8a",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "none",
    "text.parse_math": False,
    "hatch.color": "#c4c4c4",
    "hatch.linewidth": 0.7,
}


@contextmanager
def drawing(name: str, width: float, height: float) -> Iterator[Figure]:
    """Give a figure of ours, width and height in inches."""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        yield Figure(figsize=(width, height))


def svg(figure: Figure, name: str, label: str) -> str:
    """Return a figure as an SVG element that scales with its container; its ids are unique to `name`."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    width = figure.get_figwidth() * 120
    opening = f'<svg role="img" aria-label="{_escape(label)}" style="width:100%;max-width:{width:.0f}px;height:auto"'
    text = re.sub(r'<svg([^>]*?) width="[^"]*"', r"<svg\1", text, count=1)
    text = re.sub(r'<svg([^>]*?) height="[^"]*"', r"<svg\1", text, count=1)
    text = text.replace("<svg", opening, 1)
    text = re.sub(r' id="([^"]+)"', rf' id="{name}-\1"', text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)


def _escape(text: str) -> str:
    for sign, instead in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(sign, instead)
    return text


def short(text: str, length: int) -> str:
    """Return a label cut to a length.

    >>> short("a long name", 7)
    'a long…'
    """
    return text if len(text) <= length else text[: length - 1] + "…"


def training_curves(frame: pd.DataFrame) -> dict[str, str]:
    """Draw one panel per node: losses on the left, validation accuracy on the right, 95% t bands across seeds.

    Accuracy has one scale for all nodes; losses have their own, for their terms differ.
    """
    scores = frame[frame["quantity"] == "validation_accuracy"]["value"]
    span = (100 * scores.min() - 2, 100 * scores.max() + 2) if len(scores) else (0.0, 100.0)
    nodes = dict.fromkeys(frame["node"])
    return {
        node: _curves(frame[frame["node"] == node], f"curves{place}", node, span) for place, node in enumerate(nodes)
    }


def _curves(frame: pd.DataFrame, name: str, node: str, span: tuple[float, float]) -> str:
    with drawing(name, 4.6, 1.9) as figure:
        losses, scores = figure.subplots(1, 2)
        _band(losses, frame, "train_loss", BLUE, "-", label="training")
        _band(losses, frame, "validation_loss", ORANGE, "--", label="validation")
        _band(scores, frame, "validation_accuracy", GREEN, "-", label="validation")
        losses.set(title="loss", xlabel="epoch")
        scores.set(title="validation accuracy, %", xlabel="epoch", ylim=span)
        for axes in (losses, scores):
            axes.title.set_fontsize(9.5)
            axes.locator_params(integer=True, axis="x", nbins=5)
            axes.locator_params(axis="y", nbins=5)
        if losses.lines:
            losses.legend(frameon=False, fontsize=8.5, handlelength=1.6)
        figure.subplots_adjust(left=0.1, right=0.99, top=0.87, bottom=0.24, wspace=0.26)
        return svg(figure, name, f"Training curves of {node}")


def _band(axes: Axes, frame: pd.DataFrame, quantity: str, colour: str, dash: str, *, label: str) -> None:
    chosen = frame[frame["quantity"] == quantity]
    if chosen.empty:
        return
    factor = 100.0 if quantity.endswith("accuracy") else 1.0
    per_epoch = {epoch: group["value"].to_numpy(float) for epoch, group in chosen.groupby("epoch")}
    epochs = list(per_epoch)
    mean, low, high = factor * np.array([mean_interval(values) for values in per_epoch.values()]).T
    axes.plot(epochs, mean, dash, color=colour, linewidth=1.6, label=label, marker="o" if len(epochs) == 1 else None)
    axes.fill_between(epochs, low, high, color=colour, alpha=0.18, linewidth=0)


def stage_charts(stages: pd.DataFrame, subsets: pd.DataFrame, metric: str) -> list[str]:
    """Draw bytes, median latency and the metric (everything present, mean and worst subset) as bars per stage."""
    pairs = [
        (node, stage) for node, group in stages.groupby("node", sort=False) for stage in stage_order(group["stage"])
    ]
    labels = [short(f"{node} {stage}", 22) for node, stage in pairs]
    middle = stages.groupby(["node", "stage"])[["bytes", "latency_ms_median"]].median()
    sizes = [middle.loc[pair, "bytes"] / 1024 for pair in pairs]
    times = [middle.loc[pair, "latency_ms_median"] for pair in pairs]
    return [
        _bars("sizes", "size on disk, KiB", labels, sizes, BLUE, ",.0f" if max(sizes) >= 100 else ",.1f"),
        _bars("times", "median latency, ms", labels, times, ORANGE, ".3f"),
        _spread(pairs, labels, subset_table(subsets, metric), metric),
    ]


def _bars(name: str, title: str, labels: list[str], values: Sequence[float], colour: str, form: str) -> str:
    with drawing(name, 4.2, 0.7 + 0.3 * len(labels)) as figure:
        axes = _rows(figure, labels, title)
        axes.barh(range(len(values)), values, color=colour, height=0.62)
        top = max([value for value in values if np.isfinite(value)], default=1.0)
        for place, value in enumerate(values):
            shown = format(value, form) if np.isfinite(value) else "not measured"
            axes.text((value if np.isfinite(value) else 0) + 0.02 * top, place, shown, va="center", fontsize=8.5)
        axes.set_xlim(0, 1.28 * top)
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        return svg(figure, name, f"{title} per stage")


def _spread(pairs: list[tuple[str, str]], labels: list[str], table: pd.DataFrame, metric: str) -> str:
    with drawing("spread", 4.2, 0.95 + 0.3 * len(labels)) as figure:
        axes = _rows(figure, labels, f"{metric_name(metric)} over subsets")
        for place, (node, stage) in enumerate(pairs):
            cells = table[(table["node"] == node) & (table["stage"] == stage)]
            if cells.empty:
                continue
            values = scale(metric) * cells["mean"]
            axes.plot([values.min(), values.max()], [place, place], color=PALE, linewidth=3, zorder=1)
            axes.plot(
                [values.min(), values.max()], [place, place], "o", color=GREEN, markerfacecolor="white", markersize=6
            )
            axes.plot(values.mean(), place, "|", color=INK, markersize=12, markeredgewidth=1.6)
            axes.plot(values[cells["size"].idxmax()], place, "o", color=GREEN, markersize=6)
        axes.locator_params(axis="x", nbins=6)
        return svg(figure, "spread", f"{metric_name(metric)} per stage over the subsets of modalities")


def _rows(figure: Figure, labels: list[str], title: str) -> Axes:
    left = min(0.45, (0.085 * max(map(len, labels), default=1) + 0.15) / figure.get_figwidth())
    bottom = 0.3 if "subsets" in title else 0.05
    height = figure.get_figheight()
    axes = figure.add_axes((left, bottom / height, 0.98 - left, 1 - (bottom + 0.35) / height))
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    figure.text(0.01, 1 - 0.2 / height, title, fontsize=9.5, va="center")
    return axes
