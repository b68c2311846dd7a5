"""How a user's own data are written down in YAML: where labels and groups are, and in what form each modality is kept.

The dataclasses are the schema (as in `kd.config`). Which one describes a modality follows from the keys that are
written; every fault is told at once, each naming its field.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kd.errors import ConfigError
from kd.parsing import name_fault, schema_faults
from kd.processors.words import Pieces
from kd.registry import suggest


@dataclass
class Label:
    """Columns that hold the labels."""

    file: str = ""
    """The table they are in."""
    column: str | None = None
    """One column: classes, or a number."""
    columns: list[str] | None = None
    """Several: a multilabel task's classes, or several numbers."""

    @property
    def names(self) -> list[str]:
        """The columns, in the order written."""
        return [self.column] if self.column is not None else list(self.columns or [])


@dataclass
class Group:
    """A column of names; rows that share one never land in different splits."""

    file: str
    column: str


@dataclass
class Cells:
    """A table of numbers and categories."""

    file: str = ""
    columns: list[str] | None = None
    """The columns to read; by default all that nothing else in `data` names."""
    drop: list[str] = field(default_factory=list)
    """Columns to leave out."""
    categories: list[str] = field(default_factory=list)
    """Columns of numbers that are names in truth, such as a ward's."""


@dataclass
class Words:
    """A column of text."""

    text: str
    """The column."""
    file: str = ""
    length: int | None = None
    """Tokens per row, special ones included; by default what the longest training row needs, at most 128."""
    vocabulary: int = 4000
    """Pieces of the vocabulary that is trained on training rows."""
    pieces: Pieces = "wordpiece"
    """What is trained: WordPiece tokens in their order, or letter n-grams without one."""
    tokenizer: str | None = None
    """A ready tokenizer instead: a folder, `package:NAME/FOLDER` or a hub's name."""


@dataclass
class Pictures:
    """A folder of pictures, each named by its row's id, or a column of them."""

    folder: str = ""
    image: str = ""
    """The column of a data set on disk."""
    size: int = 48
    """Pixels along each side of what networks see."""


@dataclass
class Arrays:
    """Float vectors or sequences, or uint8 pictures, of one shape."""

    file: str = ""
    values: str = "values"
    """The array in the file, or the column of a data set on disk."""


Form = Cells | Words | Pictures | Arrays
LEAST = {"size": 2, "length": 2, "vocabulary": 16}
MOST = {"size": 4096, "length": 65536, "vocabulary": 1_000_000}
TABLES = (".csv", ".tsv", ".parquet")
"""Kinds of file that hold a table."""
IN_FILES: Mapping[type, tuple[str, ...]] = {
    Pictures: ("folder", "size"),
    Words: ("file", "text", "length", "vocabulary", "pieces", "tokenizer"),
    Arrays: ("file", "values"),
    Cells: ("file", "columns", "drop", "categories"),
}
IN_COLUMNS: Mapping[type, tuple[str, ...]] = {
    Pictures: ("image", "size"),
    Words: ("text", "length", "vocabulary", "pieces", "tokenizer"),
    Arrays: ("values",),
    Cells: ("columns", "categories"),
}
"""The keys of each form, in files of the user's own and in one data set on disk."""


def file_form(written: Mapping[str, Any]) -> type | None:
    """Return the schema that a modality of files is meant to follow, None where that cannot be told."""
    if "folder" in written:
        return Pictures
    if "file" not in written:
        return None
    if "text" in written:
        return Words
    return Arrays if str(written["file"]).lower().endswith(".npz") else Cells


def column_form(written: Mapping[str, Any]) -> type | None:
    """Return the schema that a modality of a data set's columns is meant to follow, None where that cannot be told."""
    deciding = {"image": Pictures, "text": Words, "values": Arrays, "columns": Cells}
    return next((form for key, form in deciding.items() if key in written), None)


def modality_faults(modalities: Any, where: str, *, files: bool) -> list[str]:
    """Return every fault of `modalities:`.

    Args:
        modalities: name -> form, as written.
        where: the field's place.
        files: each is in files of its own; otherwise all are columns of one data set.
    """
    if not isinstance(modalities, Mapping) or not modalities:
        return [f"{where}: expected at least one modality, {{name: {{...}}}}, got {modalities!r}"]
    found = []
    for name, written in modalities.items():
        fault = name_fault(name, where)
        if fault is not None:
            found.append(fault)
        elif not isinstance(written, Mapping):
            found.append(f"{where}.{name}: expected a mapping, got {written!r}")
        else:
            found += _form_faults(written, f"{where}.{name}", files=files)
    return found


def _form_faults(written: Mapping[str, Any], where: str, *, files: bool) -> list[str]:
    known = IN_FILES if files else IN_COLUMNS
    form = file_form(written) if files else column_form(written)
    if form is None:
        every = dict.fromkeys(key for keys in known.values() for key in keys)
        choice = "file: or folder:" if files else "text:, image:, columns: or values:"
        wrong = [f"{where}.{key}: unknown key; {suggest(str(key), every)}" for key in written if key not in every]
        return [*wrong, f"{where}: nothing says where it is; write {choice}"]
    found = _key_faults(form, written, where, known[form]) or range_faults(written, where)
    if not found and files and form in (Words, Cells):
        found = table_faults(written["file"], f"{where}.file", TABLES if form is Words else (*TABLES, ".npz"))
    return found


def range_faults(written: Mapping[str, Any], where: str) -> list[str]:
    """Return a fault for every number outside its range."""
    return [
        f"{where}.{key}: expected {LEAST[key]} to {MOST[key]}, got {written[key]}"
        for key in LEAST
        if written.get(key) is not None and not LEAST[key] <= written[key] <= MOST[key]
    ]


def table_faults(file: str, where: str, kinds: tuple[str, ...] = TABLES) -> list[str]:
    """Return a fault where a file is none of these kinds by its name."""
    if file.lower().endswith(kinds):
        return []
    return [f"{where}: {file!r}: expected a name that ends in {', '.join(kinds)}; save it as one of them"]


def label_faults(label: Any, where: str, task: str, *, files: bool) -> list[str]:
    """Return every fault of `label:`; in a data set on disk it may be a column's name."""
    keys = ("file", "column", "columns") if files else ("column", "columns")
    found = _key_faults(Label, label, where, keys)
    if found:
        return found
    if files and "file" not in label:
        found = [f"{where}.file: required key is missing"]
    elif files:
        found = table_faults(label["file"], f"{where}.file")
    named = [key for key in ("column", "columns") if label.get(key)]
    if len(named) != 1:
        found.append(f"{where}: expected either column: or columns:, got {' and '.join(named) or 'neither'}")
    elif named == ["columns"] and task == "multiclass":
        found.append(f"{where}.columns: a multiclass label has one column; write column:, or set data.task")
    return found


def group_faults(group: Any, where: str) -> list[str]:
    """Return every fault of `group:`."""
    return schema_faults(Group, group, where) or table_faults(group["file"], f"{where}.file")


def _key_faults(schema: type, written: Any, where: str, keys: Iterable[str]) -> list[str]:
    """Return the faults of a schema of which only some keys are allowed here."""
    if not isinstance(written, Mapping):
        return schema_faults(schema, written, where)
    allowed = list(keys)
    other = [f"{where}.{key}: unknown key; {suggest(str(key), allowed)}" for key in written if key not in allowed]
    found = schema_faults(schema, {k: v for k, v in written.items() if k in allowed}, where)
    empty = [f"{where}.{key}: expected a name, got ''" for key in allowed if written.get(key) == ""]
    return other + found + empty


def read_form(written: Mapping[str, Any], *, files: bool) -> Form:
    """Return a modality's form; `modality_faults` has been asked before.

    Raises:
        ConfigError: nothing says which form it is.
    """
    schema = file_form(written) if files else column_form(written)
    if schema is None:
        raise ConfigError(f"modality: expected one of its forms, got {dict(written)!r}")
    form: Form = schema(**written)
    return form
