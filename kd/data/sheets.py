"""Rows of one file, kept so that a fault can name a row as the user's editor shows it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kd.errors import DataError

SHOWN = 3
"""Rows that a fault names; it counts the others."""


@dataclass(frozen=True)
class Sheet:
    """Rows of one file, or the pictures of one folder.

    Attributes:
        name: the file or folder, as faults call it.
        ids: one per row, each once.
        frame: the cells without the ids, by column; NaN where a cell is empty. A CSV's cells are strings. What is
            neither numbers nor words has the type `object`, and each cell says what it was.
        places: what an editor calls each row: lines from 1 in a CSV, rows from 0 otherwise, paths of pictures.
        unit: what a place is: `line`, `row`, or "" where the place says it all.
    """

    name: str
    ids: list[str]
    frame: pd.DataFrame
    places: Sequence[int | str]
    unit: str = "row"

    def __len__(self) -> int:
        return len(self.ids)

    def at(self, rows: Sequence[int]) -> str:
        """Spell file and rows, as every fault begins: `lab.csv: line 7`, `lab.csv: lines 7, 9, 12 and 4 more`."""
        shown = ", ".join(str(self.places[row]) for row in rows[:SHOWN])
        more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
        plural = "s" if len(rows) > 1 else ""
        return f"{self.name}: {self.unit}{plural} {shown}{more}" if self.unit else f"{shown}{more}"

    def take(self, rows: Sequence[int]) -> Sheet:
        """Return some rows, in the order asked; faults still call them as the file does."""
        frame = self.frame.iloc[list(rows)].reset_index(drop=True)
        return Sheet(self.name, [self.ids[row] for row in rows], frame, [self.places[row] for row in rows], self.unit)

    def column(self, name: str, field: str) -> pd.Series:
        """Return a column's cells.

        Args:
            name: of the column.
            field: the setting that names it, for faults.

        Raises:
            DataError: there is none of this name, or it holds dates, lists or the like.
        """
        if name not in self.frame:
            raise DataError(f"{field}: {self.name} has no column {name!r}; {nearest(name, map(str, self.frame))}")
        cells = self.frame[name]
        if cells.dtype == object:
            fix = "convert it or leave it out"
            raise DataError(f"{self.name}: column {name!r} holds {cells.iloc[0]}, neither numbers nor words; {fix}")
        return cells


def quote(value: Any) -> str:
    """Return a cell as a fault shows it, never longer than a few words.

    >>> quote("a" * 100)
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...'"
    """
    text = value if isinstance(value, str) else str(value)
    return repr(text if len(text) <= 40 else text[:40] + "...")


def nearest(name: str, known: Iterable[str], most: int = 12) -> str:
    """Return a hint: the nearest known name, and the first `most` of them.

    >>> nearest("agee", ["age", "ward"]), nearest("agee", ["age", "ward"], most=0)
    ("did you mean 'age'? There are: age, ward", "did you mean 'age'? ")
    """
    names = list(known)
    near = difflib.get_close_matches(name, names[:5000], n=1, cutoff=0.75)
    hint = f"did you mean {near[0]!r}? " if near else ""
    if not most:
        return hint
    return f"{hint}There are: {', '.join(names[:most])}{', ...' if len(names) > most else ''}"


def with_ids(sheet: Sheet) -> Sheet:
    """Return the sheet itself when every row has an id of its own.

    Raises:
        DataError: naming the rows that have none, and those that share one.
    """
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(sheet.ids):
        rows.setdefault(name, []).append(row)
    faults = []
    if "" in rows:
        faults.append(f"{sheet.at(rows.pop(''))}: the id is empty; write one or delete the row")
    faults += [
        f"{sheet.at(shared)}: the id {quote(name)} is there {len(shared)} times; keep one of them"
        for name, shared in rows.items()
        if len(shared) > 1
    ]
    if faults:
        raise DataError(shortened(faults, sheet.name))
    return sheet


def shortened(faults: list[str], name: str, most: int = 10) -> list[str]:
    """Return the first faults of a file and count the rest: nobody reads a thousand lines.

    >>> shortened(["a", "b", "c"], "lab.csv", most=2)
    ['a', 'lab.csv: 2 more faults of this kind']
    """
    if len(faults) <= most:
        return faults
    return [*faults[: most - 1], f"{name}: {len(faults) - most + 1} more faults of this kind"]
