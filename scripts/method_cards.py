"""A card per objective and weighting: formula, source, when to use it, settings, cost, and what our data say.

Formula and advice come from the docstrings, settings from the signatures, cost from `bench_objectives.py`, results from
the committed records of ablations; `make_docs.py` writes them where a document asks for them.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from kd.errors import RecordError
from kd.registry import Entry, Registry, keywords
from kd.report import tables

SECTIONS = ("When to use:", "Args:")


def verdicts(records: Path, names: Sequence[str]) -> pd.DataFrame:
    """Return a row per method, a column per data set and setting, of several ablations.

    Raises:
        RecordError: an ablation's verdicts are not kept.
    """
    found = []
    for name in names:
        path = records / f"{name}_verdicts.parquet"
        if not path.is_file():
            raise RecordError(f"docs/records/{path.name} is missing; keep_records.py writes it")
        found.append(pd.read_parquet(path).set_index("method"))
    return pd.concat(found, axis=1, sort=False).fillna(tables.NOTHING).reset_index(names="method")


def cards(kind: str, registry: Registry, records: Path, names: Sequence[str]) -> str:
    """Return the cards of a registry as Markdown.

    Args:
        kind: `objectives` or `weightings`.
        registry: of that kind.
        records: folder of the committed records.
        names: of the ablations whose results are shown.

    Raises:
        RecordError: a record is missing.
    """
    methods, costs = methods_of(kind, records, names), costs_of(kind, records)
    results = verdicts(records, names).set_index("method")
    parts = []
    for name, entry in registry.items():
        parts.append(card(name, entry, costs.get(name)))
        rows = [method for method in results.index if method in methods.get(name, ())]
        if rows:
            parts.append(tables.markdown(results.loc[rows].reset_index()))
    return "\n\n".join(parts)


def card(name: str, entry: Entry, cost: Mapping[str, Any] | None) -> str:
    """Return one card without its results."""
    factory = entry.load()
    sections = docstring(factory)
    lines = [f"### `{name}`", f"{_sentence(entry.sentence)} Source: {entry.source}.", sections[""]]
    lines.append(f"**When to use.** {' '.join(sections['When to use:'].split())}")
    if settings := settings_of(factory, sections.get("Args:", "")):
        lines.append(f"**Settings.** {'; '.join(settings)}.")
    if cost:
        stacked = f", {cost['stacked']:.1f} in a stack" if cost["stacked"] else "; it does not stack"
        lines.append(
            f"**Cost.** A step takes {cost['alone']:.1f} times that of the student without a teacher{stacked}."
        )
    return "\n\n".join(lines)


def docstring(factory: Any) -> dict[str, str]:
    """Return the sections of a docstring by their heading, what stands before them under the empty one."""
    found: dict[str, list[str]] = {"": []}
    heading = ""
    for line in (inspect.getdoc(factory) or "").splitlines():
        if line in SECTIONS:
            heading = line
        found.setdefault(heading, []).append(line)
    return {key: "\n".join(line for line in lines if line not in SECTIONS).strip() for key, lines in found.items()}


def settings_of(factory: Any, arguments: str) -> list[str]:
    """Return what a user may set: name, default and meaning."""
    meanings: dict[str, str] = {}
    name = ""
    for line in arguments.splitlines():
        first, _, rest = line.strip().partition(": ")
        if first in keywords(factory):
            name, meanings[first] = first, rest
        elif name:
            meanings[name] += f" {line.strip()}"
    found = []
    for key, parameter in keywords(factory).items():
        default = "" if parameter.default in (inspect.Parameter.empty, None) else f" ({parameter.default})"
        meaning = meanings.get(key, "").rstrip(".")
        found.append(f"`{key}`{default}{': ' if meaning else ''}{meaning}")
    return found


def methods_of(kind: str, records: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """Return part -> the methods of the ablations that use it; teachers that nobody trained teach none of them."""
    found: dict[str, list[str]] = {}
    for name in names:
        about = json.loads((records / f"{name}_provenance.json").read_text())["config of the first variant"]
        nodes = about["nodes"]
        for edge in about["edges"].values():
            student = nodes[edge["student"]]
            if not nodes[edge["teacher"]]["supervised"] or (kind == "objectives") == bool(student["combine"]):
                continue
            part = edge["loss"]["name"] if kind == "objectives" else student["combine"]["name"]
            found.setdefault(part, []).append(edge["student"])
    return found


def costs_of(kind: str, records: Path) -> dict[str, Mapping[str, Any]]:
    """Return part -> its cost, of those that were measured.

    Raises:
        RecordError: nothing was measured.
    """
    path = records / "bench_objectives.json"
    if not path.is_file():
        raise RecordError(f"docs/records/{path.name} is missing; run scripts/bench_objectives.py without --quick")
    rows = {row["name"]: row for row in json.loads(path.read_text())["tables"]["cost"]}
    prefix = "" if kind == "objectives" else "weighted "
    return {name.removeprefix(prefix): row for name, row in rows.items() if name.startswith(prefix)}


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
