"""What every processor is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from kd.record import digest
from kd.types import Modality


class Processor:
    """Base of all: `modality` says what comes out."""

    modality: Modality

    def __call__(self, values: Sequence[Any]) -> Tensor:
        """Return tensors [N, ...] for the raw values of N rows.

        Raises:
            DataError: a value cannot be read.
        """
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """Return everything that decides its answers, as JSON; `load_processor` takes it back."""
        raise NotImplementedError

    @property
    def digest(self) -> str:
        """The sha256 of its state."""
        return digest(self.state())
