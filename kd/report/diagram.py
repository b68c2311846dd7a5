"""The distillation graph as a picture: teachers on the left, students to their right, an arrow per edge."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

WIDTH, HEIGHT, GAP, STEP, MARGIN = 200, 62, 100, 80, 8
FILLS = {"teacher": "#e3eff7", "student": "#e2f3ec", "baseline": "#f3f3f3", "ensemble": "#fbece2"}
LINES = {"teacher": "#0072B2", "student": "#009E73", "baseline": "#8a8a8a", "ensemble": "#D55E00"}


def graph_picture(graph: Mapping[str, Any]) -> str:
    """Draw nodes and edges as SVG; a node without edges stands below the others.

    Args:
        graph: `nodes` name -> {sees, rows, drop, kind}; `edges` name -> {teacher, student, loss, weight, view}.
    """
    nodes, edges = graph.get("nodes", {}), graph.get("edges", {})
    places = place_nodes(nodes, edges)
    right = max((x for x, _ in places.values()), default=0) + WIDTH + MARGIN
    bottom = max((y for _, y in places.values()), default=0) + HEIGHT + MARGIN
    arrows = [_edge(name, edge, places) for name, edge in edges.items() if _drawable(edge, places)]
    boxes = [_box(name, nodes[name], place) for name, place in places.items()]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {right} {bottom}" role="img" '
            f'aria-label="Distillation graph" style="width:100%;max-width:{1.15 * right:.0f}px;height:auto" '
            'font-family="inherit" font-size="13">',
            '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
            'orient="auto"><path d="M0 0L8 4L0 8z" fill="#555"/></marker></defs>',
            *(line for line, _ in arrows),
            *boxes,
            *(label for _, label in arrows),
            "</svg>",
        ]
    )


def place_nodes(nodes: Mapping[str, Any], edges: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Return the upper left corner of every node: its column is the longest chain of teachers before it.

    >>> edge = {"teacher": "a", "student": "s"}
    >>> place_nodes({"a": {}, "s": {}, "alone": {}}, {"e": edge})
    {'a': (8, 8.0), 's': (308, 8.0), 'alone': (8, 106)}
    """
    pairs = [(e["teacher"], e["student"]) for e in edges.values() if e["teacher"] != e["student"]]
    linked = {name for pair in pairs for name in pair}
    depth = dict.fromkeys(nodes, 0)
    for _ in nodes:  # longest path by relaxation; a graph without cycles settles within as many rounds as it has nodes
        for teacher, student in pairs:
            if teacher in depth and student in depth:
                depth[student] = max(depth[student], depth[teacher] + 1)
    columns: dict[int, list[str]] = {}
    for name in nodes:
        if name in linked:
            columns.setdefault(depth[name], []).append(name)
    tallest = max((len(column) for column in columns.values()), default=0)
    places: dict[str, tuple[float, float]] = {}
    for place, (_, names) in enumerate(sorted(columns.items())):
        offset = MARGIN + (tallest - len(names)) * STEP / 2
        places |= {name: (MARGIN + place * (WIDTH + GAP), offset + row * STEP) for row, name in enumerate(names)}
    per_row = max(2, len(columns))
    top = MARGIN + tallest * STEP + 18 * bool(columns)
    alone = [name for name in nodes if name not in linked]
    for index, name in enumerate(alone):
        row, column = divmod(index, per_row)
        places[name] = (MARGIN + column * (WIDTH + GAP), top + row * STEP)
    return places


def _drawable(edge: Mapping[str, Any], places: Mapping[str, Any]) -> bool:
    return edge["teacher"] in places and edge["student"] in places


def _box(name: str, node: Mapping[str, Any], place: tuple[float, float]) -> str:
    x, y = place
    kind = str(node.get("kind", "baseline"))
    sees = f"{kind}, sees {', '.join(map(str, node['sees']))}" if node.get("sees") else kind
    rows = f"{node['rows']} rows" if node.get("rows") else ""
    drop = f"drop {node['drop']}" if node.get("drop") else ""
    details = " · ".join(part for part in (rows, drop) if part)
    return (
        f"<g><title>{escape(f'{name}: {sees}; {details}')}</title>"
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{FILLS.get(kind, "#f3f3f3")}" '
        f'stroke="{LINES.get(kind, "#8a8a8a")}"/>'
        f'<text x="{x + 10}" y="{y + 20}" font-weight="600" fill="#1a1a1a">{_fit(name, 22)}</text>'
        f'<text x="{x + 10}" y="{y + 37}" font-size="12" fill="#333">{_fit(sees, 28)}</text>'
        f'<text x="{x + 10}" y="{y + 53}" font-size="12" fill="#333">{_fit(details, 28)}</text></g>'
    )


def _fit(text: str, length: int) -> str:
    return escape(text if len(text) <= length else text[: length - 1] + "…")


def _edge(name: str, edge: Mapping[str, Any], places: Mapping[str, tuple[float, float]]) -> tuple[str, str]:
    """Return an edge's line and its label; the label is drawn after the boxes, on a white ground."""
    (x1, y1), (x2, y2) = places[edge["teacher"]], places[edge["student"]]
    label = edge_label(edge)
    if edge["teacher"] == edge["student"]:
        foot, left, right = y1 + HEIGHT, x1 + 60, x1 + 116
        path = f"M{left} {foot}C{left} {foot + 22} {right} {foot + 22} {right} {foot}"
        middle = (right + 50, foot + 9)
    else:
        start, end = (x1 + WIDTH, y1 + HEIGHT / 2), (x2 - 2, y2 + HEIGHT / 2)
        bend = (start[0] + end[0]) / 2
        path = f"M{start[0]} {start[1]}C{bend} {start[1]} {bend} {end[1]} {end[0]} {end[1]}"
        # nearer to the teacher than to the student, where several arrows meet
        middle = (start[0] + 0.4 * (end[0] - start[0]), start[1] + 0.352 * (end[1] - start[1]))
    line = f'<path d="{path}" fill="none" stroke="#555" stroke-width="1.3" marker-end="url(#arrow)"/>'
    shown = label if len(label) <= 22 else label[:21] + "…"
    width = 6.4 * len(shown) + 8
    text = (
        f"<g><title>{escape(f'{name}: {dict(edge)}')}</title>"
        f'<rect x="{middle[0] - width / 2:.1f}" y="{middle[1] - 9}" width="{width:.1f}" height="18" fill="white"/>'
        f'<text x="{middle[0]}" y="{middle[1] + 4}" text-anchor="middle" font-size="12" fill="#1a1a1a">'
        f"{escape(shown)}</text></g>"
    )
    return line, text


def edge_label(edge: Mapping[str, Any]) -> str:
    """Return an edge as loss × weight, with its view where it has one.

    >>> edge_label({"loss": {"name": "kl", "temperature": 3}, "weight": 1.0})
    'kl × 1'
    """
    loss = edge.get("loss", "")
    name = loss.get("name", "") if isinstance(loss, Mapping) else loss
    weight = edge.get("weight", 1)
    shown = f"{weight:g}" if isinstance(weight, (int, float)) else "warm-up"
    view = f", view {edge['view']}" if edge.get("view") not in (None, "", "same") else ""
    return f"{name} × {shown}{view}"
