"""Training on after a change, with the student's own teachers and loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kd.compress.context import Context, Evidence, Kind, Model
from kd.errors import KDError
from kd.models.network import copy_to_change


@dataclass(frozen=True, kw_only=True)
class Tune:
    """Train on, with the loss that the student was distilled with."""

    takes: ClassVar[Kind] = "torch"
    gives: ClassVar[Kind] = "torch"

    def __call__(self, model: Model, context: Context) -> tuple[Model, Evidence]:
        """Return what the context's `fit` makes of a copy.

        Raises:
            KDError: the context cannot train.
        """
        if context.fit is None:
            raise KDError("tune: the context has no fit, so nothing can train; drop the pass or compress within kd run")
        return context.fit(copy_to_change(model)).cpu().eval(), {}
