"""Columns that tell the label by themselves: copies of it, and what no honest feature is likely to be.

Two rules. The exact one needs no luck: one value per class, or an affine function of a target. The other asks how well
one column alone, by the simplest rule there is, recovers the label:

- multiclass, and each column of a multilabel target: one interval per class, found by a tree with one leaf per class;
  or, where the column has few values, the commonest class of each value, counted on other rows than it is judged on;
- regression: the rank correlation with a target.

A column is suspected when the mean recall over classes, or the correlation, is at least 0.999. C - 1 thresholds cannot
fit 10 C rows by chance, so suspected columns are real; whether one is a copy of the label or a feature that separates
the classes, nobody can tell from the numbers. `allow_columns` of a study names those that are features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from pandas.api.types import is_numeric_dtype
from torch import Tensor

from kd.data.columns import Frame
from kd.data.source import Source
from kd.seeding import generator

NEARLY = 0.999
"""Mean recall over classes, or rank correlation, from which a column alone is said to tell the label."""
FEWEST_ROWS, ROWS_PER_CLASS = 100, 10
"""Rows below which nothing but an exact copy is suspected."""
ROWS_AT_MOST = 20_000
"""Rows that the second rule reads; of more, so many are drawn, the same ones every time."""


def label_columns(source: Source) -> list[str]:
    """Name the columns of vectors and tables from which the label can be read off exactly, as `modality[column]`.

    Classes: the column takes one value per class, a different one for each. Multilabel and regression: it is an affine
    function of a label column, to 1e-9 of its spread. Only observed rows count.
    """
    found = []
    for name, columns, seen in _every(source):
        giving = _exact(columns.values[seen].double(), source.label[seen], source.task)
        found += [f"{name}[{columns.names[column]}]" for column in giving]
    return found


def suspect_columns(source: Source) -> list[str]:
    """Name the columns that tell the label nearly without fault by the simplest rule, as `modality[column]`.

    Only observed rows count, and at most 20,000 of them.
    """
    found = []
    for name, columns, seen in _every(source):
        rows = seen.nonzero()[:, 0]
        if len(rows) > ROWS_AT_MOST:
            rows = rows[torch.randperm(len(rows), generator=generator(0, "telling"))[:ROWS_AT_MOST]]
        values, label = columns.values[rows].double().numpy(), source.label[rows].numpy()
        found += [
            f"{name}[{own}]"
            for place, own in enumerate(columns.names)
            if _suspect(values[:, place], label, source.task, ordered=own not in columns.categories)
        ]
    return found


def telling_columns(source: Source) -> dict[str, str]:
    """Return column -> `exactly` or `nearly`, for every column that tells the label by itself."""
    exact = dict.fromkeys(label_columns(source), "exactly")
    return exact | {column: "nearly" for column in suspect_columns(source) if column not in exact}


@dataclass(frozen=True)
class _Columns:
    """Named columns [N, F]; the numbers of categories have no order."""

    names: list[str]
    values: Tensor
    categories: frozenset[str] = frozenset()


def _every(source: Source) -> list[tuple[str, _Columns, Tensor]]:
    """Return modality, columns and observed rows of whatever may hold a label by itself: no pictures, no words."""
    found = []
    for position, (name, value) in enumerate(source.inputs.items()):
        if isinstance(value, Frame):
            found.append((name, _of_table(value.frame), source.observed[:, position]))
        elif isinstance(value, Tensor) and value.dtype != torch.uint8:
            flat = value.flatten(1)
            found.append((name, _Columns(list(map(str, range(flat.shape[1]))), flat), source.observed[:, position]))
    return found


def _of_table(frame: pd.DataFrame) -> _Columns:
    words = [name for name in frame if not is_numeric_dtype(frame[name])]
    codes = [np.asarray(pd.factorize(frame[name])[0] if name in words else frame[name], np.float64) for name in frame]
    values = torch.from_numpy(np.stack(codes, axis=1))
    return _Columns(list(map(str, frame)), values, frozenset(map(str, words)))


def _exact(x: Tensor, label: Tensor, task: str) -> list[int]:
    if task == "multiclass":
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


def _suspect(x: np.ndarray, label: np.ndarray, task: str, *, ordered: bool) -> bool:
    """Say whether one column [N] tells the label, or some column of a label [N, K], nearly without fault."""
    there = np.isfinite(x)
    x, label = x[there], label[there]
    if task == "multiclass":
        return _tells_classes(x, label, ordered=ordered)
    targets = [label[:, k] for k in range(label.shape[1])]
    if task == "multilabel":
        return any(_tells_classes(x, (target >= 0.5).astype(np.int64), ordered=ordered) for target in targets)
    return ordered and any(_rank_correlation(x, target) >= NEARLY for target in targets)


def _tells_classes(x: np.ndarray, label: np.ndarray, *, ordered: bool) -> bool:
    classes, label = np.unique(label, return_inverse=True)
    if len(classes) < 2 or len(x) < max(FEWEST_ROWS, ROWS_PER_CLASS * len(classes)):
        return False
    return (ordered and _tells_by_intervals(x, label, len(classes))) or _tells_by_value(x, label)


def _tells_by_intervals(x: np.ndarray, label: np.ndarray, classes: int) -> bool:
    # In order of the value the classes change C - 1 times; a column that changes far more often needs no tree.
    changes = np.count_nonzero(np.diff(label[np.lexsort((label, x))]))
    if changes > 3 * (classes - 1) + 0.01 * len(x):
        return False
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.tree import DecisionTreeClassifier

    tree = DecisionTreeClassifier(max_leaf_nodes=classes, class_weight="balanced", random_state=0)
    found = tree.fit(x[:, None], label).predict(x[:, None])
    return bool(balanced_accuracy_score(label, found) >= NEARLY)


def _tells_by_value(x: np.ndarray, label: np.ndarray) -> bool:
    """Say so where the class of a value, counted on every other row, is that of the rows between."""
    values, codes = np.unique(x, return_inverse=True)
    if len(values) > len(x) / 10:
        return False
    order = np.random.default_rng(0).permutation(len(x))
    fitted, judged = order[::2], order[1::2]
    counts = np.zeros((len(values), label.max() + 1), dtype=np.int64)
    np.add.at(counts, (codes[fitted], label[fitted]), 1)
    right = counts.argmax(axis=1)[codes[judged]] == label[judged]
    total = np.bincount(label[judged], minlength=counts.shape[1])
    recall = np.bincount(label[judged], weights=right, minlength=counts.shape[1])[total > 0] / total[total > 0]
    return bool(recall.mean() >= NEARLY)


def _rank_correlation(x: np.ndarray, target: np.ndarray) -> float:
    if len(x) < FEWEST_ROWS or np.ptp(x) == 0 or np.ptp(target) == 0:
        return 0.0
    a, b = (pd.Series(value).rank().to_numpy() for value in (x, target))
    return float(abs(np.corrcoef(a, b)[0, 1]))
