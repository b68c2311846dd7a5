"""Every modality in a form whose rows can be compared: columns in units of a tolerance, or sets of words."""

from __future__ import annotations

import numpy as np
import torch
from pandas.api.types import is_numeric_dtype
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from kd.data.columns import Column, Frame, Images
from kd.data.leaks.likeness import Columns, mean_of
from kd.data.leaks.wordsets import WordSets

TOLERANCE = 0.01
"""Share of a column's spread within which two numbers are alike."""
LEVELS, SIDE = 4.0, 16
"""Levels of 255 within which two colours are alike, averaged over a grid of SIDE x SIDE."""
DECODED_AT_MOST = 20_000
"""Pictures that are decoded only to be compared; more of them are compared by their bytes."""


def comparable(value: Tensor | Column, rows: np.ndarray, notes: list[str], name: str) -> Columns | WordSets:
    """Return some rows of a modality in a form that can be compared; what is left out is added to `notes`."""
    if isinstance(value, Frame):
        return Columns(_frame(value, rows))
    if isinstance(value, Images):
        return Columns(_pictures(value, rows, notes, name))
    if isinstance(value, Column):
        return WordSets.of([None if value.values[row] is None else str(value.values[row]) for row in rows.tolist()])
    if value.dtype == torch.uint8 and value.ndim == 4:
        return Columns(_thumbnails(value[torch.from_numpy(rows)]) / LEVELS)
    flat = value[torch.from_numpy(rows)].flatten(1).double().numpy()
    return Columns(4.0 * flat if not value.is_floating_point() else _in_tolerances(flat))


def _frame(value: Frame, rows: np.ndarray) -> np.ndarray:
    import pandas as pd

    frame, found = value.frame.iloc[rows], []
    for name in frame:
        if is_numeric_dtype(frame[name]):
            numbers = pd.to_numeric(frame[name]).to_numpy(dtype=np.float64, na_value=np.nan)
            found.append(_in_tolerances(numbers[:, None])[:, 0])
        else:
            codes = np.asarray(pd.factorize(frame[name])[0], dtype=np.float64)
            found.append(np.where(codes < 0, np.nan, 4.0 * codes))
    return np.stack(found, axis=1)


def _in_tolerances(x: np.ndarray) -> np.ndarray:
    """Return columns in units of their tolerance, 1% of the spread: that of the middle half where it has one."""
    x = np.where(np.isinf(x), np.nan, x)
    middle = mean_of(x)
    low, high = _quartiles(x)
    spread = (high - low) / 1.349  # that of a normal law with this middle half
    deviation = np.sqrt(mean_of((x - middle) ** 2))
    spread = np.where(spread > 0, np.minimum(spread, deviation), deviation)
    return (x - middle) / np.where(spread > 0, TOLERANCE * spread, 1.0)


def _quartiles(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    empty = np.isnan(x).all(axis=0)
    low, high = np.nanquantile(np.where(empty, 0.0, x), [0.25, 0.75], axis=0)
    return low, high


def _pictures(value: Images, rows: np.ndarray, notes: list[str], name: str) -> np.ndarray:
    if value.decoded is not None:
        return _thumbnails(value.decoded[torch.from_numpy(rows)]) / LEVELS
    if len(rows) <= DECODED_AT_MOST:
        parts = torch.from_numpy(rows).split(256)
        return np.concatenate([_thumbnails(value.take(part)) for part in parts]) / LEVELS
    notes.append(f"{name}: more than {DECODED_AT_MOST} pictures that are not in memory, compared by their bytes")
    contents = [_content(value.values[row]) for row in rows.tolist()]
    numbers = {content: number for number, content in enumerate(dict.fromkeys(contents))}
    return 4.0 * np.asarray([[numbers[content]] for content in contents], dtype=np.float64)


def _content(value: object) -> bytes:
    import hashlib
    import os

    if isinstance(value, str | os.PathLike):
        with open(value, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    return hashlib.sha256(value).digest() if isinstance(value, bytes) else b""


def _thumbnails(pictures: Tensor) -> np.ndarray:
    """Return colours averaged over a grid, float64 [N, 3 * SIDE * SIDE], in levels of 255."""
    parts = [adaptive_avg_pool2d(part.float(), SIDE).flatten(1) for part in pictures.split(256)]
    return torch.cat(parts).double().numpy()
