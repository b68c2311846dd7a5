"""Settings of a user's own data that are wrong: one line that names the field, before any file is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Tree = dict[str, Any]

# name -> ((field, value; None removes it), words that the one line holds).
WRONG: dict[str, tuple[tuple[str, Any], list[str]]] = {
    "a setting is unknown": (("labels", {}), ["data.labels: unknown argument", "did you mean 'label'"]),
    "a setting of a modality is unknown": (
        ("modalities.scan.siez", 9),
        ["data.modalities.scan.siez: unknown key", "did you mean 'size'"],
    ),
    "a setting has the wrong type": (
        ("modalities.scan.size", "large"),
        ["data.modalities.scan.size: expected int, got 'large'"],
    ),
    "a setting is out of range": (("modalities.scan.size", 0), ["data.modalities.scan.size: expected 2 to"]),
    "a modality says not where it is": (
        ("modalities.scan", {"size": 8}),
        ["data.modalities.scan: nothing says where it is", "folder:"],
    ),
    "a modality is no mapping": (
        ("modalities.scan", "scans"),
        ["data.modalities.scan: expected a mapping, got 'scans'"],
    ),
    "there is no modality": (("modalities", {}), ["data.modalities: expected at least one modality"]),
    "a file is of an unknown kind": (
        ("modalities.lab.file", "lab.xlsx"),
        ["data.modalities.lab.file: 'lab.xlsx'", ".csv, .tsv, .parquet, .npz"],
    ),
    "a label has neither column nor columns": (
        ("label.column", None),
        ["data.label: expected either column: or columns:"],
    ),
    "a label is no mapping": (("label", "outcome"), ["data.label: expected mapping to Any, got 'outcome'"]),
    "the label is not named at all": (("label", None), ["data.label: required argument is missing"]),
    "a task is unknown": (("task", "multiclas"), ["data.task: expected one of 'multiclass'"]),
    "a separator is two characters": (("separator", "||"), ["data.separator: expected one character"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_setting_gives_one_line_with_its_field(
    name: str, written: Path, tmp_path: Path, settings: Callable[[Path], Tree], check: Callable[[Path, Tree], list[str]]
) -> None:
    (place, value), expected = WRONG[name]
    tree = inner = settings(written)
    *parents, last = place.split(".")
    for key in parents:
        inner = inner[key]
    inner.pop(last, None)
    if value is not None:
        inner[last] = value
    lines = check(tmp_path, tree)
    assert len(lines) == 1, lines
    assert all(words in lines[0] for words in expected), lines[0]


def test_faults_of_settings_come_all_at_once(
    written: Path, tmp_path: Path, settings: Callable[[Path], Tree], check: Callable[[Path, Tree], list[str]]
) -> None:
    tree = settings(written) | {"group": {"file": "labels.csv"}, "in_memory": "no", "colour": 1}
    tree["modalities"]["scan"]["size"] = -1
    tree["label"]["colum"] = "outcome"
    lines = check(tmp_path, tree)
    fields = ["data.group.column", "data.in_memory", "data.colour", "data.modalities.scan.size", "data.label.colum"]
    assert len(lines) == len(fields)
    assert all(any(field in line for line in lines) for field in fields)
