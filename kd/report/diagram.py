"""The distillation graph as a picture: teachers on the left, students to their right, an arrow per edge.

A dashed arrow leads from a node to one that starts from its weights. An arrow that passes a whole column has a lane
to itself there, between the boxes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any

WIDTH, HEIGHT, GAP, STEP, MARGIN = 216, 62, 210, 84, 8
LANE = 22
"""Height that an arrow takes in a column which it passes."""
LONELY = 56
"""Distance from the last column to the nodes without edges."""
SPOTS = (0.32, 0.26, 0.38, 0.44, 0.5, 0.56, 0.62, 0.68)
"""Where along its curve a label may stand, best first."""
FILLS = {"teacher": "#e3eff7", "student": "#e2f3ec", "baseline": "#f3f3f3", "ensemble": "#fbece2"}
LINES = {"teacher": "#0072B2", "student": "#009E73", "baseline": "#8a8a8a", "ensemble": "#D55E00"}
Point = tuple[float, float]
Curve = tuple[Point, ...]
"""Where cubic Bézier curves start, then three points for each of them, one after another."""
Box = tuple[float, float, float, float]
Item = str | tuple[str, int]
"""What takes room in a column: a node by its name, or an edge that passes the column, by name and column."""


def graph_picture(graph: Mapping[str, Any]) -> str:
    """Draw nodes and edges as SVG; nodes without edges stand to the right of the others.

    Args:
        graph: `nodes` name -> {sees, rows, drop, kind, start}; `edges` name -> {teacher, student, loss, weight, view}.
    """
    nodes = graph.get("nodes", {})
    edges = {name: e for name, e in graph.get("edges", {}).items() if e["teacher"] in nodes and e["student"] in nodes}
    starts = {
        f"{name} starts from {origin}": {"teacher": origin, "student": name}
        for name, node in nodes.items()
        for origin in node.get("start", ())
        if origin in nodes
    }
    arrows = {**edges, **starts}
    places, lanes = place_nodes(nodes, arrows)
    curves = {name: _curve(name, arrows, places, lanes) for name in arrows}
    labels = _labels(edges, curves, places)
    loops = any(edge["teacher"] == edge["student"] for edge in edges.values())
    right = max([x + WIDTH for x, _ in places.values()] + [x + w for x, _, w in labels.values()], default=0) + MARGIN
    feet = [y + HEIGHT for _, y in places.values()] + [y + LANE / 2 for lane in lanes.values() for _, y in lane]
    bottom = max(feet, default=HEIGHT) + MARGIN + 18 * loops
    style = f"width:100%;min-width:{0.72 * right:.0f}px;max-width:{1.15 * right:.0f}px;height:auto"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {right:.0f} {bottom:.0f}" role="img" '
            f'aria-label="Distillation graph" style="{style}" font-family="inherit" font-size="13">',
            '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6.5" markerHeight="6.5" '
            'orient="auto"><path d="M0 0L8 4L0 8z" fill="#555"/></marker></defs>',
            *(_line(curve, dashed=name in starts) for name, curve in curves.items()),
            *(_box(name, nodes[name], place) for name, place in places.items()),
            *(_label(name, edges[name], place) for name, place in labels.items()),
            "</svg>",
        ]
    )


def place_nodes(nodes: Mapping[str, Any], edges: Mapping[str, Any]) -> tuple[dict[str, Point], dict[str, list[Point]]]:
    """Return the upper left corner of every node, and edge -> the left end of its lane in each column that it passes.

    A node's column is the longest chain of teachers before it.

    >>> edges = {"e": {"teacher": "a", "student": "b"}, "f": {"teacher": "b", "student": "c"}}
    >>> place_nodes({"a": {}, "b": {}, "alone": {}}, {"e": edges["e"]})
    ({'b': (434, 8.0), 'a': (8, 8.0), 'alone': (706, 8)}, {})
    >>> place_nodes({"a": {}, "b": {}, "c": {}}, edges | {"g": {"teacher": "a", "student": "c"}})[1]
    {'g': [(434, 103.0)]}
    """
    columns, after = _columns(nodes, edges)
    sizes = [sum(map(_height, column)) + (STEP - HEIGHT) * (len(column) - 1) for column in columns]
    tallest = max(sizes, default=0)
    middles: dict[Item, float] = {}
    places: dict[str, Point] = {}
    lanes: dict[str, list[Point]] = {}
    for index in reversed(range(len(columns))):
        left, top = MARGIN + index * (WIDTH + GAP), MARGIN + (tallest - sizes[index]) / 2
        for name in sorted(columns[index], key=lambda name: _mean([middles[other] for other in after.get(name, [])])):
            middles[name] = top + _height(name) / 2
            if isinstance(name, str):
                places[name] = (left, top)
            else:
                lanes[name[0]] = [(left, middles[name]), *lanes.get(name[0], [])]
            top += _height(name) + STEP - HEIGHT
    left = MARGIN + len(columns) * (WIDTH + GAP) - (GAP - LONELY) * bool(columns)
    for index, name in enumerate(name for name in nodes if name not in places):
        column, row = divmod(index, max(3, int((tallest + STEP - HEIGHT) / STEP)))
        places[name] = (left + column * (WIDTH + MARGIN * 2), MARGIN + row * STEP)
    return places, lanes


def _height(item: Item) -> int:
    return HEIGHT if isinstance(item, str) else LANE


def _columns(nodes: Mapping[str, Any], edges: Mapping[str, Any]) -> tuple[list[list[Item]], dict[Item, list[Item]]]:
    """Return what stands in each column, nodes and lanes, and what each leads to in the next."""
    between = {name: (e["teacher"], e["student"]) for name, e in edges.items() if e["teacher"] != e["student"]}
    depth = dict.fromkeys(nodes, 0)
    for _ in nodes:  # longest path by relaxation; a graph without cycles settles within as many rounds as it has nodes
        for teacher, student in between.values():
            depth[student] = max(depth[student], depth[teacher] + 1)
    linked = {name for pair in between.values() for name in pair}
    columns: list[list[Item]] = [[] for _ in range(max((depth[name] + 1 for name in linked), default=0))]
    for name in nodes:
        if name in linked:
            columns[depth[name]].append(name)
    after: dict[Item, list[Item]] = {}
    for name, (teacher, student) in between.items():
        passed: list[Item] = [(name, column) for column in range(depth[teacher] + 1, depth[student])]
        for column, lane in enumerate(passed, depth[teacher] + 1):
            columns[column].append(lane)
        for one, other in pairwise([teacher, *passed, student]):
            after.setdefault(one, []).append(other)
    return columns, after


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _box(name: str, node: Mapping[str, Any], place: tuple[float, float]) -> str:
    x, y = place
    kind = str(node.get("kind", "baseline"))
    sees = f"{kind}, sees {', '.join(map(str, node['sees']))}" if node.get("sees") else kind
    start = f"started from {', '.join(node['start'])}" if node.get("start") else ""
    rows = f"{node['rows']} rows" if node.get("rows") else ""
    drop = f"drop {node['drop']}" if node.get("drop") else ""
    details = " · ".join(part for part in ("started" if start else "", rows, drop) if part)
    told = "; ".join(part for part in (sees, rows, drop, start) if part)
    return (
        f"<g><title>{escape(f'{name}: {told}')}</title>"
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{FILLS.get(kind, "#f3f3f3")}" '
        f'stroke="{LINES.get(kind, "#8a8a8a")}"/>'
        f'<text x="{x + 10}" y="{y + 20}" font-weight="600" fill="#1a1a1a">{_fit(name, 22)}</text>'
        f'<text x="{x + 10}" y="{y + 37}" font-size="12" fill="#333">{_fit(sees, 28)}</text>'
        f'<text x="{x + 10}" y="{y + 53}" font-size="12" fill="#333">{_fit(details, 34)}</text></g>'
    )


def _fit(text: str, length: int) -> str:
    return escape(text if len(text) <= length else text[: length - 1] + "…")


def _curve(
    name: str, edges: Mapping[str, Any], places: Mapping[str, Point], lanes: Mapping[str, Sequence[Point]]
) -> Curve:
    """Return an edge's curve: from the teacher's right side along its lanes to the student's left, or a loop."""
    teacher, student = edges[name]["teacher"], edges[name]["student"]
    (x1, y1), (x2, y2) = places[teacher], places[student]
    if teacher == student:
        foot = y1 + HEIGHT
        return (x1 + 30, foot), (x1 + 30, foot + 22), (x1 + 66, foot + 22), (x1 + 66, foot)
    found = [(x1 + WIDTH, y1 + _port(name, edges, places, lanes, "teacher", "student"))]
    for x, y in lanes.get(name, []):
        found += [*_bend(found[-1], (x, y)), (x, y), (x + WIDTH, y), (x + WIDTH, y)]
    return *found, *_bend(found[-1], (x2 - 2, y2 + _port(name, edges, places, lanes, "student", "teacher")))


def _bend(start: Point, end: Point) -> tuple[Point, Point, Point]:
    middle = (start[0] + end[0]) / 2
    return (middle, start[1]), (middle, end[1]), end


def _port(
    name: str,
    edges: Mapping[str, Any],
    places: Mapping[str, Point],
    lanes: Mapping[str, Sequence[Point]],
    side: str,
    other: str,
) -> float:
    """Return how far below a node's top an edge meets it: its edges share the side, in the order they come from."""

    def height(key: str) -> float:
        passed = lanes.get(key)
        return passed[0 if side == "teacher" else -1][1] if passed else places[edges[key][other]][1] + HEIGHT / 2

    node = edges[name][side]
    mates = [key for key, e in edges.items() if e[side] == node and e["teacher"] != e["student"]]
    mates.sort(key=height)
    step = min(14.0, (HEIGHT - 12) / len(mates))
    return HEIGHT / 2 + (mates.index(name) - (len(mates) - 1) / 2) * step


def _at(curve: Curve, t: float) -> Point:
    """Return a point of the first of the curves."""
    weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
    x, y = (sum(w * point[axis] for w, point in zip(weights, curve[:4], strict=True)) for axis in (0, 1))
    return x, y


def _labels(
    edges: Mapping[str, Any], curves: Mapping[str, Curve], places: Mapping[str, Point]
) -> dict[str, tuple[float, float, float]]:
    """Return left, middle height and width of every label: on its curve, where it meets no box and no other label."""
    boxes = [(x, y + HEIGHT / 2, WIDTH, HEIGHT) for x, y in places.values()]
    found: dict[str, tuple[float, float, float]] = {}
    for name in sorted(edges, key=lambda name: edges[name]["teacher"] != edges[name]["student"]):
        width = 6.3 * len(_shown(edges[name])) + 8
        taken = [*boxes, *((x, y, w, 18) for x, y, w in found.values())]
        if edges[name]["teacher"] == edges[name]["student"]:
            spots = [(curves[name][2][0] + 4, curves[name][3][1] + 11)]
        else:
            lane = (
                [((curves[name][3][0] + curves[name][6][0]) / 2, curves[name][3][1])] if len(curves[name]) > 4 else []
            )
            spots = [(x - width / 2, y) for x, y in (*lane, *(_at(curves[name], t) for t in SPOTS))]
        free = [spot for spot in spots if not any(_meet((*spot, width, 18), other) for other in taken)]
        found[name] = (*(free or spots)[0], width)
    return found


def _meet(one: Box, other: Box) -> bool:
    """Say whether two boxes, given by left, middle height, width and height, overlap."""
    beside = one[0] + one[2] <= other[0] or other[0] + other[2] <= one[0]
    return not beside and abs(one[1] - other[1]) < (one[3] + other[3]) / 2


def _line(curve: Curve, *, dashed: bool) -> str:
    (start, *rest) = (f"{x:.1f} {y:.1f}" for x, y in curve)
    path = f"M{start}C{' '.join(rest)}"
    dash = ' stroke-dasharray="4 4"' if dashed else ""
    return f'<path d="{path}" fill="none" stroke="#555" stroke-width="1.3"{dash} marker-end="url(#arrow)"/>'


def _label(name: str, edge: Mapping[str, Any], place: tuple[float, float, float]) -> str:
    left, middle, width = place
    return (
        f"<g><title>{escape(f'{name}: {dict(edge)}')}</title>"
        f'<rect x="{left:.1f}" y="{middle - 9:.1f}" width="{width:.1f}" height="18" fill="white"/>'
        f'<text x="{left + width / 2:.1f}" y="{middle + 4:.1f}" text-anchor="middle" font-size="12" fill="#1a1a1a">'
        f"{escape(_shown(edge))}</text></g>"
    )


def _shown(edge: Mapping[str, Any]) -> str:
    label = edge_label(edge)
    return label if len(label) <= 26 else label[:25] + "…"


def edge_label(edge: Mapping[str, Any]) -> str:
    """Return an edge as loss, temperature if it has one, × weight; a node that teaches itself adds a `full` view.

    >>> edge_label({"teacher": "a", "student": "b", "loss": {"name": "kl", "temperature": 3}, "weight": 1.0})
    'kl T=3 × 1'
    """
    loss = edge.get("loss", "")
    name = loss.get("name", "") if isinstance(loss, Mapping) else loss
    heat = loss.get("temperature") if isinstance(loss, Mapping) else None
    weight = edge.get("weight", 1)
    shown = f"{weight:g}" if isinstance(weight, (int, float)) else "warm-up"
    own = edge.get("teacher") == edge.get("student")
    view = f", view {edge['view']}" if own and edge.get("view") in ("full", "averaged") else ""
    return f"{name}{'' if heat is None else f' T={heat}'} × {shown}{view}"
