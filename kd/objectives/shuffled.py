"""A teacher that speaks of other rows: the control that tells whether what it says of a row matters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from kd.objectives.base import Read, Rows
from kd.objectives.rkd import pairs
from kd.objectives.wrapper import Wrapper


class Shuffled(Wrapper):
    """Another objective, every row with what the teacher makes of another valid row of the batch.

    The row that takes a row's place is the next one in an order that is drawn from the rows' numbers: in every batch
    another, and no row keeps its own. A row without another gets 0. Ours, a control: `all` keeps what soft labels are
    like on the whole, `class` also what they are like for the row's class: only what is said of the row itself is lost.

    When to use:
        As a control: a gain that this has too does not come from what the teacher says of the row.

    Args:
        loss: any objective, as `{name: kl, temperature: 2}`.
        within: from any row, or from a labelled one of the same `class`; rows without a label get 0 then.
    """

    def __init__(self, *, loss: Mapping[str, Any], within: Literal["all", "class"] = "all") -> None:
        super().__init__(loss=loss)
        self.within, self.rowwise = within, False
        if within == "class":
            self.tasks = ("multiclass",)

    def each(self, student: Read, teacher: Read, rows: Rows) -> Tensor:
        others = pairs(rows.valid)
        if self.within == "class":
            both = rows.labelled.unsqueeze(0) & rows.labelled.unsqueeze(1)
            others = others & both & (rows.label.unsqueeze(0) == rows.label.unsqueeze(1))
        place = _places(rows.index)
        # The next on the circle: of the rows that may be taken, the one that is least ahead.
        ahead = torch.where(others, (place.unsqueeze(0) - place.unsqueeze(1)) % 1.0, 2.0)
        taken = ahead.argmin(dim=-1) if len(place) else ahead.sum(dim=-1).long()
        found = self.loss.each(student, {name: value[taken] for name, value in teacher.items()}, rows)
        return torch.where(others.any(dim=-1), found, 0.0)


def _places(index: Tensor) -> Tensor:
    """Return a place on a circle in [0, 1) for every row, float64, by multiplication with the golden ratio's inverse.

    Neighbours in the source are far apart, and no two of its rows share a place (Knuth 1973, volume 3, section 6.4).
    """
    return (index.to(torch.float64) * 0.6180339887498949) % 1.0
