"""Modalities, labels and groups that were read apart become one source: ids decide which row has what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from kd.data.cells import Labels, unlabelled
from kd.data.columns import Column, Frame
from kd.data.leaks.telling import label_columns
from kd.data.parts import Part
from kd.data.sheets import Sheet, quote
from kd.data.source import Source
from kd.errors import ConfigError, DataError

T = TypeVar("T")
UNSTATED = {"licence": "not stated; write data.card.licence", "origin": "your own files", "traps": "not stated"}
FEWEST = 20
"""Rows below which a column may agree with the label by chance, and is not suspected."""


@dataclass
class Faults:
    """Faults of steps that do not need one another, told together."""

    found: list[str] = field(default_factory=list)

    def attempt(self, step: Callable[[], T]) -> T | None:
        """Return what a step gives; None, with its faults kept, where it fails."""
        try:
            return step()
        except (ConfigError, DataError) as error:
            self.found += error.faults
            return None

    def refuse(self) -> None:
        """Do nothing when there is no fault.

        Raises:
            DataError: with every fault once, a line each.
        """
        if self.found:
            raise DataError(list(dict.fromkeys(self.found)))


def assemble(
    name: str,
    parts: Mapping[str, Part | Sheet | None],
    labels: Labels | None,
    group: Callable[[Sequence[str]], Tensor] | None,
    faults: Faults,
    *,
    drop_unlabelled: bool,
    card: Mapping[str, Any],
) -> Source:
    """Join what was read: a row for every id that has a label and at least one modality, sorted.

    Args:
        name: the source's.
        parts: modality -> what was read; where that failed, the file's rows, whose ids can still be compared, or None.
        labels: None where reading them failed.
        group: ids -> int64 [N]; None where every row is its own.
        faults: those found so far; all are told together with those found here.
        drop_unlabelled: leave ids without a label out, instead of refusing them.
        card: licence, origin, traps, where they are stated.

    Raises:
        DataError: every fault, a line each.
    """
    read = {modality: part for modality, part in parts.items() if isinstance(part, Part)}
    if labels is None:
        for part in read.values():  # what is wrong inside the pictures is told now as well
            _arranged(part, part.sheet.ids, faults)
        faults.refuse()
        raise AssertionError("labels that could not be read have left a fault")
    for modality, found in parts.items():
        if found is not None:
            faults.found += _meeting_faults(modality, found, labels, drop_unlabelled=drop_unlabelled)
    kept = sorted(key for key in labels.row if any(key in part.rows for part in read.values()))
    inputs = {modality: _arranged(part, kept, faults) for modality, part in read.items()}
    groups = None if group is None else faults.attempt(partial(group, kept))
    # With a modality unread too few rows may be left, which is no fault of the labels.
    answer = faults.attempt(partial(labels.tensor, kept)) if kept and len(read) == len(parts) else None
    faults.refuse()
    assert answer is not None, "what is lacking here has left a fault"
    label, names = answer
    source = Source(
        name=name,
        inputs={modality: value for modality, value in inputs.items() if value is not None},
        label=label,
        classes=len(names),
        task=labels.task,
        class_names=names,
        observed=torch.tensor([[key in part.rows for part in read.values()] for key in kept]),
        group=groups,  # type: ignore[arg-type]
        card=UNSTATED | dict(card) | _left_out(read, labels, kept),
        ids=kept,
        modality={modality: part.modality for modality, part in read.items() if part.modality is not None},
    )
    refuse_leaks(source, read)
    return source


def _arranged(part: Part, ids: Sequence[str], faults: Faults) -> Tensor | Column | None:
    return faults.attempt(lambda: part.arrange([part.rows.get(key) for key in ids]))


def _meeting_faults(modality: str, found: Part | Sheet, labels: Labels, *, drop_unlabelled: bool) -> list[str]:
    """Return what is wrong between the ids of a modality and those that have a label."""
    sheet = found.sheet if isinstance(found, Part) else found
    if not labels.row.keys() & set(sheet.ids):
        here, there = quote(sheet.ids[0]), quote(next(iter(labels.row)))
        fix = "write them alike"
        return [f"{sheet.name}: no id has a label in {labels.sheet.name} ({here} here, {there} there); {fix}"]
    if isinstance(found, Part) and not labels.row.keys() & found.rows.keys():
        return [f"{sheet.name}: modality {modality!r} is empty in every row that has a label; fill it or leave it out"]
    return [] if drop_unlabelled else unlabelled(sheet, labels.row, labels.sheet.name)


def _left_out(parts: Mapping[str, Part], labels: Labels, kept: Sequence[str]) -> dict[str, Any]:
    """Return what the card says about ids that are no rows of the source."""
    bare = sorted(labels.row.keys() - set(kept))
    lost = sorted({key for part in parts.values() for key in part.sheet.ids} - labels.row.keys())
    counts = {"labelled ids without any modality": bare, "ids without a label": lost}
    said = [f"{len(ids)} {what} (the first {quote(ids[0])})" for what, ids in counts.items() if ids]
    return {"left_out": "; ".join(said)} if said else {}


def refuse_leaks(source: Source, parts: Mapping[str, Part]) -> None:
    """Do nothing when no column of a table gives the label away by itself.

    Raises:
        DataError: naming the files and columns.
    """
    rows = dict(zip(source.modalities, source.observed.sum(dim=0).tolist(), strict=True))
    tables = [m for m, value in source.inputs.items() if isinstance(value, Frame) and rows[m] >= FEWEST]
    found = label_columns(source.select(tables)) if tables else []
    faults = []
    for column in found:
        modality, _, name = column.removesuffix("]").partition("[")
        file, where = parts[modality].sheet.name, f"data.modalities.{modality}.drop"
        faults.append(f"{file}: the label can be read off column {name!r}; name it in {where}")
    if faults:
        raise DataError(faults)
