"""A data set in memory: tensors by modality, labels, nature's gaps, and the groups that a split must not cut."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from kd.errors import DataError
from kd.record import digest
from kd.registry import suggest
from kd.types import Batch

TASKS = ("multiclass", "multilabel", "regression")


@dataclass(frozen=True, eq=False)
class Source:
    """N samples in M modalities.

    Attributes:
        name: what errors and reports call it.
        inputs: modality -> float32 [N, ...]; entries that are not observed may hold anything, NaN included.
        label: int64 [N] in 0..classes-1 (multiclass), float [N, K] (multilabel in 0..1, regression).
        classes: number of classes, or K.
        task: multiclass, multilabel or regression.
        class_names: one per class; "0", "1", ... by default.
        observed: bool [N, M], columns in the order of `inputs`; False where nature left a gap. All True by default.
        group: int64 [N]; rows of one group never land in different splits. Every row its own group by default.
        card: licence, origin, traps.
        ceiling: the best accuracy any method can reach on a subset of modalities, where it is known.
    """

    name: str
    inputs: dict[str, Tensor]
    label: Tensor
    classes: int
    task: str = "multiclass"
    class_names: list[str] = field(default_factory=list)
    observed: Tensor = None  # type: ignore[assignment]
    group: Tensor = None  # type: ignore[assignment]
    card: dict[str, Any] = field(default_factory=dict)
    ceiling: Callable[[Sequence[str]], Any] | None = None

    def __post_init__(self) -> None:
        rows = len(self.label)
        if self.observed is None:
            object.__setattr__(self, "observed", torch.ones(rows, len(self.inputs), dtype=torch.bool))
        if self.group is None:
            object.__setattr__(self, "group", torch.arange(rows))
        if not self.class_names:
            object.__setattr__(self, "class_names", [str(k) for k in range(self.classes)])

    @property
    def modalities(self) -> list[str]:
        """Names, in the order of the columns of `observed`."""
        return list(self.inputs)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Modality -> shape of one sample."""
        return {name: tuple(value.shape[1:]) for name, value in self.inputs.items()}

    def __len__(self) -> int:
        return len(self.label)

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of all that decides a result; the name, the card and the ceiling decide nothing."""
        tensors = {**{f"input/{k}": v for k, v in self.inputs.items()}, "label": self.label}
        tensors |= {"observed": self.observed, "group": self.group}
        return digest([self.modalities, self.task, self.classes, {k: tensor_digest(v) for k, v in tensors.items()}])

    def select(self, modalities: Sequence[str]) -> Source:
        """Return the source with only these modalities, in this source's order whatever the order asked.

        Raises:
            DataError: a modality is unknown, or none is named.
        """
        for name in modalities:
            if name not in self.inputs:
                raise DataError(f"{self.name}: unknown modality {name!r}; {suggest(str(name), self.inputs)}")
        if not modalities:
            raise DataError(f"{self.name}: no modality selected; name at least one of {', '.join(self.inputs)}")
        kept = [name for name in self.inputs if name in modalities]
        columns = [self.modalities.index(name) for name in kept]
        return replace(self, inputs={k: self.inputs[k] for k in kept}, observed=self.observed[:, columns])

    def batch(self, rows: Tensor, present: Tensor) -> Batch:
        """Gather samples.

        Args:
            rows: int64 [B], ids in 0..N-1.
            present: bool [B, M], what these rows may show.
        """
        return Batch(
            inputs={name: value[rows] for name, value in self.inputs.items()},
            present=present,
            label=self.label[rows],
            labelled=torch.ones(len(rows), dtype=torch.bool),
            index=rows,
        )

    def validate(self) -> Source:
        """Return the source itself when it keeps its promises.

        Raises:
            DataError: the first fault: source, field, row, and what to do.
        """
        self._validate_shapes()
        self._validate_label()
        for column, (name, value) in enumerate(self.inputs.items()):
            seen = self.observed[:, column]
            if not bool(seen.any()):
                raise DataError(f"{self.name}: observed: modality {name!r} has no observed row; drop it with select()")
            bad = seen & ~value.flatten(1).isfinite().all(dim=1)
            if bool(bad.any()):
                row = int(bad.nonzero()[0])
                raise DataError(
                    f"{self.name}: inputs[{name!r}]: row {row} holds NaN or infinity but is declared observed; "
                    f"repair the value or set observed[{row}, {column}] to False"
                )
        return self

    def _validate_shapes(self) -> None:
        rows = len(self.label)
        if rows == 0 or not self.inputs:
            raise DataError(
                f"{self.name}: empty, {rows} rows and {len(self.inputs)} modalities; give at least one of each"
            )
        if self.task not in TASKS:
            raise DataError(f"{self.name}: task: {self.task!r} is unknown; {suggest(self.task, TASKS)}")
        for name, value in self.inputs.items():
            if len(value) != rows:
                raise DataError(f"{self.name}: inputs[{name!r}]: {len(value)} rows but label has {rows}; align them")
            if value.ndim < 2:
                raise DataError(
                    f"{self.name}: inputs[{name!r}]: expected [N, ...], got {tuple(value.shape)}; unsqueeze it"
                )
        expected = {"observed": (rows, len(self.inputs)), "group": (rows,)}
        for key, shape in expected.items():
            if tuple(getattr(self, key).shape) != shape:
                raise DataError(
                    f"{self.name}: {key}: expected shape {shape}, got {tuple(getattr(self, key).shape)}; align it"
                )
        if self.observed.dtype != torch.bool:
            raise DataError(f"{self.name}: observed: expected bool, got {self.observed.dtype}; convert it with .bool()")

    def _validate_label(self) -> None:
        label, width = self.label, (self.classes,)
        if self.task == "multiclass":
            if label.dtype != torch.int64 or label.ndim != 1:
                raise DataError(
                    f"{self.name}: label: expected int64 [N], got {label.dtype} {tuple(label.shape)}; convert it"
                )
            bad = (label < 0) | (label >= self.classes)
            fix = f"expected 0..{self.classes - 1}; relabel the row or raise classes"
        else:
            if not label.is_floating_point() or tuple(label.shape[1:]) != width:
                raise DataError(
                    f"{self.name}: label: expected float [N, {self.classes}], got {label.dtype} {tuple(label.shape)}; "
                    "convert it"
                )
            outside = (
                (label < 0) | (label > 1) if self.task == "multilabel" else torch.zeros_like(label, dtype=torch.bool)
            )
            bad = (outside | ~label.isfinite()).any(dim=1)
            fix = "expected finite values, in 0..1 for multilabel; repair or drop the row"
        if bool(bad.any()):
            row = int(bad.nonzero()[0])
            raise DataError(f"{self.name}: label: row {row} is {label[row].tolist()}, {fix}")


def tensor_digest(tensor: Tensor) -> str:
    """Return the sha256 of a tensor's type, shape and bytes."""
    array = tensor.detach().cpu().contiguous().numpy()
    return hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes()).hexdigest()
