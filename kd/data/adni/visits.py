"""Whose row it is, of which visit, and which row is read where a visit has several."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

import pandas as pd

from kd.data.adni.names import BASELINE, DATES, PREFERRED, SCREENING, SUBJECT, VISITS
from kd.data.sheets import Sheet, nearest, quote, shortened
from kd.errors import DataError

KEY = ["subject", "visit"]


def visit_code(written: str) -> str:
    """Return a visit as ADNIMERGE calls it: `bl`, or months as `m06`; "" for any other, such as unscheduled ones.

    >>> [visit_code(code) for code in ("bl", "sc", "scmri", "m6", "M120", "uns1", "")]
    ['bl', 'bl', 'bl', 'm06', 'm120', '', '']
    """
    code = written.strip().lower()
    if code in (BASELINE, *SCREENING):
        return BASELINE
    months = re.fullmatch(r"m(\d+)", code)
    if months is None:
        return ""
    return f"m{int(months[1]):02d}" if int(months[1]) else BASELINE


def by_month(codes: Iterable[str]) -> list[str]:
    """Return visits once each, in the order they took place.

    >>> by_month(["m120", "bl", "m06", "", "bl"])
    ['bl', 'm06', 'm120']
    """
    return sorted({code for code in codes if code}, key=lambda code: 0 if code == BASELINE else int(code[1:]))


def row_keys(sheet: Sheet, *, hint: str = "") -> pd.DataFrame:
    """Return subject (RID), visit code and whether the visit was a screening, a row for each of the sheet's.

    Args:
        sheet: a table as it was read, every row called by its number.
        hint: what else can be done about a table without visit codes, for faults.

    Raises:
        DataError: no column of subjects or visits, or subjects that are no whole numbers.
    """
    faults, codes = [], [name for name in VISITS if name in sheet.frame]
    if not codes:
        there = nearest(VISITS[0], map(str, sheet.frame))
        faults.append(f"{sheet.name}: no column {' or '.join(map(repr, VISITS))} (the visit); {there}{hint}")
    try:
        found = subject_keys(sheet)
    except DataError as error:
        raise DataError([*error.faults, *faults]) from None
    if faults:
        raise DataError(faults)
    written = _texts(sheet.frame[codes[0]])
    for name in codes[1:]:
        written = written.where(written != "", _texts(sheet.frame[name]))
    return found.assign(visit=written.map(visit_code), screening=written.str.lower().isin(SCREENING))


def subject_keys(sheet: Sheet) -> pd.DataFrame:
    """Return the same for a table with a row per subject: its visits are "".

    Raises:
        DataError: no column of subjects, or rows whose RID is no whole number.
    """
    if SUBJECT not in sheet.frame:
        raise DataError(f"{sheet.name}: no column {SUBJECT!r} (the subject); {nearest(SUBJECT, map(str, sheet.frame))}")
    cells = sheet.frame[SUBJECT].astype(object)
    amounts = pd.to_numeric(cells, errors="coerce").astype("float64")
    wrong = amounts.index[~((amounts >= 0) & (amounts % 1 == 0))].tolist()
    if wrong:
        shown = quote("" if pd.isna(cells[wrong[0]]) else cells[wrong[0]])
        raise DataError(f"{sheet.at(wrong)}: {SUBJECT} is {shown}, no whole number; correct it or delete the row")
    # "0004" of one table is "4" of another.
    return pd.DataFrame({"subject": amounts.astype("int64").astype(str), "visit": "", "screening": False})


def at_visits(keys: pd.DataFrame, visits: Collection[str] | None) -> pd.DataFrame:
    """Return the rows at some visits, or at any scheduled one where None is asked for."""
    return keys[keys["visit"] != ""] if visits is None else keys[keys["visit"].isin(visits)]


def baseline_first(keys: pd.DataFrame) -> pd.DataFrame:
    """Return the rows without those of a screening whose subject has a row of the baseline itself."""
    own = keys.loc[~keys["screening"], KEY].drop_duplicates()
    known = keys[KEY].merge(own.assign(own=True), on=KEY, how="left")["own"].notna().to_numpy()
    return keys[~(keys["screening"].to_numpy() & known)]


def one_each(sheet: Sheet, keys: pd.DataFrame, by: Sequence[str], values: pd.DataFrame, where: str) -> pd.DataFrame:
    """Return one row of each subject and visit: never an average, and never one that was picked by chance.

    A row of the baseline goes before one of a screening, then what `PREFERRED` prefers, then the last by `DATES`. Rows
    that are told apart by none of these must hold the same values.

    Args:
        sheet: a table.
        keys: those of its rows that may be read, by their numbers.
        by: columns of `keys` that a row is unique in.
        values: the features of each row of `keys`.
        where: the modality's place in the config, for faults.

    Raises:
        DataError: naming the rows of a subject that nothing tells apart.
    """
    kept = baseline_first(keys)
    ranks = _ranks(sheet.frame.loc[kept.index])
    ordered = pd.concat([kept, ranks], axis=1).sort_values(list(ranks)) if len(ranks.columns) else kept
    best = ordered.drop_duplicates(list(by))
    alike = ordered[ordered.duplicated([*by, *ranks], keep=False)]
    faults = []
    for _, rows in alike.groupby([*by, *ranks], dropna=False):
        differ = len(values.loc[rows.index].drop_duplicates()) > 1
        if differ and rows.index.isin(best.index).any():
            name, visit = rows[KEY].iloc[0]
            called = f"{SUBJECT} {name} at {visit}" if visit else f"{SUBJECT} {name}"
            faults.append(
                f"{sheet.at(sorted(rows.index))}: {len(rows)} rows of {called} that neither quality nor date tells "
                f"apart; keep one, or say which to read in {where}.only"
            )
    if faults:
        raise DataError(shortened(faults, sheet.name))
    return best[list(keys)].sort_index()


def _ranks(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a column per rule that tells rows apart, in the order of the rules; the smallest number is best."""
    found = {}
    for name, order in PREFERRED.items():
        if name in frame:
            places = {value: place for place, value in enumerate(order)}
            found[name] = frame[name].map(lambda cell, places=places: places.get(str(cell), len(places)))
    for name in DATES:
        if name in frame:
            dates = pd.to_datetime(frame[name].astype(object), errors="coerce", format="mixed", utc=True)
            found[name] = -(dates - pd.Timestamp(0, tz="UTC")).dt.total_seconds().fillna(float("-inf"))
    return pd.DataFrame(found, index=frame.index)


def _texts(cells: pd.Series) -> pd.Series:
    return cells.astype(object).map(lambda cell: "" if pd.isna(cell) else str(cell).strip())
