"""A Hugging Face data set that `save_to_disk` wrote: modalities are columns, ids a column or the rows' numbers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from kd.data.assemble import Faults, assemble
from kd.data.cells import read_groups, read_labels
from kd.data.forms import Arrays, Form, Label, Pictures, Words, label_faults, modality_faults, read_form
from kd.data.parts import Part, arrays_part, chosen_columns, frame_part, pictures_part, words_part
from kd.data.readers import from_arrow
from kd.data.sheets import Sheet, nearest
from kd.data.source import Source
from kd.errors import ConfigError, DataError


def stored(
    *,
    path: str,
    label: str | Mapping[str, Any],
    modalities: Mapping[str, Any],
    id: str | None = None,
    group: str | None = None,
    task: Literal["multiclass", "multilabel", "regression"] = "multiclass",
    unlabelled: Literal["refuse", "drop"] = "refuse",
    in_memory: bool = True,
    card: Mapping[str, Any] | None = None,
) -> Source:
    """Load a data set on disk. An empty cell is a modality that the row lacks.

    Args:
        path: folder of one split, as `Dataset.save_to_disk` wrote it.
        label: a column, or `{columns: [...]}` for several; the names of a `ClassLabel` are kept, in its order.
        modalities: name -> `{text: column}`, `{image: column}`, `{columns: [...]}` or `{values: column}` (lists).
        id: the column that names a row; by default rows are called by their number.
        group: a column of names; rows that share one never land in different splits.
        task: what the label is.
        unlabelled: `refuse` makes a row without a label a fault; `drop` leaves it out.
        in_memory: decode pictures once; False decodes them whenever a batch asks, in the loader's workers.
        card: licence, origin and traps, for reports; `pretraining`, what encoders have seen of these rows
            (`kd.data.leaks.pretraining`).

    Raises:
        DataError: every fault that can be told at once, each with its row and what to do.
        ConfigError: the library `datasets` is not installed.
    """
    content, orders = _read(path)
    sheet = from_arrow(content, path, id=id)
    found, answer = Faults(), Label(**_mapping(label))
    order = orders.get(answer.names[0], [])
    labels = found.attempt(
        partial(read_labels, sheet, answer.names, task, drop_unlabelled=unlabelled == "drop", names=order)
    )
    forms = {name: read_form(written, files=False) for name, written in modalities.items()}
    parts = {
        name: found.attempt(partial(_part, sheet, content, form, f"data.modalities.{name}", id, answer, in_memory))
        for name, form in forms.items()
    }
    groups = None if group is None else partial(read_groups, sheet, group)
    # A row without a label has been told by `read_labels`; once is enough.
    return assemble("stored", parts, labels, groups, found, drop_unlabelled=True, card=card or {})


def faults(written: Mapping[str, Any], where: str) -> list[str]:
    """Return the faults inside the nested settings, which `stored`'s signature cannot say."""
    found = []
    if isinstance(written.get("label"), str | Mapping):
        label, task = _mapping(written["label"]), written.get("task", "multiclass")
        found += label_faults(label, f"{where}.label", task, files=False)
    if isinstance(written.get("modalities"), Mapping):
        found += modality_faults(written["modalities"], f"{where}.modalities", files=False)
    return found


def _mapping(label: Any) -> Any:
    return {"column": label} if isinstance(label, str) else label


def _read(path: str) -> tuple[pa.Table, dict[str, list[str]]]:
    """Return a data set's rows, class numbers replaced by their names, and these names in order by column."""
    try:
        import datasets
    except ModuleNotFoundError:
        raise ConfigError("data.name: stored needs the library datasets; pip install 'kd-missing[datasets]'") from None
    if not Path(path).is_dir():
        raise DataError(f"data.path: {path}: no such folder; it is relative to the working directory")
    try:
        found = datasets.load_from_disk(path)
    except Exception as error:  # the library raises whatever its parsers do on damaged files
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"data.path: {path}: not a data set on disk ({reason}); write it with save_to_disk") from None
    if isinstance(found, datasets.DatasetDict):
        parts = ", ".join(found)
        raise DataError(f"data.path: {path}: holds the parts {parts}; name one, as {path}/{next(iter(found))}")
    content: pa.Table = found.with_format("arrow")[:]
    orders = {name: kind.names for name, kind in found.features.items() if isinstance(kind, datasets.ClassLabel)}
    for name, names in orders.items():
        # -1 is how that library writes a class that is not known.
        words = [None if number is None or number < 0 else names[number] for number in content.column(name).to_pylist()]
        content = content.set_column(content.column_names.index(name), name, pa.array(words, pa.string()))
    return content, orders


def _part(
    sheet: Sheet, content: pa.Table, form: Form, where: str, id: str | None, label: Label, in_memory: bool
) -> Part:
    """Read one modality."""
    if isinstance(form, Pictures):
        pictures = [_picture(cell) for cell in _objects(content, form.image, f"{where}.image", "pictures")]
        return pictures_part(sheet, pictures, form.size, in_memory=in_memory, named=False)
    if isinstance(form, Arrays):
        return arrays_part(sheet, _stacked(content, form.values, sheet, f"{where}.values"), form.values)
    if isinstance(form, Words):
        if form.text in label.names:
            raise DataError(f"{where}.text: {form.text!r} is the label; a network must not see it; name another column")
        return words_part(sheet, form, where)
    return frame_part(sheet, chosen_columns(sheet, form, where, id, label), form.categories, where)


def _objects(content: pa.Table, column: str, where: str, what: str) -> list[Any]:
    """Return a column whose cells are more than numbers or words.

    Raises:
        DataError: there is no such column, or it holds something else.
    """
    if column not in content.column_names:
        raise DataError(f"{where}: no column {column!r}; {nearest(column, content.column_names)}")
    kind = content.schema.field(column).type
    suited = pa.types.is_struct(kind) or pa.types.is_binary(kind) if what == "pictures" else _is_list(kind)
    if not suited:
        raise DataError(f"{where}: column {column!r} holds {kind}, not {what}; name another, or cast it")
    return list(content.column(column).to_pylist())


def _is_list(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    return bool(pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind))


def _picture(cell: Any) -> str | bytes | None:
    """Return the bytes or the path of a picture as `datasets` keeps it."""
    if not isinstance(cell, Mapping):
        return cell if isinstance(cell, bytes) else None
    found: str | bytes | None = cell.get("bytes") or cell.get("path")
    return found


def _stacked(content: pa.Table, column: str, sheet: Sheet, where: str) -> np.ndarray:
    """Return a column of equal lists as float64 [n, ...]; NaN throughout where a cell is empty."""
    lists = _objects(content, column, where, "lists of numbers")
    try:
        arrays = [None if cell is None else np.asarray(cell, dtype=np.float64) for cell in lists]
    except (TypeError, ValueError):
        raise DataError(f"{where}: column {column!r} holds lists of other things than numbers; cast it") from None
    shapes = [None if array is None else array.shape for array in arrays]
    shape = next((found for found in shapes if found is not None), (1,))
    other = [row for row, found in enumerate(shapes) if found not in (None, shape)]
    if other:
        found = list(shapes[other[0]] or ())
        raise DataError(
            f"{sheet.at(other)}: column {column!r} has shape {found}, other rows {list(shape)}; pad or cut them"
        )
    return np.stack([np.full(shape, np.nan) if array is None else array for array in arrays])
