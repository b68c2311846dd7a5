"""A mask that somebody else drew, from a plain Parquet file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from kd.data.mask import LABELLED, Mask
from kd.data.mechanisms.at_random import Shown
from kd.data.source import Source
from kd.data.splits import Split
from kd.errors import MaskError

ID = "id"
"""Column that names the rows, where the file has it; else they stand in the source's order."""
OURS = b"kd.mask"
"""Metadata of a file of ours."""


def file(
    source: Source,
    split: Split,
    seed: int,
    *,
    path: str,
    allow_empty: bool = False,
    declared: Literal["", "mcar", "mar", "mnar"] = "",
) -> Shown:
    """Read who sees what in training from a Parquet file: a column of true and false per modality, a row per row.

    A file that `kd mask make` wrote knows the data and the split that it was drawn for, and is refused for others. In
    anybody else's, a modality without a column is hidden from nobody, and rows of validation and test are left as they
    are, whatever it says of them; a column `labelled` says whose label may be seen. With a column `id` its rows are
    found by the source's own names of its rows, in any order; a row that it does not name keeps everything.

    Args:
        path: of the file; `{seed}` in it stands for the replicate's seed.
        allow_empty: some rows may keep nothing.
        declared: why values are missing, as whoever made the file says; mcar and mar are tested against the label
            (`kd.data.leaks.declared`), and nothing said is stamped as unknown.

    Raises:
        MaskError: the file is missing or damaged; of ours, and changed or of other data; a column is no modality or not
            of true and false; its rows are not the source's.
    """
    where = Path(path.replace("{seed}", str(seed)))
    try:
        table = pq.read_table(pa.BufferReader(where.read_bytes()))
    except (OSError, pa.ArrowException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
        raise MaskError(f"{where}: not a readable Parquet file ({reason}); it needs a column per modality") from None
    if OURS in (table.schema.metadata or {}):
        ours = Mask.load(where).check(source, split)
        return Shown(ours.keep, ours.labelled, ours.cells)
    unknown = [name for name in table.column_names if name not in (*source.modalities, ID, LABELLED)]
    if unknown or set(table.column_names) <= {ID}:
        got = ", ".join(table.column_names) or "none"
        raise MaskError(f"{where}: expected columns of {', '.join(source.modalities)}, got {got}")
    rows = _rows(table, source, where)
    keep = torch.ones_like(source.observed)
    for column, name in enumerate(source.modalities):
        if name in table.column_names:
            keep[rows, column] = _booleans(table[name], where, name)
    left = torch.ones_like(source.observed)
    left[split.train] = keep[split.train]
    return Shown(left, _labelled(table, rows, source, split, where))


def _labelled(table: pa.Table, rows: Tensor, source: Source, split: Split, where: Path) -> Tensor | None:
    if LABELLED not in table.column_names:
        return None
    said = torch.ones(len(source), dtype=torch.bool)
    said[rows] = _booleans(table[LABELLED], where, LABELLED)
    left = torch.ones(len(source), dtype=torch.bool)
    left[split.train] = said[split.train]
    return left


def _rows(table: pa.Table, source: Source, where: Path) -> Tensor:
    """Return which row of the source each row of the file is, int64."""
    if ID not in table.column_names:
        if table.num_rows != len(source):
            raise MaskError(
                f"{where}: {table.num_rows} rows for the {len(source)} of {source.name}; give it a column {ID}"
            )
        return torch.arange(len(source))
    names = source.ids or [str(row) for row in range(len(source))]
    places = {name: row for row, name in enumerate(names)}
    found = [str(name) for name in table[ID].to_pylist()]
    strange = next((name for name in found if name not in places), None)
    if strange is not None:
        raise MaskError(f"{where}: {ID} {strange!r} is no row of {source.name}; its rows are named like {names[0]!r}")
    if len(set(found)) != len(found):
        twice = next(name for name in found if found.count(name) > 1)
        raise MaskError(f"{where}: {ID} {twice!r} stands there twice; keep one")
    return torch.tensor([places[name] for name in found], dtype=torch.int64)


def _booleans(column: pa.ChunkedArray, where: Path, name: str) -> Tensor:
    if not pa.types.is_boolean(column.type) or column.null_count:
        kind = f"{column.type}{' with gaps' if column.null_count else ''}"
        raise MaskError(
            f"{where}: column {name!r} is {kind}; expected true where the modality is shown, false elsewhere"
        )
    return torch.from_numpy(column.to_numpy().copy())
