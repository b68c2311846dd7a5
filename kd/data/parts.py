"""One modality as it was read: its ids, which of them hold something, and how its rows are brought into an order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from kd.data.cells import LARGEST, read_frame, read_words
from kd.data.columns import Column, Frame, Images, Texts
from kd.data.forms import Cells, Label, Words
from kd.data.sheets import Sheet, nearest, shortened
from kd.errors import DataError
from kd.types import Modality

Rows = Sequence[int | None]
"""Per row of the source, the row of a file; None where the file has none."""


@dataclass(frozen=True)
class Part:
    """One modality of a file.

    Attributes:
        sheet: its rows; faults are named after it.
        rows: id -> row, of those rows that hold something.
        arrange: rows of the file in the source's order -> what `Source.inputs` holds.
        modality: what it is, where that cannot be told from the tensor.
    """

    sheet: Sheet
    rows: dict[str, int]
    arrange: Callable[[Rows], Tensor | Column]
    modality: Modality | None = None

    @classmethod
    def of(
        cls,
        sheet: Sheet,
        filled: np.ndarray,
        arrange: Callable[[Rows], Tensor | Column],
        modality: Modality | None = None,
    ) -> Part:
        """Return a part whose rows are those that are `filled`, bool [n]."""
        rows = {name: row for row, (name, there) in enumerate(zip(sheet.ids, filled, strict=True)) if there}
        return cls(sheet, rows, arrange, modality)


def frame_part(sheet: Sheet, columns: Sequence[str], categories: Sequence[str], where: str) -> Part:
    """Return columns of numbers and categories; a row whose cells are all empty lacks the modality."""
    return table_part(sheet, read_frame(sheet, columns, categories, where))


def table_part(sheet: Sheet, frame: pd.DataFrame) -> Part:
    """Return what was read of a table's rows, numbers and categories; an empty row lacks the modality."""

    def arrange(rows: Rows) -> Column:
        return Frame(frame.reindex([-1 if row is None else row for row in rows]))

    return Part.of(sheet, frame.notna().any(axis=1).to_numpy(), arrange)


def chosen_columns(
    sheet: Sheet, form: Cells, where: str, id: str | None, label: Label, claimed: Collection[str] = ()
) -> list[str]:
    """Return the columns of a table that are its modality's.

    Args:
        sheet: the table.
        form: the columns that are written, if any.
        where: the modality's place in the config.
        id: the column that names a row.
        label: columns that no network may see.
        claimed: columns that something else names; they are not taken unless they are written.

    Raises:
        DataError: a name that is no column, the id or the label among them, or none left.
    """
    everything = [str(name) for name in sheet.frame]
    faults = []
    for key in ("columns", "drop", "categories"):
        named = getattr(form, key) or []
        unknown = [name for name in named if name not in (*everything, id)]
        faults += [f"{where}.{key}: {sheet.name} has no column {n!r}; {nearest(n, everything)}" for n in unknown]
        if id in named and key != "drop":
            faults.append(f"{where}.{key}: {id!r} is the id; a network must not see it; remove it here")
    taken = form.columns if form.columns is not None else [name for name in everything if name not in claimed]
    chosen = [name for name in taken if name not in form.drop]
    leaking = [name for name in chosen if name in label.names]
    if leaking and form.columns is not None:
        faults.append(f"{where}.columns: {leaking[0]!r} is the label; a network must not see it; remove it here")
    elif leaking:
        faults.append(f"{sheet.name}: column {leaking[0]!r} is called like the label; name it in {where}.drop")
    if not chosen and not faults:
        faults.append(f"{where}: no column of {sheet.name} is left for it; name some in {where}.columns")
    if faults:
        raise DataError(faults)
    return list(dict.fromkeys(chosen))


def words_part(sheet: Sheet, form: Words, where: str) -> Part:
    """Return a column of text; a row whose text is empty lacks the modality."""
    texts = read_words(sheet, form.text, where)

    def arrange(rows: Rows) -> Column:
        chosen = [None if row is None else texts[row] for row in rows]
        return Texts(
            chosen,
            length=form.length,
            vocabulary=form.vocabulary,
            pieces=form.pieces,
            tokenizer=form.tokenizer,
        )

    return Part.of(sheet, np.array([text is not None for text in texts]), arrange)


def pictures_part(
    sheet: Sheet, values: Sequence[str | bytes | None], size: int, *, in_memory: bool, named: bool = True
) -> Part:
    """Return pictures, each a file's path or bytes; every one is read once, to be kept or to be checked.

    Args:
        sheet: their rows.
        values: one per row.
        size: pixels along each side.
        in_memory: keep them decoded.
        named: the values are paths and so name themselves in faults.
    """

    def arrange(rows: Rows) -> Column:
        column = Images([None if row is None else values[row] for row in rows], size=size)
        names = [] if named else ["" if row is None else sheet.at([row]) for row in rows]
        try:
            return column.load(names) if in_memory else column.check(names)
        except DataError as error:
            raise DataError(shortened(error.faults, sheet.name)) from None

    return Part.of(sheet, np.array([value is not None for value in values]), arrange)


def arrays_part(sheet: Sheet, values: np.ndarray, name: str) -> Part:
    """Return float vectors [n, F], sequences [n, T, F] or uint8 pictures [n, 3, H, W].

    A row of vectors or sequences that is NaN throughout lacks the modality; a single NaN is a hole, allowed in vectors.

    Raises:
        DataError: another type or shape, infinite values, or holes in a sequence.
    """
    if values.dtype == np.uint8 and values.ndim == 4:
        if values.shape[1] != 3 or not values.size:
            shape, hint = list(values.shape), ", as values.transpose(0, 3, 1, 2) gives" if values.shape[-1] == 3 else ""
            raise DataError(f"{sheet.name}: {name!r} is uint8 {shape}; expected pictures [n, 3, H, W]{hint}")
        return Part.of(sheet, np.ones(len(sheet), dtype=bool), lambda rows: _gathered(values, rows))
    if values.dtype.kind not in "fiub" or values.ndim not in (2, 3) or not values.size:
        expected = "float [n, F] (vectors), float [n, T, F] (sequences) or uint8 [n, 3, H, W] (pictures)"
        raise DataError(f"{sheet.name}: {name!r} is {values.dtype} {list(values.shape)}; expected {expected}")
    with np.errstate(over="ignore"):  # too large becomes infinite, and is refused as such
        floats = values.astype(np.float32)
    flat = floats.reshape(len(floats), -1)
    infinite, hole = np.isinf(flat).any(axis=1), np.isnan(flat)
    if infinite.any():
        at = sheet.at(np.flatnonzero(infinite).tolist())
        raise DataError(
            f"{at}: {name!r} is infinite or beyond {LARGEST:.2g}; correct it, or write NaN where it is unknown"
        )
    gap = hole.all(axis=1)
    partly = np.flatnonzero(hole.any(axis=1) & ~gap).tolist()
    if floats.ndim == 3 and partly:
        raise DataError(
            f"{sheet.at(partly)}: {name!r} has holes (NaN) in a sequence; fill them, or make all of the row NaN"
        )
    kind = (
        Modality(floats.shape[1:], "sequence") if floats.ndim == 3 else Modality(floats.shape[1:], holes=bool(partly))
    )
    return Part.of(sheet, np.logical_not(gap), lambda rows: _gathered(floats, rows), kind)


def _gathered(values: np.ndarray, rows: Rows) -> Tensor:
    out = np.zeros((len(rows), *values.shape[1:]), dtype=values.dtype)
    there = [position for position, row in enumerate(rows) if row is not None]
    out[there] = values[[row for row in rows if row is not None]]
    return torch.from_numpy(out)
