"""What a source is, for people and for machines: rows, classes, modalities, gaps, licence (`kd data describe`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pandas.api.types import is_numeric_dtype

from kd.config import Split
from kd.data import load_source
from kd.data.columns import Column, Frame, Texts
from kd.data.source import Source
from kd.data.splits import split as split_rows
from kd.data.world import World
from kd.errors import ConfigError, DataError
from kd.parsing import schema_faults
from kd.report.gaps import bar, drawn, patterns
from kd.tree import dotted, merge, read

CLASSES = 12
"""Classes listed, the most frequent first."""
CONFIGS = (".yaml", ".yml")
DRAWS = 20_000
"""Of the Monte Carlo estimates of what is true of synthetic data, shown to two or three digits."""


def load(name: str, overrides: Sequence[str] = ()) -> tuple[Source, Split]:
    """Load what `kd data describe` is asked for, and how it is split.

    Args:
        name: a source's, or a config, of which only `data` and `split` are read.
        overrides: `key=value`: arguments of the source, or fields of the config.

    Raises:
        ConfigError: the name, an argument or the config is wrong.
        DataError: files are missing or damaged.
    """
    if not name.endswith(CONFIGS):
        return load_source(**merge({"name": name}, dotted(overrides))), Split()
    tree = merge(read(Path(name)), dotted(overrides))
    part, division = tree.get("data"), tree.get("split", {})
    found = schema_faults(Split, division, "split")
    if not isinstance(part, Mapping):
        found.insert(0, f"data: expected a source as {{name: ..., ...}}, got {part!r}")
    if found:
        raise ConfigError(found, name)
    return load_source(**part), Split(**division)


def describe(source: Source, division: Split | None = None) -> dict[str, Any]:
    """Return what a source is, as JSON.

    Args:
        source: prepared or not.
        division: vocabularies and categories are counted on its training rows, as in a run; where the rows are too few
            to be split, they are not counted.
    """
    fitted = _fitted(source, division or Split())
    return {
        "name": source.name,
        "rows": len(source),
        "groups": len(source.group.unique()),
        "task": source.task,
        "classes": _classes(source),
        "modalities": {name: _modality(fitted, name) for name in source.modalities},
        "gaps": patterns(source.observed, source.modalities),
        **_truth(source),
        "card": dict(source.card),
        "fingerprint": source.fingerprint,
    }


def _fitted(source: Source, division: Split) -> Source:
    if not any(isinstance(value, Column) for value in source.inputs.values()):
        return source
    try:
        train = split_rows(source, **asdict(division)).train
        rows = {name: train[source.observed[train, place]] for place, name in enumerate(source.modalities)}
        return source.prepare(rows)
    except DataError:
        return source


def _classes(source: Source) -> dict[str, Any]:
    """Return class -> rows; class -> share of a multilabel task; column -> least, mean and greatest of a regression."""
    if source.task == "multiclass":
        counts = Counter(source.label.tolist())
        return {name: counts[number] for number, name in enumerate(source.class_names)}
    columns = zip(source.class_names, source.label.double().unbind(dim=1), strict=True)
    if source.task == "multilabel":
        return {name: round(float(values.mean()), 6) for name, values in columns}
    return {name: [float(values.min()), float(values.mean()), float(values.max())] for name, values in columns}


def _truth(source: Source) -> dict[str, Any]:
    """Return what nobody can pass on each modality alone and on all, where the law of the data is known."""
    if not isinstance(source.ceiling, World):
        return {}
    found = {}
    for subset in dict.fromkeys([*((name,) for name in source.modalities), tuple(source.modalities)]):
        best, told = source.ceiling(subset, DRAWS), source.ceiling.information(subset, DRAWS)
        found["+".join(subset)] = {"accuracy": best.accuracy, "information_nats": told.nats}
    return {"bayes_rule": found}


def _modality(source: Source, name: str) -> dict[str, Any]:
    value, known = source.inputs[name], source.modality.get(name)
    seen = source.observed[:, source.modalities.index(name)]
    facts: dict[str, Any] = {"kind": value.kind if isinstance(value, Column) else source.modality[name].kind}
    facts |= {"rows": int(seen.sum()), "shape": None if known is None else list(known.shape)}
    if isinstance(value, Frame):
        frame = value.frame[seen.numpy()]
        words = [column for column in frame if not is_numeric_dtype(frame[column])]
        facts["numbers"] = [str(column) for column in frame if column not in words]
        facts["categories"] = {str(column): int(frame[column].nunique()) for column in words}
        facts["empty_cells"] = int(frame.isna().to_numpy().sum())
    elif isinstance(value, Texts):
        facts["vocabulary"] = None if known is None else known.vocabulary
        facts["tokenizer"] = value.tokenizer or "trained on training rows"
    elif not isinstance(value, Column) and known is not None and known.holes:
        facts["empty_cells"] = int(value[seen].isnan().sum())
    return facts


def lines(facts: Mapping[str, Any]) -> list[str]:
    """Return what `describe` gave as lines for a terminal."""
    rows, groups = facts["rows"], facts["groups"]
    grouped = f" in {groups:,} groups that no split divides" if groups < rows else ""
    shown = [f"{facts['name']}: {rows:,} rows{grouped}, {facts['task']}", "", *_class_lines(facts), ""]
    width = max(map(len, facts["modalities"]))
    shown += [f"  {name:{width}}  {_sentence(found, rows)}" for name, found in facts["modalities"].items()]
    gaps = facts["gaps"]
    if len(gaps) == 1 and len(gaps[0]["modalities"]) == len(facts["modalities"]):
        shown += ["", "  every row has every modality"]
    else:
        shown += ["", *(f"  {line}" for line in drawn(gaps, list(facts["modalities"])))]
    if "bayes_rule" in facts:
        shown += ["", "  the Bayes rule, which no method can pass:", *_truth_lines(facts["bayes_rule"])]
    card = {**facts["card"], "fingerprint": facts["fingerprint"]}
    return [*shown, "", *(f"{key.replace('_', ' '):12} {value}" for key, value in card.items())]


def _truth_lines(found: Mapping[str, Mapping[str, float]]) -> list[str]:
    width = max(map(len, found))
    return [
        f"  {subset:{width}}  accuracy {own['accuracy']:.1%}, {own['information_nats']:.2f} nats on the label"
        for subset, own in found.items()
    ]


def _class_lines(facts: Mapping[str, Any]) -> list[str]:
    classes = facts["classes"]
    width = min(max(map(len, classes)), 32)
    if facts["task"] == "regression":
        spans = {name: f"{low:g} to {high:g}, mean {mean:g}" for name, (low, mean, high) in classes.items()}
        return [f"  {name[:width]:{width}}  {span}" for name, span in spans.items()]
    common = sorted(classes.items(), key=lambda item: -item[1])
    longest = max(common[0][1], 1e-9)
    spell = "{:>8.1%}" if facts["task"] == "multilabel" else "{:>8,}"
    found = [f"  {name[:width]:{width}}{spell.format(n)}  {bar(n, longest)}" for name, n in common[:CLASSES]]
    rest = common[CLASSES:]
    return (
        [*found, f"  and {len(rest)} more classes, the rarest {spell.format(rest[-1][1]).strip()}"] if rest else found
    )


def _sentence(found: Mapping[str, Any], rows: int) -> str:
    """Return one modality in words: kind, rows, size and what is learnt for it."""
    shape = "x".join(map(str, found["shape"] or ["?"]))
    share = f"{found['rows']:,} rows ({found['rows'] / rows:.0%})"
    if found["kind"] == "text":
        vocabulary = f", {found['vocabulary']:,} pieces" if found["vocabulary"] else ""
        return f"text of up to {shape} tokens{vocabulary} (tokenizer: {found['tokenizer']}), {share}"
    said = {"vector": f"{shape} features", "image": f"pictures, {shape}", "sequence": f"sequences, {shape}"}[
        found["kind"]
    ]
    if "numbers" in found:
        said += f" from {len(found['numbers'])} columns of numbers"
        categories = ", ".join(f"{name} ({count})" for name, count in found["categories"].items())
        said += f" and categories {categories}" if categories else ""
    empty = f", empty cells: {found['empty_cells']:,}" if found.get("empty_cells") else ""
    return f"{said}, {share}{empty}"
