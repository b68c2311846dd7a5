"""Recombination: a training row takes modalities from other rows of its class, and so has those that it lacked.

Exact where modalities are independent given the label (the assumption of co-training, Blum & Mitchell 1998,
doi:10.1145/279943.279962); elsewhere it teaches that they are.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from kd.types import Batch


def recombine(batch: Batch, probability: float, draws: Tensor, *, replicas: int = 1) -> Batch:
    """Return a batch whose rows, each with a probability, take every modality from a random row of their class.

    Donors are the rows of the same batch that have the modality and a label, the row itself among them; a modality that
    none of them has stays as it is. So the batch that a step sees decides, as for objectives over pairs.

    Args:
        batch: multiclass; of R replicas one after the other, who do not mix.
        probability: in [0, 1] that a row is recombined.
        draws: uniform in [0, 1), [B, 1 + M]: which rows are, and who gives.
        replicas: R.
    """
    changed = batch.labelled & (draws[:, 0] < probability)
    inputs, present = {}, []
    for column, (name, value) in enumerate(batch.inputs.items()):
        own = batch.present[:, column]
        donor, found = _donors(batch, own, draws[:, 1 + column], replicas)
        given = changed & found
        shape = (-1, *[1] * (value.dim() - 1))
        inputs[name] = torch.where(given.view(shape), value.index_select(0, donor), value)
        present.append(own | given)
    return replace(batch, inputs=inputs, present=torch.stack(present, dim=1))


def _donors(batch: Batch, own: Tensor, draws: Tensor, replicas: int) -> tuple[Tensor, Tensor]:
    """Return for every row a position in the batch that gives it a modality [B], and whether there is any [B]."""
    label, may_give = (x.view(replicas, -1) for x in (batch.label, own & batch.labelled))
    rows = label.shape[1]
    donors = (label.unsqueeze(2) == label.unsqueeze(1)) & may_give.unsqueeze(1)  # [R, B, B]: row, donor
    order = donors.cumsum(dim=2)
    count = order[..., -1]
    wanted = (draws.view(replicas, -1) * count).long().clamp(max=rows - 1) + 1
    position = (order >= wanted.unsqueeze(2)).int().argmax(dim=2)
    first = torch.arange(replicas, device=position.device).unsqueeze(1) * rows
    return (position + first).flatten(), (count > 0).flatten()
