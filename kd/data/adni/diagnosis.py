"""Diagnoses of subjects at visits, from ADNIMERGE's DX or from DXSUM, as classes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pandas as pd

from kd.data.adni.names import CHANGES, DIAGNOSES, MISSING, STATES, SUBJECT, WORDS
from kd.data.adni.visits import KEY, at_visits, baseline_first, by_month, row_keys
from kd.data.cells import Labels, read_labels
from kd.data.sheets import Sheet, nearest, quote, shortened
from kd.errors import DataError

COLUMN = "diagnosis"


def read_diagnoses(sheet: Sheet, visits: Collection[str] | None, classes: Sequence[str]) -> Labels:
    """Return the class of every subject and visit that has one of `classes`; an id is RID and visit, as `4 bl`.

    Args:
        sheet: the table of diagnoses, every row called by its number.
        visits: codes; None for all that are scheduled.
        classes: of `names.CLASSES`, in the order of their numbers.

    Raises:
        DataError: columns that are missing, values that are no diagnosis, a visit without rows, a visit with two
            diagnoses, or a class without rows.
    """
    keys = row_keys(sheet)
    states = _states(sheet)
    keys = keys.assign(state=states)[states != ""]
    _refuse_unknown_visits(sheet, keys, visits)
    keys = baseline_first(at_visits(keys, visits))
    faults = _conflicts(sheet, keys)
    first = keys.drop_duplicates(KEY)
    faults += _lacking(sheet, set(first["state"]), visits, classes)
    if faults:
        raise DataError(faults)
    chosen = first[first["state"].isin(classes)]
    ids = (chosen["subject"] + " " + chosen["visit"]).tolist()
    frame = pd.DataFrame({COLUMN: pd.Series(chosen["state"].tolist(), dtype="str")})
    kept = Sheet(sheet.name, ids, frame, [sheet.places[row] for row in chosen.index], sheet.unit)
    return read_labels(kept, [COLUMN], "multiclass", drop_unlabelled=False, names=classes)


def _states(sheet: Sheet) -> pd.Series:
    """Return each row's class, "" where the diagnosis is empty."""
    columns = [name for name in DIAGNOSES if name in sheet.frame]
    if not columns:
        expected = ", ".join(DIAGNOSES)
        raise DataError(
            f"{sheet.name}: no column of diagnoses, as {expected}; {nearest(DIAGNOSES[0], map(str, sheet.frame))}"
        )
    found = pd.Series("", index=sheet.frame.index, dtype=object)
    faults = []
    for name in columns:
        cells = sheet.frame[name].astype(object)
        read = cells.map(lambda cell, name=name: "" if pd.isna(cell) else state(str(cell), name))
        unknown = cells[read.isna()]
        if len(unknown):
            at, shown = sheet.at(list(unknown.index)), quote(unknown.iloc[0])
            expected = ", ".join([*WORDS, *map(str, _codes(name))])
            faults.append(
                f"{at}: {name} is {shown}, no diagnosis that is known ({expected}); correct it or leave it empty"
            )
        found = found.where(found != "", read)
    if faults:
        raise DataError(faults)
    return found


def state(written: str, column: str) -> str | None:
    """Return the class that a cell says, "" for a code of a missing one, None for anything else.

    >>> state("MCI to Dementia", "DX"), state("8", "DXCHANGE"), state("1.0", "DIAGNOSIS"), state("-4", "DXCURREN")
    ('AD', 'MCI', 'NC', '')
    """
    word = written.strip().rpartition(" to ")[2].rpartition(": ")[2]
    if word in WORDS or not word:
        return WORDS.get(word, "")
    try:
        code = float(word)
    except ValueError:
        return None
    return "" if code in MISSING else _codes(column).get(code)


def _codes(column: str) -> Mapping[float, str]:
    return CHANGES if column == "DXCHANGE" else STATES


def _refuse_unknown_visits(sheet: Sheet, keys: pd.DataFrame, visits: Collection[str] | None) -> None:
    known = by_month(keys["visit"])
    if not known:
        raise DataError(
            f"{sheet.name}: no row has both a diagnosis and a visit that is bl, sc or months as m06; fill some"
        )
    lost = [code for code in visits or () if code not in known]
    if lost:
        raise DataError(
            [f"data.visit: no row of {sheet.name} is a diagnosis at {v!r}; {nearest(v, known)}" for v in lost]
        )


def _lacking(sheet: Sheet, states: set[str], visits: Collection[str] | None, classes: Sequence[str]) -> list[str]:
    """Return a fault for every class that no subject has."""
    at, found = "any visit" if visits is None else " or ".join(visits), ", ".join(sorted(states))
    return [
        f"{sheet.name}: no subject is {name} at {at} (found: {found}); leave it out of data.classes, or choose another "
        "data.visit"
        for name in classes
        if name not in states
    ]


def _conflicts(sheet: Sheet, keys: pd.DataFrame) -> list[str]:
    """Return a fault for every subject and visit that has two diagnoses."""
    counts = keys.groupby(KEY)["state"].transform("nunique")
    faults = []
    for (name, visit), rows in keys[counts > 1].groupby(KEY):
        states = " and ".join(sorted(set(rows["state"])))
        faults.append(f"{sheet.at(list(rows.index))}: {SUBJECT} {name} is {states} at {visit}; keep one diagnosis")
    return shortened(faults, sheet.name)
