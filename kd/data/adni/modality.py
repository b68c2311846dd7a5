"""One modality: the features of a table by subject and visit."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from kd.data.adni.names import ADMINISTRATIVE, PASSED, REGIONS, SUBJECT, TELLING, TESTS, WORDY, matching
from kd.data.adni.visits import KEY, at_visits, by_month, one_each, row_keys, subject_keys
from kd.data.cells import holds_words, read_frame
from kd.data.forms import Cells, Label
from kd.data.parts import Part, chosen_columns, table_part
from kd.data.sheets import Sheet, nearest
from kd.errors import DataError


@dataclass
class Table(Cells):
    """A table of ADNI's: `columns` and `drop` are names or patterns such as `ST*SV`."""

    only: dict[str, list[str | int | float]] | None = None
    """Column -> what rows must hold there; by default `names.PASSED` where the table has such columns."""
    by: Literal["visit", "subject"] = "visit"
    """`subject` where a table has one row per subject that belongs to all visits, as a genotype does."""


@dataclass(frozen=True)
class Reading:
    """A modality, and what of its table is not in it.

    Attributes:
        part: the rows with values; an id is RID and visit, as `4 bl`.
        unread: for the card; "" where all was read.
    """

    part: Part
    unread: str


def read_modality(
    sheet: Sheet,
    form: Table,
    where: str,
    *,
    visits: Collection[str] | None,
    known: Mapping[str, Sequence[str]],
    missing: Collection[float],
) -> Reading:
    """Read a table's features, a row for each subject and visit.

    Args:
        sheet: the table, every row called by its number.
        form: what the config says of it.
        where: the modality's place in the config, for faults.
        visits: codes; None for all that are scheduled.
        known: subject -> ids of its diagnoses, which a row `by: subject` belongs to.
        missing: numbers that stand for an empty cell.

    Raises:
        DataError: all faults that can be told at once.
    """
    by_subject = form.by == "subject"
    keys = subject_keys(sheet) if by_subject else row_keys(sheet, hint=f"; or write {where}.by: subject")
    passing = keys[_passes(sheet, form.only, where)]
    wanted = passing if by_subject else at_visits(passing, visits)
    if not len(wanted):
        at = "a scheduled visit" if visits is None else " or ".join(visits)
        raise DataError(f"{sheet.name}: no row at {at}; {nearest('', by_month(passing['visit']))}")
    rows, wanted = sheet.take(list(wanted.index)), wanted.reset_index(drop=True)
    rows = replace(rows, frame=rows.frame.apply(tidy, missing=missing))
    frame = read_frame(rows, feature_columns(rows, form, where), form.categories, where)
    regions = [name for name in REGIONS if name in rows.frame]
    # A row without values stands for nothing, however late it is.
    wanted = wanted.assign(**{name: rows.frame[name] for name in regions})[frame.notna().any(axis=1)]
    chosen = one_each(rows, wanted, [*KEY, *regions], frame.loc[wanted.index], where)
    part = _part(rows, chosen, frame.loc[chosen.index], regions, known if by_subject else None)
    told = {
        "are left out by quality or by `only`": len(keys) - len(passing),
        "are further ones of a visit": len(wanted) - len(chosen),
    }
    return Reading(part, ", ".join(f"{count} rows {what}" for what, count in told.items() if count))


def _passes(sheet: Sheet, only: Mapping[str, Sequence[str | int | float]] | None, where: str) -> pd.Series:
    """Say which rows hold what is asked for, bool [n]."""
    asked = {k: v for k, v in PASSED.items() if k in sheet.frame} if only is None else only
    passes = pd.Series(True, index=sheet.frame.index)
    for name, values in asked.items():
        passes &= sheet.column(name, f"{where}.only").astype(str).isin([str(value) for value in values])
    if not passes.any():
        said = "; ".join(f"{name}: {', '.join(map(str, values))}" for name, values in asked.items())
        raise DataError(f"{sheet.name}: no row holds {said}; say which rows to read in {where}.only")
    return passes


def tidy(cells: pd.Series, missing: Collection[float]) -> pd.Series:
    """Return a column with empty cells for ADNI's codes of missing values, and limits of an assay for what is beyond.

    A column that holds other negative numbers as well, as centiloids do, has no such codes.

    >>> tidy(pd.Series(["1.5", "-4", ">1700", "<8"], dtype="str"), [-4, -1]).tolist()
    ['1.5', nan, '1700', '8']
    """
    if isinstance(cells.dtype, pd.StringDtype):
        cells = cells.str.replace(r"^[<>]\s*(?=[\d.])", "", regex=True)
    elif cells.dtype == object:
        return cells
    amounts = pd.to_numeric(cells.astype(object), errors="coerce").astype("float64")
    coded = amounts.isin(list(missing))
    return cells if ((amounts < 0) & ~coded).any() else cells.mask(coded)


def feature_columns(sheet: Sheet, form: Table, where: str) -> list[str]:
    """Return the columns of a table that are features: those that are written, or all that measure something.

    Raises:
        DataError: a name that is no column, a diagnosis among them, none left, or a table that holds diagnoses and no
            `columns`.
    """
    names = [str(name) for name in sheet.frame]
    telling = matching(names, TELLING)
    if telling and form.columns is None:
        raise DataError(
            f"{where}: {sheet.name} holds diagnoses ({', '.join(telling[:3])}) beside all else; name its features in "
            f"{where}.columns"
        )
    idle = {name for name in names if _measures_nothing(sheet.frame[name], name in form.categories)}
    left_out = idle | set(matching(names, (*ADMINISTRATIVE, *TELLING, *TESTS)))
    features = [name for name in names if name not in left_out]
    written = Cells(
        columns=None if form.columns is None else _written_out(form.columns, features, sheet.name, where),
        drop=[name for pattern in form.drop for name in matching(names, [pattern]) or [pattern]],
        categories=form.categories,
    )
    return chosen_columns(sheet, written, where, SUBJECT, Label(columns=telling), left_out)


def _written_out(columns: Sequence[str], features: Sequence[str], file: str, where: str) -> list[str]:
    """Return names as they are, and for patterns those that they match of the columns that are features by default."""
    found: list[str] = []
    for written in columns:
        pattern = any(sign in written for sign in "*?[")
        matched = matching(features, [written]) if pattern else [written]
        if not matched:
            raise DataError(
                f"{where}.columns: no feature of {file} matches {written!r}; columns that are left out by default have "
                "to be named in full"
            )
        found += matched
    return found


def _measures_nothing(cells: pd.Series, category: bool) -> bool:
    if not cells.notna().any() or cells.dtype == object:
        return True
    return holds_words(cells) and not category and cells.name not in WORDY


def _part(
    sheet: Sheet,
    keys: pd.DataFrame,
    frame: pd.DataFrame,
    regions: Sequence[str],
    known: Mapping[str, Sequence[str]] | None,
) -> Part:
    """Return chosen rows as a part: regions become columns, and rows of a subject are repeated for its visits."""
    places = pd.Series([sheet.places[row] for row in keys.index], index=keys.index)
    if regions:
        region = keys[list(regions)].fillna("").astype(str).agg(" ".join, axis=1).str.strip()
        index = [keys["subject"], keys["visit"]]
        places = places.groupby(index).first()
        frame = frame.set_index([*index, region]).unstack()
        frame.columns = [f"{value} {name}" for value, name in frame.columns]
        keys = frame.index.to_frame(index=False)
    owners = [
        (row, name)
        for row, (subject, visit) in enumerate(keys[KEY].to_numpy())
        for name in ([f"{subject} {visit}"] if known is None else known.get(subject, [subject]))
    ]
    rows, ids = [row for row, _ in owners], [name for _, name in owners]
    filled = frame.iloc[rows].dropna(axis="columns", how="all").reset_index(drop=True)
    return table_part(Sheet(sheet.name, ids, filled, [places.iloc[row] for row in rows], sheet.unit), filled)
