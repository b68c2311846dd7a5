"""The source `adni`: diagnoses as classes, a modality per table, a row per subject and visit, subjects never divided.

See `docs/adni.md`. Names are in `kd.data.adni.names`, with where they were read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from kd.data.adni.diagnosis import read_diagnoses
from kd.data.adni.modality import Reading, Table, read_modality
from kd.data.adni.names import CLASSES, MISSING, WORDS
from kd.data.adni.visits import visit_code
from kd.data.assemble import Faults, assemble
from kd.data.cells import Labels
from kd.data.files import Files
from kd.data.forms import table_faults
from kd.data.parts import Part
from kd.data.sheets import Sheet
from kd.data.source import Source
from kd.errors import DataError
from kd.parsing import name_fault, schema_faults
from kd.registry import suggest

ALL = "all"
CARD = {
    "licence": "ADNI Data Use Agreement: each user applies for access, and no participant's data are passed on",
    "origin": "your own download of the Alzheimer's Disease Neuroimaging Initiative, adni.loni.usc.edu",
    "traps": "dementia counts as AD whatever its cause; diagnoses rest on cognitive tests, which are no features "
    "unless named; who has PET or CSF depends on phase and consent, so that gaps are not at random; scanners, "
    "FreeSurfer versions, tracers and assays differ between phases; screening counts as baseline",
}


def adni(
    *,
    diagnosis: str,
    modalities: Mapping[str, Any],
    classes: Sequence[str] = ("NC", "AD"),
    visit: str | Sequence[str] = "bl",
    root: str = ".",
    missing: Sequence[str | int | float] = MISSING,
) -> Source:
    """Load ADNI's tables. A row is a subject (RID) at a visit, with a diagnosis among `classes` and any modality.

    A subject who is not in a modality's table at that visit lacks the modality. Rows of a subject are one group.

    Args:
        diagnosis: the table of diagnoses: ADNIMERGE or DXSUM, any version.
        modalities: name -> `{file}`, and `columns`, `drop`, `categories`, `only`, `by` (`kd.data.adni.modality.Table`).
        classes: at least two of NC, MCI, AD, in the order of their numbers.
        visit: a visit code, several, or `all`.
        root: folder that all paths are relative to.
        missing: numbers and words that stand for an empty cell.

    Raises:
        DataError: every fault that can be told at once, each with its file, its row and what to do.
        ConfigError: `root` is no folder.
    """
    words = [str(word) for word in missing if not _is_number(word)]
    codes = [float(code) for code in missing if _is_number(code)]
    files, found = Files(Path(root), None, ",", words), Faults()
    visits = None if visit == ALL else [visit] if isinstance(visit, str) else list(visit)
    labels = found.attempt(lambda: read_diagnoses(files.sheet(diagnosis, "data.diagnosis"), visits, classes))
    read = partial(_modality, files, visits=visits, labels=labels, missing=codes)
    readings = {name: found.attempt(partial(read, name, Table(**form))) for name, form in modalities.items()}
    parts: dict[str, Part | Sheet | None] = {k: None if one is None else one.part for k, one in readings.items()}
    unread = "; ".join(f"{name}: {one.unread}" for name, one in readings.items() if one is not None and one.unread)
    card = CARD | ({"not_read": unread} if unread else {})
    source = assemble("adni", parts, labels, _groups, found, drop_unlabelled=True, card=card)
    lost = [name for name in classes if name not in source.class_names]
    if lost:
        raise DataError(
            f"{files.name(diagnosis)}: no subject that is {lost[0]} has any modality; remove it from data.classes"
        )
    return source


def faults(written: Mapping[str, Any], where: str) -> list[str]:
    """Return the faults inside the nested settings, which `adni`'s signature cannot say."""
    found = _class_faults(written.get("classes", CLASSES), f"{where}.classes")
    found += _visit_faults(written.get("visit", ALL), f"{where}.visit")
    if isinstance(written.get("diagnosis"), str):
        found += table_faults(written["diagnosis"], f"{where}.diagnosis")
    forms = written.get("modalities")
    if isinstance(forms, Mapping):
        if not forms:
            found.append(f"{where}.modalities: expected at least one modality, {{name: {{file: ...}}}}, got {forms!r}")
        for name, form in forms.items():
            fault = name_fault(name, f"{where}.modalities")
            found += [fault] if fault else _form_faults(form, f"{where}.modalities.{name}")
    return found


def _class_faults(classes: Any, where: str) -> list[str]:
    if not isinstance(classes, Sequence) or isinstance(classes, str):
        return []  # the signature tells
    unknown = [str(name) for name in classes if name not in CLASSES]
    hints = {name: f"write {WORDS[name]}" if name in WORDS else suggest(name, CLASSES) for name in unknown}
    found = [f"{where}: unknown class {name!r}; {hint}" for name, hint in hints.items()]
    if not found and (len(classes) < 2 or len(set(classes)) < len(classes)):
        found.append(f"{where}: expected two or three different ones of {', '.join(CLASSES)}, got {list(classes)!r}")
    return found


def _visit_faults(visit: Any, where: str) -> list[str]:
    if visit == ALL:
        return []
    codes = [visit] if isinstance(visit, str) else list(visit) if isinstance(visit, Sequence) else []
    found = [
        f"{where}: {code!r} is no visit code; write {visit_code(code) or 'bl, months as m06'}, or all"
        for code in codes
        if isinstance(code, str) and visit_code(code) != code
    ]
    return found if codes else [f"{where}: expected a visit code, several, or all, got {visit!r}"]


def _form_faults(form: Any, where: str) -> list[str]:
    found = schema_faults(Table, form, where)
    if found:
        return found
    if not form.get("file"):
        return [f"{where}.file: required key is missing"]
    return table_faults(form["file"], f"{where}.file")


def _modality(
    files: Files,
    name: str,
    form: Table,
    *,
    visits: Collection[str] | None,
    labels: Labels | None,
    missing: Collection[float],
) -> Reading:
    """Read one modality, and refuse one that no subject with a diagnosis has."""
    where, known = f"data.modalities.{name}", dict[str, list[str]]()
    for key in labels.row if labels is not None else ():
        known.setdefault(_subject(key), []).append(key)
    sheet = files.sheet(form.file, f"{where}.file")
    # Where the diagnoses have a fault it may be the visit's, which every table would tell once more.
    wanted = None if labels is None else visits
    reading = read_modality(sheet, form, where, visits=wanted, known=known, missing=missing)
    if labels is not None and not labels.row.keys() & reading.part.rows.keys():
        raise DataError(
            f"{sheet.name}: no subject with a diagnosis in {labels.sheet.name} has modality {name!r} at that visit; "
            "compare RID and visit codes of both files, or leave the modality out"
        )
    return reading


def _groups(ids: Sequence[str]) -> Tensor:
    """Return the subject of each row as int64 [N]."""
    return torch.from_numpy(pd.factorize(pd.Series([int(_subject(key)) for key in ids]), sort=True)[0])


def _subject(key: str) -> str:
    return key.partition(" ")[0]


def _is_number(word: str | int | float) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
