"""A data set: tensors or raw columns by modality, labels, nature's gaps, and the groups that a split must not cut."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from kd.data.columns import Column
from kd.errors import DataError
from kd.processors import Processor
from kd.record import digest
from kd.registry import suggest
from kd.types import Batch, Modality

TASKS = ("multiclass", "multilabel", "regression")


@dataclass(frozen=True, eq=False)
class Source:
    """N samples in M modalities.

    Attributes:
        name: what errors and reports call it.
        inputs: modality -> a tensor [N, ...], typed as `Modality` says, or a column of raw values (pictures, words, a
            table); entries that are not observed may hold anything, NaN included.
        label: int64 [N] in 0..classes-1 (multiclass), float [N, K] (multilabel in 0..1, regression).
        classes: number of classes, or K.
        task: multiclass, multilabel or regression.
        class_names: one per class; "0", "1", ... by default.
        observed: bool [N, M], columns in the order of `inputs`; False where nature left a gap. All True by default.
        labelled: bool [N]; False where a mask hides the label. All True by default.
        group: int64 [N]; rows of one group never land in different splits. Every row its own group by default.
        card: licence, origin, traps; `pretraining`, which of its rows encoders have seen (`kd.data.leaks.pretraining`).
        ceiling: the best accuracy any method can reach on a subset of modalities, where it is known.
        ids: one name per row, for errors; "row 0", "row 1", ... by default.
        modality: what each is; by default a uint8 tensor [N, 3, H, W] is pictures, any other one vectors. Columns of
            words and tables have theirs once `prepare` has fitted them.
        prepared_from: fingerprint of the source that `prepare` was called on; "" for any other.
    """

    name: str
    inputs: Mapping[str, Tensor | Column]
    label: Tensor
    classes: int
    task: str = "multiclass"
    class_names: list[str] = field(default_factory=list)
    observed: Tensor = None  # type: ignore[assignment]
    group: Tensor = None  # type: ignore[assignment]
    card: dict[str, Any] = field(default_factory=dict)
    ceiling: Callable[[Sequence[str]], Any] | None = None
    ids: list[str] = field(default_factory=list)
    modality: dict[str, Modality] = field(default_factory=dict)
    prepared_from: str = ""
    labelled: Tensor = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        rows = len(self.label)
        found = {name: _inferred(value) for name, value in self.inputs.items()}
        known = {name: self.modality.get(name) or described for name, described in found.items()}
        object.__setattr__(self, "modality", {name: m for name, m in known.items() if m is not None})
        if self.observed is None:
            object.__setattr__(self, "observed", torch.ones(rows, len(self.inputs), dtype=torch.bool))
        if self.group is None:
            object.__setattr__(self, "group", torch.arange(rows))
        if self.labelled is None:
            object.__setattr__(self, "labelled", torch.ones(rows, dtype=torch.bool))
        if not self.class_names:
            object.__setattr__(self, "class_names", [str(k) for k in range(self.classes)])

    @property
    def modalities(self) -> list[str]:
        """Names, in the order of the columns of `observed`."""
        return list(self.inputs)

    @property
    def processors(self) -> dict[str, Processor]:
        """Modality -> what turns its raw values into tensors, where it has raw values and they are fitted."""
        columns = {name: value for name, value in self.inputs.items() if isinstance(value, Column)}
        return {name: column.processor for name, column in columns.items() if column.processor is not None}

    def __len__(self) -> int:
        return len(self.label)

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of all that decides a result; the name, the card and the ceiling decide nothing.

        Preparing changes nothing in it: a mask and a split belong to the raw values.
        """
        if self.prepared_from:
            return self.prepared_from
        tensors = {**{f"input/{k}": v for k, v in self.inputs.items()}, "label": self.label}
        tensors |= {"observed": self.observed, "group": self.group}
        hashes = {k: v.digest if isinstance(v, Column) else tensor_digest(v) for k, v in tensors.items()}
        return digest([self.modalities, self.task, self.classes, hashes])

    def prepare(self, rows: Mapping[str, Tensor]) -> Source:
        """Return the source with every column fitted, on no other rows than these.

        Args:
            rows: modality -> int64 [n], training rows that have it.
        """
        inputs = {k: v.fit(rows[k]) if isinstance(v, Column) else v for k, v in self.inputs.items()}
        return replace(self, inputs=inputs, prepared_from=self.fingerprint)

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
        modality = {k: self.modality[k] for k in kept if k in self.modality}
        inputs = {k: self.inputs[k] for k in kept}
        return replace(self, inputs=inputs, modality=modality, observed=self.observed[:, columns], prepared_from="")

    def named(self, row: int) -> str:
        """Return what an error calls a row."""
        return self.ids[row] if self.ids else f"row {row}"

    def batch(self, rows: Tensor, present: Tensor) -> Batch:
        """Gather samples.

        Args:
            rows: int64 [B], ids in 0..N-1.
            present: bool [B, M], what these rows may show.
        """
        return Batch(
            inputs={
                k: v.take(rows) if isinstance(v, Column) else v.index_select(0, rows) for k, v in self.inputs.items()
            },
            present=present,
            label=self.label.index_select(0, rows),
            labelled=self.labelled.index_select(0, rows),
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
            if isinstance(value, Column) or not value.is_floating_point():
                continue
            readable = ~value.isinf() if self.modality[name].holes else value.isfinite()
            bad = seen & ~readable.flatten(1).all(dim=1)
            if bool(bad.any()):
                row = int(bad.nonzero()[0])
                raise DataError(
                    f"{self.name}: inputs[{name!r}]: {self.named(row)} holds NaN or infinity but is declared observed; "
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
            if not isinstance(value, Column):
                self._validate_tensor(name, value)
        expected = {"observed": (rows, len(self.inputs)), "group": (rows,)}
        for key, shape in expected.items():
            if tuple(getattr(self, key).shape) != shape:
                raise DataError(
                    f"{self.name}: {key}: expected shape {shape}, got {tuple(getattr(self, key).shape)}; align it"
                )
        if self.observed.dtype != torch.bool:
            raise DataError(f"{self.name}: observed: expected bool, got {self.observed.dtype}; convert it with .bool()")

    def _validate_tensor(self, name: str, value: Tensor) -> None:
        shape, wanted = tuple(value.shape), self.modality[name]
        if value.ndim < 2:
            raise DataError(f"{self.name}: inputs[{name!r}]: expected [N, ...], got {shape}; unsqueeze it")
        if shape[1:] != wanted.shape or (wanted.kind != "vector" and value.dtype != wanted.dtype):
            form = f"{wanted.dtype} [N, {', '.join(map(str, wanted.shape))}] of kind {wanted.kind}"
            raise DataError(f"{self.name}: inputs[{name!r}]: expected {form}, got {value.dtype} {shape}; convert it")

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
            raise DataError(f"{self.name}: label: {self.named(row)} is {label[row].tolist()}, {fix}")


def _inferred(value: Tensor | Column) -> Modality | None:
    if isinstance(value, Column):
        return value.modality
    shape = tuple(value.shape[1:])
    pictures = value.dtype == torch.uint8 and len(shape) == 3
    return Modality(shape, "image" if pictures else "vector")


def tensor_digest(tensor: Tensor) -> str:
    """Return the sha256 of a tensor's type, shape and bytes."""
    array = tensor.detach().cpu().contiguous().numpy()
    return hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes()).hexdigest()
