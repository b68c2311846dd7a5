"""The leak audit of a study: everything that is looked for before and after its training, and what was found.

Before training (`kd check`): copies across parts, columns that tell the label, masks that are not what they declare,
locked rows, encoders pre-trained on test rows. Before any table is written: the same for the splits and masks that were
used, and the rows that each fitted object was shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from kd.config import Study
from kd.data.leaks.audit import Audit
from kd.data.leaks.declared import refuse_undeclared
from kd.data.leaks.duplicates import copies, refuse_copies
from kd.data.leaks.pretraining import refuse_pretrained_on
from kd.data.leaks.telling import telling_columns
from kd.data.locked import load_locked, touched
from kd.data.mask import Mask
from kd.data.source import Source
from kd.data.splits import Split
from kd.distill.trained import rows_seen
from kd.errors import KDError, LeakError
from kd.record import runs_root, write_atomic
from kd.study.replicate import mask_for

if TYPE_CHECKING:
    from kd.study.replicate import Replicate

_TOLD: WeakKeyDictionary[Source, dict[str, str]] = WeakKeyDictionary()


def told_columns(source: Source) -> dict[str, str]:
    """Return column -> `exactly` or `nearly`, for those that tell the label alone; looked for once per source."""
    if source not in _TOLD:
        _TOLD[source] = telling_columns(source)
    return _TOLD[source]


def refuse_leaking_columns(source: Source, allowed: Sequence[str] = ()) -> None:
    """Refuse data with a column from which the label can be read off, but for those allowed by name.

    Raises:
        LeakError: naming the columns.
    """
    found = {column: how for column, how in told_columns(source).items() if column not in allowed}
    if found:
        told = ", ".join(f"{column} ({how})" for column, how in found.items())
        raise LeakError(
            f"data.{source.name}: the label can be read off {told} alone; remove the column, or name it in "
            "allow_columns where it is an honest feature"
        )


def data_faults(study: Study, source: Source, splits: Sequence[Split], mask: Mask | None) -> list[str]:
    """Return every leak that data, splits and mask show before anything is trained.

    Args:
        study: the config.
        source: as it was loaded.
        splits: one per fold.
        mask: of the first seed and fold; None where it could not be drawn.
    """
    steps: list[Callable[[], object]] = [lambda: refuse_leaking_columns(source, study.allow_columns)]
    if study.duplicates == "refuse":
        steps += [lambda part=part: refuse_copies(source, part) for part in splits]  # type: ignore[misc]
    steps += [lambda part=part: _refuse_locked(study, source, part) for part in splits]  # type: ignore[misc]
    steps += [lambda part=part: pretrained(study, source, part.test) for part in splits]  # type: ignore[misc]
    if mask is not None:
        steps.append(lambda: refuse_undeclared(mask, source, splits[0]))
    found: list[str] = []
    for step in steps:
        try:
            step()
        except KDError as error:
            found.append(str(error))
    return list(dict.fromkeys(found))


def audit(study: Study, replicates: Sequence[Replicate], source: Source | None = None) -> dict[str, str]:
    """Check that no fitted object saw a test or locked row of its own replicate; return object -> hash of what it saw.

    Args:
        study: the config.
        replicates: trained and evaluated.
        source: their data; without it neither locked rows, masks nor copies are looked at.

    Raises:
        LeakError: naming the object and the rows.
    """
    found: dict[str, str] = {}
    for replicate in replicates:
        ledger = ledger_of(study, replicate)
        ledger.check(replicate.split.test, locked_rows(study, source))
        found |= ledger.evidence()
    if source is not None:
        _refuse_data_leaks(study, replicates, source)
    return found


def ledger_of(study: Study, replicate: Replicate) -> Audit:
    """Return what every fitted object of a replicate was shown."""
    ledger, name = Audit(), replicate.called(study)
    for node, record in replicate.fitted.items():
        for what, ids in rows_seen(record).items():
            ledger.saw(f"{node} {name}: {what}", torch.tensor(ids, dtype=torch.int64))
    return ledger


def _refuse_data_leaks(study: Study, replicates: Sequence[Replicate], source: Source) -> None:
    """Look again at what `data_faults` found clean, with the splits and masks that were really used.

    Raises:
        LeakError: the first fault.
    """
    splits = {r.split.fingerprint: r.split for r in replicates}
    first = replicates[0]
    mask = mask_for(study, source, first.split, first.seed)
    for fault in data_faults(study, source, list(splits.values()), mask):
        raise LeakError(fault)
    for replicate in replicates:
        again = mask_for(study, source, replicate.split, replicate.seed)
        if again.fingerprint != replicate.mask:
            raise LeakError(
                f"mask {again.mechanism} ({replicate.called(study)}): drawn again it is another one than it was "
                "trained with; make it a function of source, split and seed"
            )


def locked_rows(study: Study, source: Source | None) -> Tensor:
    """Return the rows that a search must not meet, int64; none in a final run."""
    if study.split.locked is None or study.split.phase == "final" or source is None:
        return torch.empty(0, dtype=torch.int64)
    return load_locked(study.split.locked, source).rows


def _refuse_locked(study: Study, source: Source, split: Split) -> None:
    if study.split.locked is None:
        return
    locked = load_locked(study.split.locked, source)
    if study.split.phase == "final":
        if split.test.tolist() != locked.rows.tolist():
            raise LeakError("split: phase: final tests on the locked rows and on no others; split with kd.data.split")
        met, where = touched(locked, [split.train, split.validation]), "trains or chooses on"
    else:
        met, where = touched(locked, [split.train, split.validation, split.test]), "meets, in a search,"
    if len(met):
        raise LeakError(
            f"split: {where} {len(met)} locked rows, the first {met[:5].tolist()}; split with split.locked, which "
            "leaves them out"
        )


def pretrained(study: Study, source: Source, test: Tensor) -> dict[str, str]:
    """Return encoder -> what the data card says of the rows it was trained on.

    Raises:
        LeakError: an encoder has seen test rows.
    """
    return {
        where: f"{names[0]}: {refuse_pretrained_on(source, where, names, test)}"
        for where, names in encoders(study).items()
    }


def encoders(study: Study) -> dict[str, list[str]]:
    """Return place -> names of every pre-trained network of a study, the most exact first."""
    found: dict[str, list[str]] = {}
    for node, described in study.nodes.items():
        model, where = described.model, f"nodes.{node}.model"
        if "import" in model:
            given = [str(model[key]) for key in ("checkpoint", "pretrained", "weights") if model.get(key)]
            if given:
                found[where] = [*given, str(model["import"]), str(model["import"]).rpartition(":")[2]]
            continue
        parts = {f"{where}.encoders.{m}": part for m, part in (model.get("encoders") or {}).items()}
        parts |= {f"{where}.encoder": model["encoder"]} if "encoder" in model else {}
        for place, part in parts.items():
            if isinstance(part, Mapping) and part.get("pretrained"):
                also = [str(part["backbone"])] if "backbone" in part else []
                found[place] = [str(part["pretrained"]), *also, str(part.get("name"))]
    return found


def looked_at(study: Study, source: Source, replicates: Sequence[Replicate]) -> dict[str, Any]:
    """Return what the audit looked at and found, as the report tells it."""
    pairs, first = copies(source), replicates[0]
    across = [len(pairs.across(split)) for split in {r.split.fingerprint: r.split for r in replicates}.values()]
    mask = mask_for(study, source, first.split, first.seed)
    saw = {name: told for r in replicates for name, told in ledger_of(study, r).told().items()}
    allowed = {column: how for column, how in told_columns(source).items() if column in study.allow_columns}
    return {
        "result": "no fitted object saw a test row",
        "objects": len(saw),
        "saw": saw,
        "copies": {
            "rows compared": pairs.rows,
            "pairs in two groups": len(pairs.pairs),
            "pairs across parts": max(across),
            "setting": study.duplicates,
            "not compared": "; ".join(pairs.notes) or "nothing",
        },
        "columns that tell the label": allowed or "none",
        "mask": {"kind": mask.kind, "looked at": refuse_undeclared(mask, source, first.split)},
        "locked": _locked(study, source),
        "pre-trained": pretrained(study, source, first.split.test) or "no encoder",
    }


def _locked(study: Study, source: Source) -> dict[str, Any] | str:
    if study.split.locked is None:
        return "no locked rows"
    locked = load_locked(study.split.locked, source)
    told: dict[str, Any] = {"hash": locked.hash, "rows": len(locked.rows), "phase": study.split.phase}
    if study.split.phase == "final":
        told["final runs of this store on these rows"] = len(finals(locked.hash))
    return told


def note_final(study: Study, source: Source, run: str) -> None:
    """Write down in the store that a run tests on the locked rows: once is the rule, and more is told."""
    if study.split.locked is not None and study.split.phase == "final":
        write_atomic(runs_root() / "locked" / load_locked(study.split.locked, source).hash / run, "")


def finals(locked: str) -> list[str]:
    """Return the runs of this store that have tested on a locked set, by its hash."""
    folder = runs_root() / "locked" / locked
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
