"""Raw values of a few rows -> the tensors and the availability that a network takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kd.errors import DataError
from kd.processors import Processor
from kd.registry import suggest
from kd.types import Modality


def encode(
    modality: Mapping[str, Modality], processors: Mapping[str, Processor], raw: Mapping[str, Sequence[Any]]
) -> tuple[dict[str, Tensor], Tensor]:
    """Return inputs by modality and present bool [B, M]; see `kd.models.classifier.Classifier.encode`."""
    for name in raw:
        if name not in modality:
            raise DataError(f"{name}: unknown modality; {suggest(name, modality)}")
    lengths = {name: len(values) for name, values in raw.items()}
    if len(set(lengths.values())) != 1:
        raise DataError(f"expected one value per row in every modality, at least one modality, got {lengths or 'none'}")
    rows = next(iter(lengths.values()))
    columns = {name: list(raw[name]) if name in raw else [None] * rows for name in modality}
    present = torch.tensor([[columns[name][row] is not None for name in modality] for row in range(rows)])
    inputs = {name: _tensor(name, columns[name], modality[name], processors.get(name)) for name in modality}
    return inputs, present.view(rows, len(modality))


def _tensor(name: str, values: list[Any], modality: Modality, processor: Processor | None) -> Tensor:
    blank = torch.zeros(len(values), *modality.shape, dtype=modality.dtype)
    there = [row for row, value in enumerate(values) if value is not None]
    if there:
        shown = [values[row] for row in there]
        blank[there] = _plain(name, shown, modality) if processor is None else processor(shown)
    return blank


def _plain(name: str, values: list[Any], modality: Modality) -> Tensor:
    try:
        return torch.stack([torch.as_tensor(value, dtype=modality.dtype).view(modality.shape) for value in values])
    except (TypeError, ValueError, RuntimeError):
        raise DataError(f"{name}: expected values of shape {list(modality.shape)} as {modality.dtype}") from None
