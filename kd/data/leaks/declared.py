"""Whether a mask is what it declares to be: drawn again, with other labels, with other test rows, against the label.

- Every mask is a function of (source, split, seed): drawn again, it has the same bits.
- MCAR and MAR ask for no label: with the labels of all rows exchanged, it has the same bits.
- No mask asks for a test row: with the test rows' values, gaps and labels replaced by others, it has the same bits.
- A file says nothing of how it was made; one that declares itself MCAR or MAR must not depend on the label, given what
  is always observed where it is MAR. A likelihood-ratio test per modality, Holm over them, refuses it at 0.001.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kd.data.columns import Column, Frame, Images
from kd.data.mask import Mask
from kd.data.masks import draw
from kd.data.source import Source
from kd.data.splits import Split
from kd.errors import KDError, LeakError
from kd.seeding import generator
from kd.statistics.dependence import likelihood_ratio
from kd.statistics.significance import holm

LEVEL = 0.001
"""At which a file's declaration is rejected, over all of its modalities."""
FEWEST = 5
"""Rows that a class needs to be expected with and without a modality; rarer ones are counted as one."""
DRIVERS = 5
"""Principal components of what is always observed, with their squares, that a MAR mask may depend on."""
LABELLED = ("MCAR", "MAR")
"""Kinds that ask for no label."""


def refuse_undeclared(mask: Mask, source: Source, split: Split) -> list[str]:
    """Return what was looked at, where a mask is what it declares.

    Args:
        mask: drawn for both.
        source: as it was loaded, labels included.
        split: of its rows.

    Raises:
        LeakError: naming the mechanism, what its bits depend on, and how many rows that moves.
    """
    part, seed = {"name": mask.mechanism, **mask.parameters}, mask.seed

    def bits(of: Source) -> dict[str, Tensor]:
        return _bits(draw(of, replace(split, source=of.fingerprint), part, seed))

    looked = ["drawn again"]
    _same(mask, bits(source), "drawn again with its own seed", "make it a function of source, split and seed")
    if mask.mechanism == "file":
        return looked + _depends_on_label(mask, source, split)
    if mask.kind in LABELLED:
        looked.append("drawn with other labels")
        fix = f"it is declared {mask.kind}, which asks for no label; declare it MNAR"
        _same(mask, _attempt(bits, _relabelled(source), mask), "drawn with the labels of rows exchanged", fix)
    looked.append("drawn with other test rows")
    _same(
        mask,
        _attempt(bits, _other_test_rows(source, split), mask),
        "drawn with other test rows",
        "draw it from training rows alone",
    )
    return looked


def _attempt(bits: Callable[[Source], dict[str, Tensor]], source: Source, mask: Mask) -> dict[str, Tensor]:
    try:
        return bits(source)
    except KDError as error:
        raise LeakError(f"{_called(mask)}: cannot be drawn with {source.prepared_from} ({error})") from None


def _bits(mask: Mask) -> dict[str, Tensor]:
    found = {item.name: getattr(mask, item.name) for item in fields(mask)} | mask.cells
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


def _same(mask: Mask, other: dict[str, Tensor], how: str, fix: str) -> None:
    for name, bits in _bits(mask).items():
        if bits.shape != other[name].shape:
            raise LeakError(f"{_called(mask)}: {how}, {name} has another shape; {fix}")
        moved = (bits != other[name]).reshape(len(bits), -1).any(dim=1).nonzero()[:, 0]
        if len(moved):
            rows = moved[:5].tolist()
            raise LeakError(f"{_called(mask)}: {how}, {len(moved)} rows see something else, the first {rows}; {fix}")


def _called(mask: Mask) -> str:
    return f"mask {mask.mechanism} (seed {mask.seed})"


def _relabelled(source: Source) -> Source:
    order = torch.randperm(len(source), generator=generator(0, "declared", "labels"))
    return replace(source, label=source.label[order], prepared_from="the labels of rows exchanged")


def _other_test_rows(source: Source, split: Split) -> Source:
    """Return the source with each test row made a copy of a training row of another label, where there is one."""
    rows, random = torch.arange(len(source)), generator(0, "declared", "rows")
    rows[split.test] = split.train[torch.randint(len(split.train), (len(split.test),), generator=random)]
    return replace(
        source,
        inputs={name: rearranged(value, rows) for name, value in source.inputs.items()},
        label=source.label[rows],
        observed=source.observed[rows],
        prepared_from="other test rows",
    )


def rearranged(value: Tensor | Column, rows: Tensor) -> Tensor | Column:
    """Return a modality with row i holding what row `rows[i]` held."""
    if isinstance(value, Frame):
        return Frame(value.frame.iloc[rows.numpy()])
    if not isinstance(value, Column):
        return value[rows]
    other: Any = copy(value)
    other.values = [value.values[row] for row in rows.tolist()]
    if isinstance(value, Images) and value.decoded is not None:
        other.decoded = value.decoded[rows]
    return other


def _depends_on_label(mask: Mask, source: Source, split: Split) -> list[str]:
    """Test a file's declaration over the training rows.

    Raises:
        LeakError: a modality's availability depends on the label.
    """
    if mask.kind not in LABELLED:
        return []
    chances = {
        name: chance
        for column, name in enumerate(mask.modalities)
        if (chance := label_dependence(mask, source, split, column)) is not None
    }
    if not chances:
        return []
    name, chance = min(chances.items(), key=lambda item: item[1])
    if holm(list(chances.values())).min() <= LEVEL:
        raise LeakError(
            f"{_called(mask)}: declared {mask.kind}, but who has {name!r} depends on the label (p = {chance:.1g} over "
            f"the training rows, {len(chances)} modalities tested); declare it mnar"
        )
    return [f"tested against the label, least p {chance:.2g}"]


def label_dependence(mask: Mask, source: Source, split: Split, column: int) -> float | None:
    """Return the p value of the label in a logistic model of who keeps a modality; None where all or none do.

    Likelihood ratio of a model with the label to one without, both with what is always observed where the mask is
    declared MAR (its first principal components and their squares); chi-square with the label's degrees of freedom.

    Args:
        mask: declared MCAR or MAR.
        source: its data.
        split: whose training rows are tested.
        column: of the modality.
    """
    rows = split.train[source.observed[split.train, column]]
    kept = mask.keep[rows, column].numpy()
    if kept.all() or not kept.any():
        return None
    base = _drivers(mask, source, split, rows) if mask.kind == "MAR" else np.empty((len(rows), 0))
    label = _label_columns(source, rows, kept)
    if not label.shape[1]:
        return None
    return likelihood_ratio(kept, base, label)


def _label_columns(source: Source, rows: Tensor, kept: np.ndarray) -> np.ndarray:
    label = source.label[rows].numpy()
    if source.task != "multiclass":
        varies = label.std(axis=0) > 0
        return np.asarray((label[:, varies] - label[:, varies].mean(axis=0)) / label[:, varies].std(axis=0))
    counts = np.bincount(label, minlength=source.classes)
    rare = counts * min(kept.mean(), 1 - kept.mean()) < FEWEST
    pooled = np.where(rare[label], source.classes, label)
    classes = np.unique(pooled)
    return (pooled[:, None] == classes[1:]).astype(np.float64)


def _drivers(mask: Mask, source: Source, split: Split, rows: Tensor) -> np.ndarray:
    """Return what a MAR mask may depend on: components of the numbers that every training row keeps."""
    found = []
    for column, value in enumerate(source.inputs.values()):
        whole = bool((source.observed & mask.keep)[split.train, column].all())
        if whole and isinstance(value, Tensor) and value.is_floating_point():
            x = torch.nan_to_num(value[rows].double().flatten(1)).numpy()
            x = (x - x.mean(axis=0)) / np.where(x.std(axis=0) > 0, x.std(axis=0), 1.0)
            scores = np.linalg.svd(x, full_matrices=False)[0][:, :DRIVERS] * np.sqrt(len(x))
            found += [scores, scores**2]
    return np.hstack(found) if found else np.empty((len(rows), 0))
