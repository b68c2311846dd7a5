"""The leak audit: which rows each fitted object saw, and what in the data gives the label away."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from pandas.api.types import is_numeric_dtype
from torch import Tensor

from kd.data.columns import Column, Frame
from kd.data.source import Source
from kd.data.splits import Split
from kd.errors import LeakError
from kd.record import digest


class Audit:
    """A ledger of the row ids behind every fitted object: scaler, teacher, student, choice of a checkpoint.

    >>> audit = Audit()
    >>> audit.saw("scaler", [0, 1])
    >>> audit.check(test_ids=[2, 3])
    """

    def __init__(self) -> None:
        self._seen: dict[str, set[int]] = {}

    def saw(self, name: str, ids: Tensor | Iterable[int]) -> None:
        """Record that the object `name` was fitted on, or chosen by, these rows; repeated calls add up."""
        self._seen.setdefault(name, set()).update(_ints(ids))

    def check(self, test_ids: Tensor | Iterable[int], locked_ids: Tensor | Iterable[int] = ()) -> None:
        """Do nothing when no recorded object saw a test or locked row.

        Raises:
            LeakError: naming the object, how many such rows it saw, and the first ids.
        """
        for kind, forbidden in (("test", _ints(test_ids)), ("locked", _ints(locked_ids))):
            for name, seen in self._seen.items():
                leaked = sorted(seen & forbidden)
                if leaked:
                    raise LeakError(
                        f"{name}: saw {len(leaked)} {kind} rows, the first {leaked[:5]}; fit it on other rows, "
                        "the result is refused"
                    )

    def evidence(self) -> dict[str, str]:
        """Return object -> sha256 of the sorted ids it saw."""
        return {name: digest(sorted(ids)) for name, ids in self._seen.items()}


def label_columns(source: Source) -> list[str]:
    """Name the columns of vectors and tables from which the label can be read off, as `modality[column]`.

    Classes: the column takes one value per class, a different one for each. Multilabel and regression: it is an affine
    function of a label column, to 1e-9 of its spread. Only observed rows count.
    """
    found = []
    for position, (name, value) in enumerate(source.inputs.items()):
        names, x = _columns(value)
        giving = _giving_away(source, x, source.observed[:, position]) if names else []
        found += [f"{name}[{names[column]}]" for column in giving]
    return found


def _columns(value: Tensor | Column) -> tuple[list[str], Tensor]:
    """Return names and values [N, F] of what may hold a label by itself; pictures and words hold none."""
    if isinstance(value, Frame):
        codes = [
            value.frame[name] if is_numeric_dtype(value.frame[name]) else _codes(value.frame[name])
            for name in value.frame
        ]
        return list(map(str, value.frame)), torch.from_numpy(
            np.stack([np.asarray(c, np.float64) for c in codes], axis=1)
        )
    if isinstance(value, Column) or value.dtype == torch.uint8:
        return [], torch.empty(0)
    flat = value.flatten(1)
    return list(map(str, range(flat.shape[1]))), flat


def _codes(column: pd.Series) -> np.ndarray:
    return np.asarray(pd.factorize(column)[0])


def duplicate_rows(source: Source, split: Split) -> list[tuple[int, int]]:
    """Return pairs of rows that are equal in all modalities but lie in different parts of the split, (earlier, later).

    Parts in the order train, validation, test; each later row is paired with the first equal row of an earlier part.
    What is not observed does not count, and rows with nothing observed have no copies.
    """
    first: dict[bytes, int] = {}
    pairs = []
    for ids in (split.train, split.validation, split.test):
        content = {row: _row_hash(source, row) for row in ids.tolist() if bool(source.observed[row].any())}
        pairs += [(first[key], row) for row, key in content.items() if key in first]
        for row, key in content.items():
            first.setdefault(key, row)
    return pairs


def _giving_away(source: Source, x: Tensor, seen: Tensor) -> list[int]:
    x, label = x[seen].double(), source.label[seen]
    if source.task == "multiclass":
        return _one_value_per_class(x, label)
    return sorted({column for k in range(label.shape[1]) for column in _affine(x, label[:, k].double())})


def _one_value_per_class(x: Tensor, label: Tensor) -> list[int]:
    classes, inverse = label.unique(return_inverse=True)
    if len(classes) < 2:
        return []
    first = torch.stack([(inverse == k).nonzero()[0, 0] for k in range(len(classes))])
    values = x[first]  # [C, D]
    constant = (x == values[inverse]).all(dim=0).nonzero()[:, 0].tolist()
    return [column for column in constant if len(values[:, column].unique()) == len(classes)]


def _affine(x: Tensor, label: Tensor) -> list[int]:
    a, b = x - x.mean(dim=0), label - label.mean()
    spread = b.square().sum()
    if spread == 0:
        return []
    residual = a - b[:, None] * ((a * b[:, None]).sum(dim=0) / spread)
    total = a.square().sum(dim=0)
    return ((total > 0) & (residual.square().sum(dim=0) <= 1e-18 * total)).nonzero()[:, 0].tolist()


def _row_hash(source: Source, row: int) -> bytes:
    content = hashlib.sha256()
    for position, (name, value) in enumerate(source.inputs.items()):
        if source.observed[row, position]:
            content.update(name.encode() + _row_bytes(value, row))
    return content.digest()


def _row_bytes(value: Tensor | Column, row: int) -> bytes:
    if isinstance(value, Frame):
        return repr(value.frame.iloc[row].tolist()).encode()
    if isinstance(value, Column):
        return repr(value.values[row]).encode()
    return value[row].contiguous().numpy().tobytes()


def _ints(ids: Tensor | Iterable[int]) -> set[int]:
    return set(ids.tolist()) if isinstance(ids, Tensor) else {int(i) for i in ids}
