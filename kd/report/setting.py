"""One setting of a study or of an ablation in words: what hid modalities in training, how often, and what it varies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kd.report.stamps import KIND, MNAR


@dataclass(frozen=True)
class Setting:
    """What an advice holds for.

    Attributes:
        mechanism: that hid modalities of training rows, with its parameters.
        kind: MCAR, MAR, MNAR or another; empty where a record does not say.
        rows: numbers of test rows.
    """

    mechanism: str
    kind: str
    rows: tuple[int, ...]

    @property
    def mnar(self) -> bool:
        """Whether what was hidden depended on what it hid."""
        return self.kind == MNAR


def setting_of(mask: object, frame: pd.DataFrame) -> Setting:
    """Return the setting of scores on test rows.

    Args:
        mask: what hid modalities in training, as plain data; None where a record does not say.
        frame: a table of scores of one setting, with `n` and, in newer records, the kind of mask.
    """
    kinds = list(dict.fromkeys(frame[KIND].dropna())) if KIND in frame else []
    rows = tuple(int(count) for count in sorted(set(frame["n"])))
    return Setting(mechanism(mask), str(kinds[0]) if kinds else "", rows)


def mechanism(mask: Any) -> str:
    """Return a mechanism as people read it: its name, then what was set; long parameters are left to the provenance.

    >>> mechanism({"name": "mcar", "rate": 0.3}), mechanism({"name": "complete"}), mechanism(None)
    ('mcar, rate 0.3', 'complete', '')
    """
    if not isinstance(mask, Mapping):
        return ""
    facts = [f"{key} {value_name(value)}" for key, value in mask.items() if key != "name"]
    return ", ".join([str(mask.get("name", "")), *(fact for fact in facts if len(fact) <= 60)])


def plain(value: Any) -> Any:
    """Return a value of an axis as the config has it: tables hold lists and mappings as JSON."""
    try:
        return json.loads(value) if isinstance(value, str) and value[:1] in ("[", "{") else value
    except json.JSONDecodeError:
        return value


def value_name(value: object) -> str:
    """Return a value of a config for people: a mapping by its name, where it has one.

    >>> value_name(0.50), value_name('{"name": "mcar", "rate": 0.5}'), value_name({"a": 0.2}), value_name(["a", "b"])
    ('0.5', 'mcar, rate 0.5', 'a 0.2', 'a b')
    """
    known = plain(value)
    if isinstance(known, Mapping):
        return mechanism(known) if "name" in known else ", ".join(f"{k} {value_name(v)}" for k, v in known.items())
    if isinstance(known, list):
        return " ".join(map(value_name, known))
    return f"{known:g}" if isinstance(known, float) else "none" if known is None else str(known)


def setting_name(values: Mapping[str, Any]) -> str:
    """Return what tells a setting from the others of its grid.

    >>> setting_name({"mask.rate": 0.2, "edges.*.weight": 1.0})
    'mask.rate = 0.2, edges.*.weight = 1'
    """
    return ", ".join(f"{axis} = {value_name(value)}" for axis, value in values.items())
