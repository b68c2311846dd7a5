"""Several teachers of one student: their terms of the loss, weighed against each other row by row.

Without weights every edge has a term of its own, `alpha_k objective(z, z_k)`, and they are summed (KDD 2020). With
weights w_k, which add up to 1 over the teachers that saw the row, one of three:

- `losses`: sum of `alpha_k w_k objective(z, z_k)`;
- `logits`: `A objective(z, sum w_k alpha_k z_k / A)`, `A = sum w_k alpha_k`: an ensemble is distilled;
- `probabilities`: the same with the mean of `softmax(z_k / T)`, T the objective's temperature.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from kd.types import Batch, Output

TEACHERS = "teachers"
"""What the term of several teachers in one is called."""


def edge_terms(
    student: Output,
    teachers: Mapping[str, Output],
    edges: Mapping[str, Any],
    batch: Batch,
    counted: Tensor,
    weights: Any | None,
) -> dict[str, Tensor]:
    """Return `edge/<name>` -> weighted objective per row [B], 0 where the row does not count.

    Args:
        student: its outputs.
        teachers: edge -> its teacher's.
        edges: edge -> objective, weight and validity.
        batch: as the source gave it.
        counted: bool [B], rows the student may learn from.
        weights: `kd.objectives.teacher_weights.TeacherWeights`, or R of them stacked; None sums the edges' terms.
    """
    valid = {name: edge.valid(batch) & counted for name, edge in edges.items()}
    if weights is None or not edges:
        return {
            f"edge/{name}": edge.alpha(batch) * edge.each(student, teachers[name], batch, valid[name])
            for name, edge in edges.items()
        }
    names = list(edges)
    seen = torch.stack([valid[name] for name in names], dim=1)  # [B, K]
    logits = torch.stack([teachers[name].logits for name in names], dim=1)  # [B, K, C]
    if weights.of == "losses":
        each = [edge.each(student, teachers[name], batch, valid[name]) for name, edge in edges.items()]
        if weights.reads_losses:
            share = weights.weigh(torch.stack(each, dim=1), student.logits, seen)
        else:
            share = weights(logits, batch.label, batch.labelled, seen)
        return {
            f"edge/{name}": edge.alpha(batch) * share[:, place] * each[place]
            for place, (name, edge) in enumerate(edges.items())
        }
    share = weights(logits, batch.label, batch.labelled, seen)
    first = edges[names[0]]
    alpha = torch.stack([share[:, k] * edges[name].alpha(batch) for k, name in enumerate(names)], dim=1)
    total = alpha.sum(dim=1)
    alpha = alpha / torch.where(total > 0, total, 1.0).unsqueeze(1)
    joint = replace(teachers[names[0]], logits=mixture(logits, alpha, seen, weights.of, first.temperature(batch)))
    return {f"edge/{TEACHERS}": total * first.each(student, joint, batch, seen.any(dim=1))}


def mixture(logits: Tensor, share: Tensor, seen: Tensor, of: str, temperature: float | Tensor) -> Tensor:
    """Return the logits [B, C] of several teachers as one.

    Args:
        logits: [B, K, C]; of those that did not see a row they may hold anything.
        share: [B, K], adding up to 1 over those that did.
        seen: bool [B, K].
        of: `logits` for their mean; `probabilities` for logits that give, softened by T, the mean of the softened ones.
        temperature: T, one for all or one per row [B].
    """
    logits = torch.where(seen.unsqueeze(-1), logits.to(share.dtype), 0.0)
    if of == "logits":
        return (share.unsqueeze(-1) * logits).sum(dim=1)
    t = torch.as_tensor(temperature, dtype=share.dtype, device=share.device).view(-1, 1, 1)
    lowest = torch.finfo(share.dtype).min / 4
    log_share = torch.where(share > 0, torch.where(share > 0, share, 1.0).log(), lowest)
    return t[:, 0] * (log_share.unsqueeze(-1) + (logits / t).log_softmax(dim=-1)).logsumexp(dim=1)
