"""The user's own data, without code: one file or folder per modality, ids that tie them together, and labels.

See `docs/your-data.md`. Reading is in `kd.data.readers`, what cells mean in `kd.data.cells`, joining in
`kd.data.assemble`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from kd.data.assemble import Faults, assemble
from kd.data.cells import Labels, read_groups, read_labels
from kd.data.files import Files
from kd.data.forms import (
    Arrays,
    Cells,
    Form,
    Group,
    Label,
    Pictures,
    Words,
    group_faults,
    label_faults,
    modality_faults,
    read_form,
)
from kd.data.parts import Part, arrays_part, chosen_columns, frame_part, pictures_part, words_part
from kd.data.readers import read_arrays, read_folder
from kd.data.sheets import Sheet
from kd.data.source import Source
from kd.errors import DataError


def table(
    *,
    id: str,
    label: Mapping[str, Any],
    modalities: Mapping[str, Any],
    group: Mapping[str, Any] | None = None,
    task: Literal["multiclass", "multilabel", "regression"] = "multiclass",
    unlabelled: Literal["refuse", "drop"] = "refuse",
    in_memory: bool = True,
    root: str = ".",
    separator: str = ",",
    missing: Sequence[str | int | float] = (),
    card: Mapping[str, Any] | None = None,
) -> Source:
    """Load the user's own files. A row of the source is an id that has a label and at least one modality.

    Args:
        id: the column that names a row, in every table; ids are compared as text.
        label: `{file, column}`, or `{file, columns}` for several.
        modalities: name -> `{file}` (a table, or arrays where it ends in .npz), `{file, text: column}` or `{folder}`.
        group: `{file, column}`; rows that share a name never land in different splits.
        task: what the label is.
        unlabelled: `refuse` makes an id without a label a fault; `drop` leaves it out.
        in_memory: decode pictures once; False decodes them whenever a batch asks, in the loader's workers.
        root: folder that all paths are relative to.
        separator: between two cells of a CSV.
        missing: words that stand for an empty cell, as `NA` or `-999`.
        card: licence, origin and traps, for reports; `pretraining`, what encoders have seen of these rows
            (`kd.data.leaks.pretraining`).

    Raises:
        DataError: every fault that can be told at once, each with its file, its row and what to do.
        ConfigError: `root` is no folder, or the separator is none.
    """
    files = Files(Path(root), id, separator, [str(word) for word in missing])
    found, drop = Faults(), unlabelled == "drop"
    forms = {name: read_form(written, files=True) for name, written in modalities.items()}
    answer, groups = Label(**label), None if group is None else Group(**group)
    labels = found.attempt(partial(_labels, files, answer, task, drop_unlabelled=drop))
    parts: dict[str, Part | Sheet | None] = {}
    for name, form in forms.items():
        part = found.attempt(partial(_part, files, forms, name, answer, groups, in_memory))
        parts[name] = files.known(form) if part is None else part
    grouped = None if groups is None else partial(_grouped, files, groups)
    return assemble("table", parts, labels, grouped, found, drop_unlabelled=drop, card=card or {})


def faults(written: Mapping[str, Any], where: str) -> list[str]:
    """Return the faults inside the nested settings, which `table`'s signature cannot say."""
    found = []
    if isinstance(written.get("label"), Mapping):
        found += label_faults(written["label"], f"{where}.label", written.get("task", "multiclass"), files=True)
    if isinstance(written.get("group"), Mapping):
        found += group_faults(written["group"], f"{where}.group")
    if isinstance(written.get("modalities"), Mapping):
        found += modality_faults(written["modalities"], f"{where}.modalities", files=True)
    separator = written.get("separator", ",")
    if isinstance(separator, str) and (len(separator) != 1 or separator in '"\r\n'):
        found.append(f'{where}.separator: expected one character, as "," or ";", got {separator!r}')
    return found


def _labels(files: Files, label: Label, task: str, *, drop_unlabelled: bool) -> Labels:
    sheet = files.sheet(label.file, "data.label.file")
    return read_labels(sheet, label.names, task, drop_unlabelled=drop_unlabelled)


def _grouped(files: Files, group: Group, ids: Sequence[str]) -> Tensor:
    return read_groups(files.sheet(group.file, "data.group.file"), group.column, ids)


def _part(
    files: Files, forms: Mapping[str, Form], name: str, label: Label, group: Group | None, in_memory: bool
) -> Part:
    """Read one modality."""
    form, where = forms[name], f"data.modalities.{name}"
    if isinstance(form, Pictures):
        path = files.path(form.folder, f"{where}.folder", folder=True)
        sheet, pictures = read_folder(path, files.name(form.folder))
        return pictures_part(sheet, pictures, form.size, in_memory=in_memory)
    if isinstance(form, Arrays):
        sheet, values = read_arrays(files.path(form.file, f"{where}.file"), files.name(form.file), form.values)
        return arrays_part(sheet, values, form.values)
    sheet = files.sheet(form.file, f"{where}.file")
    if isinstance(form, Words):
        if form.text in label.names:
            raise DataError(f"{where}.text: {form.text!r} is the label; a network must not see it; name another column")
        return words_part(sheet, form, where)
    others = [other for key, other in forms.items() if key != name]
    columns = chosen_columns(sheet, form, where, files.id, label, _claimed(form.file, label, group, others))
    return frame_part(sheet, columns, form.categories, where)


def _claimed(file: str, label: Label, group: Group | None, others: Sequence[Form]) -> set[str]:
    """Return the columns of a file that something else in the settings names."""
    claimed = set(label.names) if label.file == file else set()
    if group is not None and group.file == file:
        claimed.add(group.column)
    for form in others:
        if isinstance(form, Words) and form.file == file:
            claimed.add(form.text)
        if isinstance(form, Cells) and form.file == file:
            claimed |= set(form.columns or [])
    return claimed
