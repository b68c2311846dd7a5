"""The contracts every room shares: what a batch holds and what a network returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Samples with some modalities absent.

    Attributes:
        inputs: modality -> tensor [B, ...]; rows that are absent may hold anything, NaN included.
        present: bool [B, M], columns in the order of `inputs`; False means the row lacks the modality.
        label: int64 [B] for classes, float [B, K] for multilabel and regression.
        labelled: bool [B]; rows without a label still learn from teachers.
        index: int64 [B], the row in the source: the key of masks and caches.
    """

    inputs: dict[str, Tensor]
    present: Tensor
    label: Tensor
    labelled: Tensor
    index: Tensor

    @classmethod
    def of(cls, inputs: Mapping[str, Tensor], label: Tensor, index: Tensor | None = None) -> Batch:
        """Wrap plain tensors as a batch in which everything is present and labelled.

        >>> Batch.of({"image": torch.zeros(2, 3)}, torch.tensor([0, 1])).present.shape
        torch.Size([2, 1])
        """
        rows = len(label)
        return cls(
            inputs=dict(inputs),
            present=torch.ones(rows, len(inputs), dtype=torch.bool, device=label.device),
            label=label,
            labelled=torch.ones(rows, dtype=torch.bool, device=label.device),
            index=torch.arange(rows, device=label.device) if index is None else index,
        )

    def __len__(self) -> int:
        return len(self.label)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Return the same batch on `device`; Lightning calls this for every batch."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=non_blocking)

        return Batch(
            inputs={name: move(value) for name, value in self.inputs.items()},
            present=move(self.present),
            label=move(self.label),
            labelled=move(self.labelled),
            index=move(self.index),
        )

    def select(self, modalities: Sequence[str]) -> Batch:
        """Return the batch as a node sees it that sees only `modalities`, columns in that order."""
        order = list(self.inputs)
        columns = [order.index(name) for name in modalities]
        return replace(
            self,
            inputs={name: self.inputs[name] for name in modalities},
            present=self.present[:, columns],
        )

    def with_present(self, present: Tensor) -> Batch:
        """Return the batch under another availability, bool [B, M]."""
        return replace(self, present=present)


@dataclass
class Output:
    """What a network returns.

    Attributes:
        logits: [B, C].
        feature: [B, D], the representation after fusion.
        parts: [B, M, D], one representation per modality, zero where absent.
        hints: module path -> tensor, only for the modules that edges name.
    """

    logits: Tensor
    feature: Tensor | None = None
    parts: Tensor | None = None
    hints: dict[str, Tensor] = field(default_factory=dict)

    def detach(self) -> Output:
        """Return the same values outside the gradient's graph, as a frozen teacher gives them."""
        return Output(
            logits=self.logits.detach(),
            feature=None if self.feature is None else self.feature.detach(),
            parts=None if self.parts is None else self.parts.detach(),
            hints={path: value.detach() for path, value in self.hints.items()},
        )
