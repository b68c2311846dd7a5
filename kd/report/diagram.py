"""The distillation graph as a picture: teachers on the left, students to their right, an arrow per edge.

A dashed arrow leads from a node to one that starts from its weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT, GAP, STEP, MARGIN = 216, 62, 210, 84, 8
LONELY = 56
"""Distance from the last column to the nodes without edges."""
SPOTS = (0.32, 0.26, 0.38, 0.44, 0.5, 0.56, 0.62, 0.68)
"""Where along its curve a label may stand, best first."""
FILLS = {"teacher": "#e3eff7", "student": "#e2f3ec", "baseline": "#f3f3f3", "ensemble": "#fbece2"}
LINES = {"teacher": "#0072B2", "student": "#009E73", "baseline": "#8a8a8a", "ensemble": "#D55E00"}
Point = tuple[float, float]
Curve = tuple[Point, Point, Point, Point]
Box = tuple[float, float, float, float]


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
    places = place_nodes(nodes, arrows)
    curves = {name: _curve(name, arrows, places) for name in arrows}
    labels = _labels(edges, curves, places)
    loops = any(edge["teacher"] == edge["student"] for edge in edges.values())
    right = max([x + WIDTH for x, _ in places.values()] + [x + w for x, _, w in labels.values()], default=0) + MARGIN
    bottom = max((y for _, y in places.values()), default=0) + HEIGHT + MARGIN + 18 * loops
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


def place_nodes(nodes: Mapping[str, Any], edges: Mapping[str, Any]) -> dict[str, Point]:
    """Return the upper left corner of every node: its column is the longest chain of teachers before it.

    >>> edge = {"teacher": "a", "student": "s"}
    >>> place_nodes({"a": {}, "s": {}, "alone": {}}, {"e": edge})
    {'s': (434, 8.0), 'a': (8, 8.0), 'alone': (706, 8)}
    """
    pairs = [(e["teacher"], e["student"]) for e in edges.values() if e["teacher"] != e["student"]]
    columns = _columns(nodes, pairs)
    tallest = max((len(column) for column in columns), default=0)
    places: dict[str, Point] = {}
    for column in reversed(range(len(columns))):
        middles = {name: _middle([places[s][1] for t, s in pairs if t == name]) for name in columns[column]}
        offset = MARGIN + (tallest - len(middles)) * STEP / 2
        for row, name in enumerate(sorted(middles, key=lambda name: middles[name])):
            places[name] = (MARGIN + column * (WIDTH + GAP), offset + row * STEP)
    left = MARGIN + len(columns) * (WIDTH + GAP) - (GAP - LONELY) * bool(columns)
    for index, name in enumerate(name for name in nodes if name not in places):
        column, row = divmod(index, max(3, tallest))
        places[name] = (left + column * (WIDTH + MARGIN * 2), MARGIN + row * STEP)
    return places


def _columns(nodes: Mapping[str, Any], pairs: Sequence[tuple[str, str]]) -> list[list[str]]:
    depth = dict.fromkeys(nodes, 0)
    for _ in nodes:  # longest path by relaxation; a graph without cycles settles within as many rounds as it has nodes
        for teacher, student in pairs:
            depth[student] = max(depth[student], depth[teacher] + 1)
    linked = {name for pair in pairs for name in pair}
    found: dict[int, list[str]] = {}
    for name in nodes:
        if name in linked:
            found.setdefault(depth[name], []).append(name)
    return [found[key] for key in sorted(found)]


def _middle(values: Sequence[float]) -> float:
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


def _curve(name: str, edges: Mapping[str, Any], places: Mapping[str, Point]) -> Curve:
    """Return an edge's Bézier curve: from the teacher's right side to the student's left, or a loop below a node."""
    teacher, student = edges[name]["teacher"], edges[name]["student"]
    (x1, y1), (x2, y2) = places[teacher], places[student]
    if teacher == student:
        foot = y1 + HEIGHT
        return (x1 + 30, foot), (x1 + 30, foot + 22), (x1 + 66, foot + 22), (x1 + 66, foot)
    start = (x1 + WIDTH, y1 + _port(name, edges, places, "teacher", "student"))
    end = (x2 - 2, y2 + _port(name, edges, places, "student", "teacher"))
    bend = (start[0] + end[0]) / 2
    return start, (bend, start[1]), (bend, end[1]), end


def _port(name: str, edges: Mapping[str, Any], places: Mapping[str, Point], side: str, other: str) -> float:
    """Return how far below a node's top an edge meets it: its edges share the side, in the order of their far ends."""
    node = edges[name][side]
    mates = [key for key, e in edges.items() if e[side] == node and e["teacher"] != e["student"]]
    mates.sort(key=lambda key: places[edges[key][other]][1])
    step = min(14.0, (HEIGHT - 12) / len(mates))
    return HEIGHT / 2 + (mates.index(name) - (len(mates) - 1) / 2) * step


def _at(curve: Curve, t: float) -> Point:
    weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
    x, y = (sum(w * point[axis] for w, point in zip(weights, curve, strict=True)) for axis in (0, 1))
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
            spots = [(x - width / 2, y) for x, y in (_at(curves[name], t) for t in SPOTS)]
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
