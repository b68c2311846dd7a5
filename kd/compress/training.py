"""How long and how fast a pass trains on: as the student was trained, unless the pass says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import nn

from kd.compress.context import Context
from kd.errors import ConfigError, KDError


@dataclass(frozen=True, kw_only=True)
class Training:
    """A pass that trains.

    Args:
        like: node of the study whose teachers, loss, rows and settings are used in the place of the student's.
        steps: of the optimiser, at least 1; by default as many as the student, or that node, had.
        optimizer: a part, `{name: adamw, lr: 1.0e-3}`; by default the student's.
        schedule: of its learning rate, a part; by default the student's.
    """

    like: str | None = None
    steps: int | None = None
    optimizer: Mapping[str, Any] | None = None
    schedule: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ConfigError(f"{self._name}.steps: expected at least 1, got {self.steps}")

    @property
    def _name(self) -> str:
        return type(self).__name__.lower()

    def train(self, model: nn.Module, context: Context) -> nn.Module:
        """Return what the context's `fit` makes of a network, with the settings that are given.

        Raises:
            KDError: the context cannot train.
        """
        if context.fit is None:
            raise KDError(
                f"{self._name}: the context has no fit, so nothing can train; drop the pass or compress within kd run"
            )
        given = {name: getattr(self, name) for name in SETTINGS}
        return context.fit(model, **{name: value for name, value in given.items() if value is not None})


SETTINGS = tuple(field.name for field in fields(Training))
"""What a pass that trains may set."""
