"""Scores along an axis of a grid: a line per node, with its interval over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from kd.report.figures import BLUE, GREEN, INK, ORANGE, drawing, short, svg
from kd.report.setting import value_name

COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", "#E69F00", INK)
"""Okabe and Ito's (2008)."""
DASHES, MARKS = ("-", "--", "-.", ":"), ("o", "s", "^", "D", "v")


def line_of(place: int) -> dict[str, str]:
    """Return how the line of a node is drawn: every one of the first 28 in another colour or dash."""
    return {
        "color": COLOURS[place % len(COLOURS)],
        "linestyle": DASHES[place // len(COLOURS) % len(DASHES)],
        "marker": MARKS[place % len(MARKS)],
    }


def axis_chart(
    points: Mapping[str, Sequence[tuple[object, float, float, float]]],
    lines: Sequence[str],
    axis: str,
    title: str,
    factor: float,
    name: str,
) -> str:
    """Draw scores along an axis as an SVG.

    Args:
        points: node -> (value of the axis, mean, low, high).
        lines: every node there may be, in order, so that each is drawn alike in all charts.
        axis: its name; its values are places on a line where all are numbers, else names side by side.
        title: of the chart.
        factor: from a recorded score to the one shown.
        name: of the figure, for its ids.
    """
    values = list(dict.fromkeys(point[0] for own in points.values() for point in own))
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    places = {value: value if numbers else place for place, value in enumerate(values)}
    height = max(3.1, 0.7 + 0.19 * len(points))  # many lines have a long legend
    with drawing(name, 5.2, height) as figure:
        axes = figure.add_axes((0.1, 0.5 / height, 0.58, 1 - 0.81 / height))
        for node, own in points.items():
            line = line_of(list(lines).index(node))
            ordered = sorted(own, key=lambda point: places[point[0]])  # type: ignore[arg-type,return-value]
            where = [places[point[0]] for point in ordered]
            mean, low, high = factor * np.array([point[1:] for point in ordered], dtype=float).T
            axes.plot(where, mean, linewidth=1.5, markersize=3.5, label=short(node, 22), **line)  # type: ignore[arg-type]
            axes.fill_between(where, low, high, color=line["color"], alpha=0.13, linewidth=0)  # type: ignore[arg-type]
        if not numbers:
            axes.set_xticks(range(len(values)), [value_name(value)[:18] for value in values])
        axes.set_title(title, fontsize=9.5, loc="left")
        axes.set_xlabel(axis)
        axes.legend(frameon=False, fontsize=8.5, loc="center left", bbox_to_anchor=(1.02, 0.5), handlelength=2.2)
        return svg(figure, name, f"{title} along {axis}")
