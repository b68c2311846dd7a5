"""Cells -> what a source holds: labels, groups, a frame of numbers and categories, words. Every fault names its row.

Shared by `kd.data.table` (files) and `kd.data.stored` (data sets on disk).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from pandas.api.types import is_float_dtype, is_numeric_dtype
from torch import Tensor

from kd.data.sheets import Sheet, nearest, quote, shortened
from kd.errors import DataError

MOSTLY = 0.9
"""Share of numbers from which on a word in a column is a slip of the pen, and below which the column is categories."""
MANY = 50
"""Different values from which on a column of categories is suspected to be ids or prose."""
LABEL = "data.label"
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Labels:
    """Labels of the rows that have one.

    Attributes:
        sheet: where they stand.
        row: id -> its row in the sheet; ids without a label are not in it.
        values: float64 [N, K] per row of the sheet; of a multiclass task the position in `names`, NaN without a label.
        names: of the classes, or of the columns.
        task: multiclass, multilabel or regression.
    """

    sheet: Sheet
    row: dict[str, int]
    values: np.ndarray
    names: list[str] = field(default_factory=list)
    task: str = "multiclass"

    def tensor(self, ids: Sequence[str]) -> tuple[Tensor, list[str]]:
        """Return the labels of some ids as a source holds them, and the classes' names; classes without a row go.

        Raises:
            DataError: these rows leave a class with a single row, or nothing to tell apart.
        """
        rows = [self.row[name] for name in ids]
        if self.task != "multiclass":
            return torch.from_numpy(self.values[rows]).float(), self.names
        faults = few_faults(self, rows)
        if faults:
            raise DataError(faults)
        positions = self.values[rows, 0].astype(np.int64)
        kept, label = np.unique(positions, return_inverse=True)
        return torch.from_numpy(label.astype(np.int64)), [self.names[position] for position in kept]


def read_labels(
    sheet: Sheet, columns: Sequence[str], task: str, *, drop_unlabelled: bool, names: Sequence[str] = ()
) -> Labels:
    """Read the labels of a sheet.

    Args:
        sheet: rows with ids.
        columns: one for multiclass; K otherwise.
        task: multiclass, multilabel or regression.
        drop_unlabelled: a row without a label is left out; otherwise it is a fault.
        names: the classes in order; by default sorted.

    Raises:
        DataError: all faults: columns, empty cells, no numbers, values out of range, too few rows of a class.
    """
    cells = [sheet.column(column, LABEL) for column in columns]
    empty = np.flatnonzero(np.any([_lacking(column) for column in cells], axis=0)).tolist()
    faults = []
    if empty and not drop_unlabelled:
        at = sheet.at(empty)
        faults.append(f"{at}: the label {columns[0]!r} is empty; write it, or set data.unlabelled: drop")
    kept = sorted(set(range(len(sheet))) - set(empty))
    if not kept:
        raise DataError(f"{sheet.name}: no row has a label in {', '.join(columns)}; fill the column")
    row = {sheet.ids[position]: position for position in kept}
    if task == "multiclass":
        values, known, wrong = _classes(sheet, cells[0], kept, names)
        labels = Labels(sheet, row, values, known, task)
        faults += wrong or few_faults(labels, kept)
    else:
        values = np.full((len(sheet), len(columns)), np.nan)
        for position, (column, written) in enumerate(zip(columns, cells, strict=True)):
            values[:, position], wrong = _amounts(sheet, column, written, kept, task)
            faults += wrong
        labels = Labels(sheet, row, values, list(columns), task)
    if faults:
        raise DataError(faults)
    return labels


def _lacking(cells: pd.Series) -> np.ndarray:
    """Say which cells hold no label: empty ones, and what programs write for "not a number"."""
    return np.asarray(cells.isna() | (cells.astype(str).str.lower() == "nan"), dtype=bool)


def _classes(
    sheet: Sheet, cells: pd.Series, kept: list[int], names: Sequence[str]
) -> tuple[np.ndarray, list[str], list[str]]:
    """Return positions float64 [N, 1], the classes' names, and faults."""
    values, written = np.full((len(sheet), 1), np.nan), cells.iloc[kept]
    amounts = pd.to_numeric(written.astype(object), errors="coerce").to_numpy(np.float64)
    broken = np.flatnonzero(amounts != np.round(amounts)).tolist() if np.isfinite(amounts).all() else []
    if broken:
        at = sheet.at([kept[row] for row in broken])
        fault = f"{at}: the label {cells.name!r} is {written.iloc[broken[0]]}, an amount; set data.task: regression"
        return values, [], [fault]
    texts = (written.astype("int64") if is_float_dtype(written) else written).astype(str).tolist()
    known = list(names) or sorted(sorted(set(texts)), key=_order_of(texts))  # "01" and "1" have an order as well
    position = {name: number for number, name in enumerate(known)}
    values[kept, 0] = [position[text] for text in texts]
    return values, known, []


def _order_of(names: Collection[str]) -> Callable[[str], int | str]:
    """Return the key that sorts class names: as numbers where all are whole numbers, else as text."""
    return int if all(name.removeprefix("-").isdecimal() for name in names) else str


def few_faults(labels: Labels, rows: Sequence[int]) -> list[str]:
    """Return a fault for every class with a single row among these rows of the sheet, and where there is only one."""
    if labels.task != "multiclass":
        return []
    sheet = labels.sheet
    positions = [int(labels.values[row, 0]) for row in rows]
    counts = Counter(positions)
    if len(counts) < 2:
        only = quote(labels.names[positions[0]])
        return [f"{sheet.at(rows[:1])}: every label is {only}; two classes are needed to tell apart"]
    alone = [(row, position) for row, position in zip(rows, positions, strict=True) if counts[position] == 1]
    found = [
        f"{sheet.at([row])}: the class {quote(labels.names[position])} has this row alone, so it cannot be split; "
        "add rows, merge or remove the class"
        for row, position in alone
    ]
    return shortened(found, sheet.name)


def _amounts(sheet: Sheet, column: str, cells: pd.Series, kept: list[int], task: str) -> tuple[np.ndarray, list[str]]:
    """Return a label column as float64 [N], and faults."""
    amounts, words = _numbers(cells)
    wrong = sorted(set(words) & set(kept))
    if wrong:
        at, shown = sheet.at(wrong), quote(cells.iloc[wrong[0]])
        fix = "write a number, or set data.task: multiclass"
        return amounts, [f"{at}: the label {column!r} is {shown}, not a number; {fix}"]
    seen = amounts[kept]
    if task == "multilabel":
        outside = [row for row in kept if not 0 <= amounts[row] <= 1]
        if outside:
            at = sheet.at(outside)
            return amounts, [
                f"{at}: the label {column!r} is {amounts[outside[0]]:g}; expected 0 to 1 in a multilabel task"
            ]
    infinite = [row for row in kept if not abs(amounts[row]) <= LARGEST]
    if infinite:
        return amounts, [f"{sheet.at(infinite)}: the label {column!r} is infinite; write a finite number"]
    if (seen == seen[0]).all():
        return amounts, [
            f"{sheet.name}: the label {column!r} is {seen[0]:g} in every row; nothing can be learnt from it"
        ]
    return amounts, []


def _numbers(cells: pd.Series) -> tuple[np.ndarray, list[int]]:
    """Return cells as float64 [N], NaN where empty, and the rows that hold a word instead."""
    if is_numeric_dtype(cells):  # truth values are
        return cells.to_numpy(np.float64, na_value=np.nan), []
    amounts = pd.to_numeric(cells.astype(object), errors="coerce").to_numpy(np.float64)
    unread = np.flatnonzero(np.isnan(amounts))
    return amounts, unread[~_lacking(cells.iloc[unread])].tolist()


def read_frame(sheet: Sheet, columns: Sequence[str], categories: Collection[str], where: str) -> pd.DataFrame:
    """Return columns as numbers (float64, NaN where empty) and categories (strings).

    A column is categories where it is named so, or where fewer than nine filled cells in ten are numbers.

    Args:
        sheet: rows with ids.
        columns: the ones to read.
        categories: those of them that are names even if they look like numbers.
        where: the modality's place in the config, for faults.

    Raises:
        DataError: all faults: a column that is missing, empty or neither, a word among numbers, infinite values.
    """
    found, faults = {}, []
    for name in columns:
        try:
            cells = sheet.column(name, f"{where}.columns")
            found[name] = _category(sheet, cells, where) if name in categories else _read_column(sheet, cells, where)
        except DataError as error:
            faults += error.faults
    if faults:
        raise DataError(faults)
    return pd.DataFrame(found, index=range(len(sheet)))


def _read_column(sheet: Sheet, cells: pd.Series, where: str) -> pd.Series:
    name, filled = cells.name, int(cells.notna().sum())
    if not filled:
        raise DataError(f"{sheet.name}: column {name!r} is empty in every row; name it in {where}.drop")
    amounts, words = _numbers(cells)
    if _mostly(words, filled):
        return _category(sheet, cells, where)
    if words:
        shown = quote(cells.iloc[words[0]])
        raise DataError(
            f"{sheet.at(words)}: column {name!r} holds {shown} among numbers; correct it, leave the cell empty, or "
            "list the word in data.missing"
        )
    infinite = np.flatnonzero(np.abs(amounts) > LARGEST).tolist()
    if infinite:
        raise DataError(
            f"{sheet.at(infinite)}: column {name!r} is infinite or beyond float32; correct it or leave it empty"
        )
    return pd.Series(amounts, name=name)


def holds_words(cells: pd.Series) -> bool:
    """Say whether a column is categories: fewer than nine in ten of its filled cells are numbers."""
    return _mostly(_numbers(cells)[1], int(cells.notna().sum()))


def _mostly(words: Sequence[int], filled: int) -> bool:
    return len(words) > (1 - MOSTLY) * filled


def _category(sheet: Sheet, cells: pd.Series, where: str) -> pd.Series:
    if is_float_dtype(cells) and not (cells % 1).any():  # whole numbers with gaps
        cells = cells.astype("Int64")
    texts = pd.Series([None if pd.isna(cell) else str(cell) for cell in cells], name=cells.name, dtype="str")
    different, filled = texts.nunique(), int(texts.notna().sum())
    if different > MANY and different > filled / 2:
        raise DataError(
            f"{sheet.name}: column {cells.name!r} has {different} different values in {filled} rows, too many for "
            f"categories; name it in {where}.drop, or read it as text"
        )
    return texts


def read_words(sheet: Sheet, column: str, where: str) -> list[str | None]:
    """Return a column of text; None where a cell is empty.

    Args:
        sheet: rows with ids.
        column: the one to read.
        where: the modality's place in the config, for faults.

    Raises:
        DataError: there is no such column, or it holds something else.
    """
    cells = sheet.column(column, f"{where}.text")
    if not cells.notna().any():
        raise DataError(f"{sheet.name}: column {column!r} is empty in every row; fill it or leave the modality out")
    if not isinstance(cells.dtype, pd.StringDtype):
        kind = cells.dtype
        raise DataError(f"{sheet.name}: column {column!r} holds {kind}, not text; read it with columns: [{column}]")
    if not _numbers(cells)[1]:
        raise DataError(f"{sheet.name}: column {column!r} holds numbers, not text; read it with columns: [{column}]")
    return [None if missing else str(text) for text, missing in zip(cells, cells.isna(), strict=True)]


def read_groups(sheet: Sheet, column: str, ids: Sequence[str]) -> Tensor:
    """Return the group of each id, int64 [N].

    Raises:
        DataError: an id has no row or an empty cell.
    """
    cells, row = sheet.column(column, "data.group"), {name: position for position, name in enumerate(sheet.ids)}
    lost = [name for name in ids if name not in row]
    if lost:
        raise DataError(f"{sheet.name}: no row for the id {quote(lost[0])}{_more(lost)}; add its group")
    empty = [row[name] for name in ids if pd.isna(cells.iloc[row[name]])]
    if empty:
        raise DataError(f"{sheet.at(empty)}: the group {column!r} is empty; write one, the row's own id if it is alone")
    names = cells.iloc[[row[name] for name in ids]].astype(str)
    return torch.from_numpy(pd.factorize(names, sort=True)[0].astype(np.int64))


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def unlabelled(sheet: Sheet, known: Mapping[str, int], labels: str) -> list[str]:
    """Return the fault of rows whose id has no label, if there are any."""
    lost = [row for row, name in enumerate(sheet.ids) if name not in known]
    if not lost:
        return []
    name = sheet.ids[lost[0]]
    fault = f"{sheet.at(lost)}: the id {quote(name)} has no label in {labels}"
    return [f"{fault}; {nearest(name, known, most=0)}add it, or set data.unlabelled: drop"]
