"""Training on after a change, with the student's own teachers and loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kd.compress.context import Context, Evidence, Kind, Model
from kd.compress.training import Training
from kd.models.network import copy_to_change


@dataclass(frozen=True, kw_only=True)
class Tune(Training):
    """Train on, with the loss that the student was distilled with."""

    takes: ClassVar[Kind] = "torch"
    gives: ClassVar[Kind] = "torch"

    def __call__(self, model: Model, context: Context) -> tuple[Model, Evidence]:
        """Return a trained copy.

        Raises:
            KDError: the context cannot train.
        """
        return self.train(copy_to_change(model), context).cpu().eval(), {}
