"""What a config need not say and its reader should know: nodes whose objectives are the same by algebra.

Up to a constant, which no gradient sees (with one teacher weighing `a_k` per row, A their sum):

- `sum a_k KL(p_k || p) = A KL(sum a_k p_k / A || p)` at one temperature: combining losses is combining probabilities;
- `sum a_k ||z - z_k||^2 = A ||z - sum a_k z_k / A||^2`: combining losses is combining logits;
- a single teacher weighs 1 whatever the weighting;
- on complete rows every teacher is there, and shares are plain weights.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from kd.config import Edge, Node, Study
from kd.distill.graph import edges_into
from kd.record import digest

QUADRATIC = ("logit_mse", "regression")


def same_objectives(study: Study) -> list[list[str]]:
    """Return groups of nodes that minimise the same, though they are written differently."""
    groups: dict[str, list[str]] = {}
    for name, node in study.nodes.items():
        if edges_into(study, name):
            groups.setdefault(digest(canonical(study, name, node)), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def untaught(study: Study) -> dict[str, list[str]]:
    """Return student -> those of its modalities that no teacher of it sees, of the students that have some."""
    found = {}
    for name, node in study.nodes.items():
        edges = edges_into(study, name).values()
        seen = {m for edge in edges for m in study.nodes[edge.teacher].sees}
        lacking = [modality for modality in node.sees if modality not in seen]
        if edges and lacking:
            found[name] = lacking
    return found


def canonical(study: Study, name: str, node: Node) -> list[Any]:
    """Return what a node minimises and how, in one form for all that is the same."""
    edges = [replace(e, weight=node.taught * e.weight) for e in edges_into(study, name).values() if e.weight > 0]
    rest = {key: value for key, value in asdict(node).items() if key not in ("combine", "taught")}
    combine = node.combine if len(edges) > 1 else None
    of = _of(edges, combine)
    weights: Any = {key: value for key, value in (combine or {}).items() if key != "of"}
    shares = _shares(study, name, edges, combine, node)
    if shares is not None:
        weights, edges = "shares", [replace(e, weight=s) for e, s in zip(edges, shares, strict=True)]
    own = [[e.teacher if e.view == "own" else _self(e), e.loss, round(e.weight, 12), e.when] for e in edges]
    return [rest, of, weights, sorted(map(digest, own))]


def _self(edge: Edge) -> str:
    """Return what a student that teaches itself is called: an average without memory is the student."""
    return f"self averaged {edge.decay}" if edge.view == "averaged" and edge.decay > 0 else "self"


def _of(edges: list[Edge], combine: dict[str, Any] | None) -> str:
    """Return what is combined, the same for what is the same."""
    of = str((combine or {}).get("of", "losses"))
    losses = [edge.loss for edge in edges]
    if of == "logits" and all(loss == losses[0] and loss["name"] in QUADRATIC for loss in losses):
        return "losses"
    if of == "probabilities" and all(loss == losses[0] and loss["name"] == "kl" for loss in losses):
        return "losses"
    return of


def _shares(
    study: Study, name: str, edges: list[Edge], combine: dict[str, Any] | None, node: Node
) -> list[float] | None:
    """Return each edge's weight where it is the same on every row; None where it is not."""
    if combine is None:
        return [edge.weight for edge in edges]
    if node.rows != "complete" or combine["name"] not in ("mean", "fixed"):
        return None
    names = [key for key, edge in edges_into(study, name).items() if edge.weight > 0]
    numbers = combine.get("shares", {})
    raw = [float(numbers.get(key, 1.0)) if combine["name"] == "fixed" else 1.0 for key in names]
    return [edge.weight * number / sum(raw) for edge, number in zip(edges, raw, strict=True)]


def notes(study: Study) -> list[str]:
    """Return what is no fault but should be known: objectives that are the same, modalities that nobody teaches."""
    found = [f"nodes.{name}: no teacher sees {', '.join(lacking)}" for name, lacking in untaught(study).items()]
    for first, *others in same_objectives(study):
        listed = ", ".join(f"nodes.{name}" for name in others)
        found.append(f"nodes.{first}, {listed}: the same objective by algebra, but for a constant (kd/distill/same.py)")
    return found
