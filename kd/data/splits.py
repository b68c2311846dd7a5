"""Which rows train, which choose, which test: fixed by a seed, stratified by class, groups kept whole."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, train_test_split
from torch import Tensor

from kd.data.locked import load_locked
from kd.data.source import Source
from kd.errors import DataError, LeakError
from kd.record import digest
from kd.seeding import derive


@dataclass(frozen=True, eq=False)
class Split:
    """Three disjoint sets of row ids, each int64 and ascending.

    Attributes:
        train: rows that fit weights, scalers and everything else.
        validation: rows that choose among fitted things.
        test: rows that nothing but the final evaluation may see.
        seed: what it was drawn with.
        source: fingerprint of the source it belongs to; "" for one made by hand.
    """

    train: Tensor
    validation: Tensor
    test: Tensor
    seed: int = 0
    source: str = ""

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of the ids and of the source they belong to."""
        return digest([self.train.tolist(), self.validation.tolist(), self.test.tolist(), self.source])

    def validate(self, source: Source | None = None) -> Split:
        """Return the split itself when its parts are disjoint, and keep whole the groups of `source` where given.

        Raises:
            LeakError: a row or a group is in two parts.
        """
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        names = list(parts)
        for position, first in enumerate(names):
            for second in names[position + 1 :]:
                _refuse_shared(first, second, parts[first], parts[second], "row")
                if source is not None:
                    _refuse_shared(first, second, source.group[parts[first]], source.group[parts[second]], "group")
        return self


def split(
    source: Source,
    *,
    test: float = 0.25,
    validation: float = 0.1,
    seed: int = 0,
    folds: int | None = None,
    fold: int = 0,
    locked: str | None = None,
    phase: str = "search",
) -> Split:
    """Split a source by groups, stratified by class where the task is multiclass.

    The fractions are of the groups, so of the rows where every row is its own group; a group with rows of several
    classes counts as its most frequent one. Where no group has most of its rows in one class, as people have who say
    every word, classes are left out of account: with as many folds as groups, each fold is one of them.

    Args:
        test: fraction of the whole source, in (0, 1).
        validation: fraction of the whole source, in (0, 1 - test).
        seed: of the draw; all folds of one seed are one partition.
        folds: test on one of so many folds of groups instead, at least 2; `test` is not used then.
        fold: which one, any whole number; it counts modulo `folds`.
        locked: file of rows that are set aside, or the shipped data set that has one (`kd.data.locked`).
        phase: `search` leaves the locked rows out of every part, the fractions being of the other rows; `final` tests
            on them, and `test` and `folds` are not used.

    Raises:
        DataError: a part would be empty, a class has too few groups to be stratified, or the locked rows are of other
            data.

    >>> from kd.data import load_source
    >>> parts = split(load_source("synthetic", rows=100))
    >>> len(parts.train), len(parts.validation), len(parts.test)
    (65, 10, 25)
    """
    if locked is not None:
        return _around(source, locked, phase, test=test, validation=validation, seed=seed, folds=folds, fold=fold)
    if phase == "final":
        raise DataError(f"{source.name}: split: phase: final tests on locked rows; name their file in locked")
    if folds is not None and folds < 2:
        raise DataError(f"{source.name}: split: folds={folds}; expected at least 2, or none for one split")
    test = test if folds is None else 1 / folds
    if not (0 < test < 1 and 0 < validation < 1 and test + validation < 1):
        raise DataError(
            f"{source.name}: split: test={test} and validation={validation} leave a part empty; "
            "give two fractions above 0 whose sum is below 1"
        )
    groups, member = np.unique(source.group.numpy(), return_inverse=True)
    strata = _strata(source, member, len(groups))
    units = np.arange(len(groups))
    if folds is None:
        rest, held_out = _cut(source, units, strata, test, derive(seed, "split", "test"))
    else:
        held_out = _fold(source, member, strata, folds, fold % folds, derive(seed, "split", "folds"))
        rest = np.setdiff1d(units, held_out)
    fit, chosen = _cut(source, rest, strata, validation / (1 - test), derive(seed, "split", "validation"))
    train_ids, validation_ids, test_ids = (
        torch.from_numpy(np.flatnonzero(np.isin(member, part))) for part in (fit, chosen, held_out)
    )
    return Split(train_ids, validation_ids, test_ids, seed=seed, source=source.fingerprint).validate(source)


def _around(source: Source, named: str, phase: str, *, validation: float, seed: int, **rest: Any) -> Split:
    """Return the split of the rows that are not locked, or in the final phase one that tests on those that are."""
    locked = load_locked(named, source).rows
    open_rows = torch.from_numpy(np.setdiff1d(np.arange(len(source)), locked.numpy()))
    if phase == "search":
        found = split(_only(source, open_rows), validation=validation, seed=seed, **rest)
        train, chosen, test = (open_rows[part] for part in (found.train, found.validation, found.test))
        return Split(train, chosen, test, seed=seed, source=source.fingerprint).validate(source)
    if rest["folds"] is not None:
        raise DataError(f"{source.name}: split: folds divide a search; phase: final has one test part, remove folds")
    share = validation * len(source) / len(open_rows)
    if not 0 < share < 1:
        raise DataError(f"{source.name}: split: validation={validation} leaves a part empty beside the locked rows")
    groups, member = np.unique(source.group[open_rows].numpy(), return_inverse=True)
    strata = _strata(_only(source, open_rows), member, len(groups))
    cut = _cut(source, np.arange(len(groups)), strata, share, derive(seed, "split", "validation"))
    train, chosen = (open_rows[torch.from_numpy(np.isin(member, part))] for part in cut)
    return Split(train, chosen, locked, seed=seed, source=source.fingerprint).validate(source)


def _only(source: Source, rows: Tensor) -> Source:
    """Return what a split asks of some rows: labels and groups, without inputs."""
    return replace(
        source,
        inputs={},
        modality={},
        ids=[],
        label=source.label[rows],
        group=source.group[rows],
        observed=source.observed[rows][:, :0],
        prepared_from=source.fingerprint,
    )


def _strata(source: Source, member: np.ndarray, groups: int) -> np.ndarray | None:
    """Return each group's most frequent class, int64 [groups], or None where classes do not tell groups apart."""
    if source.task != "multiclass":
        return None
    counts = np.zeros((groups, source.classes), dtype=np.int64)
    np.add.at(counts, (member, source.label.numpy()), 1)
    if bool((2 * counts.max(axis=1) <= counts.sum(axis=1)).all()):
        return None
    return np.asarray(counts.argmax(axis=1))


def _fold(
    source: Source, member: np.ndarray, strata: np.ndarray | None, folds: int, fold: int, seed: int
) -> np.ndarray:
    """Return the groups of one fold; folds have about the same number of rows and share of each class."""
    rows = np.zeros(len(member)) if strata is None else strata[member]
    divide = GroupKFold if strata is None else StratifiedGroupKFold
    divided = divide(n_splits=folds, shuffle=True, random_state=seed % 2**32).split(rows, rows, member)
    try:
        parts = [np.unique(member[test]) for _, test in divided]
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{source.name}: split: no {folds} folds of these rows ({reason}); ask for fewer") from None
    return parts[fold]


def _cut(
    source: Source, units: np.ndarray, strata: np.ndarray | None, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    by_class = None if strata is None else strata[units]
    try:
        kept, taken = train_test_split(units, test_size=fraction, stratify=by_class, random_state=seed % 2**32)
    except ValueError as error:
        raise DataError(
            f"{source.name}: split: {len(units)} groups of rows cannot give a part of {fraction:.3g} "
            f"({str(error).splitlines()[0]}); take more rows or another fraction"
        ) from None
    return kept, taken


def _refuse_shared(first: str, second: str, a: Tensor, b: Tensor, what: str) -> None:
    shared = np.unique(a.numpy()[np.isin(a.numpy(), b.numpy())])
    if len(shared):
        raise LeakError(
            f"split: {len(shared)} {what}(s) are in both {first} and {second}, the first {shared[:5].tolist()}; "
            "make the parts disjoint"
        )
