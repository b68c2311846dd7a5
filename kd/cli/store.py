"""Verbs on the run store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from glob import escape
from pathlib import Path
from typing import Any

from kd.cli.arguments import arguments, settings
from kd.errors import RecordError


def show(words: Sequence[str]) -> int:
    """Print a run's record, or which ingredient of its address differs from another's."""
    name, rest, as_json = arguments(words, "show", "a run")
    from dataclasses import asdict

    from kd.record import load_record

    other = settings(rest, {"why": ""}, "show")["why"]
    record = load_record(find(name))
    if not other:
        print(json.dumps(asdict(record), indent=None if as_json else 1, sort_keys=True))
        return 0
    differences = differing(record.config, load_record(find(other)).config)
    if as_json:
        print(json.dumps(differences))
        return 0
    for field, (one, two) in differences.items():
        print(f"{field}: {one!r} there: {two!r}")
    if not differences:
        print("the same ingredients")
    return 0


def differing(one: Any, two: Any, where: str = "") -> dict[str, tuple[Any, Any]]:
    """Return dotted field -> both values, for every leaf of two addresses that differs."""
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        found: dict[str, tuple[Any, Any]] = {}
        for key in sorted({*one, *two}):
            found |= differing(one.get(key), two.get(key), f"{where}.{key}" if where else str(key))
        return found
    return {} if one == two else {where: (one, two)}


def find(name: str) -> Path:
    """Return the folder of a run named by its path or by the start of its id."""
    from kd.record import runs_root

    if name and (Path(name) / "record.json").exists():
        return Path(name)
    matches = sorted(path.parent for path in runs_root().glob(f"*/{escape(name)}*/record.json") if name)
    if len(matches) != 1:
        found = "no run" if not matches else f"{len(matches)} runs"
        raise RecordError(f"{name}: {found} of this name in {runs_root()}; give a folder or more of the id")
    return matches[0]
