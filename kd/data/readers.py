"""Files of rows: CSV, Parquet, NPZ, folders of pictures. Ids are read as strings: "007" stays "007".

Nothing is guessed here about what a column means; see `kd.data.cells`.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from kd.data.sheets import Sheet, nearest, quote, shortened, with_ids
from kd.errors import DataError

CLUTTER = ("Thumbs.db", "desktop.ini")
"""What a system puts into folders of pictures."""


def read_sheet(
    path: Path,
    name: str,
    *,
    id: str | None,
    separator: str = ",",
    missing: Collection[str] = (),
    field: str = "data.id",
) -> Sheet:
    """Read a CSV, TSV or Parquet file.

    Args:
        path: the file.
        name: what faults call it.
        id: the column that names a row; None where none does, and rows are called by their numbers.
        separator: between two cells of a CSV; a TSV has tabs.
        missing: words that stand for an empty cell.
        field: the setting that names the id column, for faults.

    Raises:
        DataError: every fault of the file's form and of its ids, with the lines.
    """
    if path.suffix.lower() == ".parquet":
        return from_arrow(_arrow(path, name), name, id=id, missing=missing, field=field)
    lines, header, rows = _csv(path, name, "\t" if path.suffix.lower() == ".tsv" else separator)
    if id is not None and id not in header:
        hint = f"; is {separator!r} its data.separator?" if len(header) == 1 else ""
        raise DataError(f"{field}: {name} has no column {id!r}; {nearest(id, header)}{hint}")
    blank = {"", *missing}
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    cells = {
        column: pd.Series([None if cell in blank else cell for cell in values], dtype="str")
        for column, values in columns.items()
        if column != id
    }
    ids = [str(row) for row in range(len(rows))] if id is None else list(columns[id])
    return with_ids(Sheet(name, ids, pd.DataFrame(cells, index=range(len(rows))), lines, "line"))


def _csv(path: Path, name: str, separator: str) -> tuple[list[int], list[str], list[list[str]]]:
    """Return the line on which each row begins, the header, and the rows' cells without the space around them."""
    text = _text(path, name)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    lines, rows, begin = [], [], 1
    try:
        for cells in reader:
            if cells:  # a blank line is no row
                lines.append(begin)
                rows.append([cell.strip() for cell in cells])
            begin = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{name}: line {begin}: not readable as CSV ({error}); look at the quotes there") from None
    if len(rows) < 2:
        what = "no row below its header" if rows else "no header and no row"
        raise DataError(f"{name}: empty, {what}; fill it or leave it out")
    faults = _header_faults(f"{name}: line {lines[0]}", rows[0]) + _ragged_faults(name, rows, lines)
    if faults:
        raise DataError(faults)
    return lines[1:], rows[0], rows[1:]


def _text(path: Path, name: str) -> str:
    content = path.read_bytes()
    try:
        # What spreadsheets call "CSV UTF-8" begins with a byte order mark.
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{name}: line {line}: not UTF-8; save the file as CSV UTF-8") from None


def _header_faults(where: str, header: list[str]) -> list[str]:
    several = sorted({column for column in header if header.count(column) > 1 and column})
    faults = [f"{where}: column {quote(column)} is there {header.count(column)} times; rename it" for column in several]
    if "" in header:
        faults.append(f"{where}: column {header.index('') + 1} has no name; give it one or delete it")
    return faults


def _ragged_faults(name: str, rows: list[list[str]], lines: list[int]) -> list[str]:
    width = len(rows[0])
    ragged = [row for row, cells in enumerate(rows) if len(cells) != width]
    if not ragged:
        return []
    at = Sheet(name, [], pd.DataFrame(), lines, "line").at(ragged)
    fix = "complete the row, or quote cells that contain the separator"
    return [f"{at}: {len(rows[ragged[0]])} cells but the header has {width}; {fix}"]


def _arrow(path: Path, name: str) -> pa.Table:
    try:
        with pq.ParquetFile(path) as file:
            found = file.read()
        found.validate(full=True)  # text that is not UTF-8 is told here, not when it is first used
        return found
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{name}: not readable as Parquet ({reason}); write it again") from None


def from_arrow(
    table: pa.Table, name: str, *, id: str | None, missing: Collection[str] = (), field: str = "data.id"
) -> Sheet:
    """Return an Arrow table's rows; without an id column they are called by their numbers.

    Raises:
        DataError: no row, no id column, ids that are no names, or faults of the ids.
    """
    columns = table.column_names
    if faults := _header_faults(name, columns):
        raise DataError(faults)
    if table.num_rows == 0:
        raise DataError(f"{name}: empty, no row; fill it or leave it out")
    if id is not None and id not in columns:
        raise DataError(f"{field}: {name} has no column {id!r}; {nearest(id, columns)}")
    rows = range(table.num_rows)
    cells = {column: _cells(table.column(column), missing) for column in columns if column != id}
    frame = pd.DataFrame(cells, index=rows)
    if id is None:
        return Sheet(name, [str(row) for row in rows], frame, rows)
    written = table.column(id)
    if not (_is_text(written.type) or pa.types.is_integer(written.type)):
        raise DataError(f"{name}: column {id!r} holds {written.type}, not names; write ids as text or whole numbers")
    ids = ["" if value is None else str(value).strip() for value in written.to_pylist()]
    return with_ids(Sheet(name, ids, frame, rows))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _cells(column: pa.ChunkedArray, missing: Collection[str]) -> pd.Series:
    """Return text as strings, numbers and truth values as such; of anything else only what it is, as objects."""
    kind = column.type
    if _is_text(kind) or pa.types.is_null(kind):
        blank = {"", *missing}
        texts = [None if value is None else str(value).strip() for value in column.to_pylist()]
        return pd.Series([None if text in blank else text for text in texts], dtype="str")
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        gaps = "Int64" if pa.types.is_integer(kind) else "boolean"
        cells = pd.Series(column.to_pylist(), dtype=gaps) if column.null_count else column.to_pandas()
    elif pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        cells = column.cast(pa.float64()).to_pandas()
    else:
        return pd.Series([str(kind)] * len(column), dtype="object")
    return cells.mask(cells.isin(pd.to_numeric(pd.Series(list(missing), dtype="object"), errors="coerce").dropna()))


def read_arrays(path: Path, name: str, values: str) -> tuple[Sheet, np.ndarray]:
    """Read `id` (strings or whole numbers) and `values` [n, ...] from an NPZ file; pickled objects are refused.

    Args:
        path: the file.
        name: what faults call it.
        values: name of the array of values.

    Raises:
        DataError: every fault of the file's form and of its ids, with the rows.
    """
    if not zipfile.is_zipfile(path):
        raise DataError(f"{name}: not readable as NPZ; write it again with numpy.savez")
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            lacking = [key for key in ("id", values) if key not in archive.files]
            if lacking:
                raise DataError(f"{name}: no array {lacking[0]!r}; {nearest(lacking[0], archive.files)}")
            ids, stacked = archive["id"], archive[values]
    except DataError:
        raise
    except Exception as error:  # archives and arrays that are damaged raise whatever their parsers do
        raise DataError(_unreadable(name, error)) from None
    if ids.ndim != 1 or ids.dtype.kind not in "USiu":
        raise DataError(
            f"{name}: 'id' is {ids.dtype} {list(ids.shape)}; expected a string per row, as id.astype(str) gives"
        )
    if stacked.ndim == 0 or len(stacked) != len(ids):
        raise DataError(f"{name}: 'id' has {len(ids)} rows but {values!r} has shape {list(stacked.shape)}; align them")
    if not len(ids):
        raise DataError(f"{name}: empty, no row; fill it or leave it out")
    names = [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in ids.tolist()]
    frame = pd.DataFrame(index=range(len(ids)))
    return with_ids(Sheet(name, [value.strip() for value in names], frame, range(len(ids)))), stacked


def _unreadable(name: str, error: Exception) -> str:
    if "allow_pickle" in str(error) or "Object arrays" in str(error):
        return f"{name}: holds pickled objects, which are never read; save id.astype(str) and plain numbers"
    return f"{name}: not readable as NPZ ({' '.join(str(error).split())[:120]}); write it again with numpy.savez"


def read_folder(path: Path, name: str) -> tuple[Sheet, list[str]]:
    """List a folder's pictures: each is the row that its name without the ending says. None is opened here.

    Args:
        path: the folder.
        name: what faults call it.

    Raises:
        DataError: every fault: no picture, a file that is none, two with one name.
    """
    from PIL import Image

    endings = Image.registered_extensions()
    files = sorted(file for file in path.iterdir() if not file.name.startswith(".") and file.name not in CLUTTER)
    pictures = [file for file in files if file.is_file() and file.suffix.lower() in endings]
    faults = [
        f"{name}/{file.name}: {'a folder' if file.is_dir() else 'no picture by its ending'}; move it out of {name}"
        for file in files
        if file not in pictures
    ]
    shared: dict[str, list[str]] = {}
    for file in pictures:
        shared.setdefault(file.stem, []).append(f"{name}/{file.name}")
    faults += [
        f"{', '.join(found)}: {len(found)} pictures of one row; keep one" for found in shared.values() if len(found) > 1
    ]
    if not files:
        faults.append(f"{name}: an empty folder; put pictures there, each named by its row's id")
    if faults:
        raise DataError(shortened(faults, name))
    places = [f"{name}/{file.name}" for file in pictures]
    frame = pd.DataFrame(index=range(len(pictures)))
    return Sheet(name, [file.stem for file in pictures], frame, places, ""), [str(file) for file in pictures]
