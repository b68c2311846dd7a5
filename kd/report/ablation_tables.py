"""The tables of an ablation's report, part by part, as they are exported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from kd.record import RunRecord
from kd.report.ablation import along, by_setting, gather, scores
from kd.report.across import read_frames
from kd.report.evidence import leading_metric, read_table
from kd.report.export import Exported, advice_tables, contests_tables, matrix_tables, rate_tables
from kd.report.grid import scores_at_test, train_axes
from kd.report.heatmap import as_text, over_seeds
from kd.report.matrix import pair_table
from kd.report.parts import comparable
from kd.report.stamps import APART, under_mnar
from kd.report.tables import subset_order


def ablation_tables(record: RunRecord, folder: Path) -> dict[str, Exported]:
    """Return every table of an ablation by name, those of parts that share no test rows apart.

    Raises:
        RecordError: a table is missing or damaged.
    """
    content, results = gather(record, folder), read_table(record, folder, "results")
    contrasts = read_table(record, folder, "contrasts")
    metric, axes = leading_metric(results, contrasts), [axis for axis, _ in record.config["axes"]]
    frames = {**read_frames(record, folder), "summary": read_table(record, folder, "summary")}
    found: dict[str, Exported] = {}
    for label, own in comparable(record, results, axes).items():
        variants = set(own["variant"])
        part = {name: f[f["variant"].isin(variants)] if "variant" in f else f for name, f in frames.items()}
        named = _part({**part, "results": own}, content["parts"][label], axes, metric)
        named["summary"] = Exported(part["summary"], content["summaries"][label])
        found |= {f"{name}{label}": table for name, table in named.items()}
    for label, text in content["contrasts"].items():
        found[f"contrasts{label}"] = Exported(contrasts[under_mnar(contrasts) == (label == APART)], text)
    if len(content["claims"]):
        found["claims"] = Exported(read_table(record, folder, "claims"), content["claims"])
    if "contests" in record.files:
        found |= contests_tables(read_table(record, folder, "contests"), axes)
    found["failed"] = Exported(content["failed"], content["failed"])
    return found


def _part(
    frames: dict[str, pd.DataFrame], shown: dict[str, Any], axes: Sequence[str], metric: str
) -> dict[str, Exported]:
    results, pairs, games, rates = (frames[name] for name in ("results", "pairs", "shapley", "rates"))
    values, keys = scores(results, metric), train_axes(axes)
    masks = frames["test_masks"]
    tests = scores_at_test(rates, masks[masks["metric"] == metric], keys)
    return {
        **{f"along {axis}": _along(values, axis, metric) for axis in axes if values[axis].nunique() > 1},
        "settings": Exported(over_seeds(values, ["node", "what", "variant"]), by_setting(values, axes, metric)),
        "subsets": _subsets(results, axes, metric),
        **({"pairs": Exported(pairs, pair_table(pairs, axes))} if len(pairs) else {}),
        **matrix_tables(shown["matrices"], pairs),
        **({"rates": rate_tables(rates[rates["stage"] == "float"], [*axes, "node"], metric)} if len(rates) else {}),
        **({"train by test": Exported(tests, shown["grid"]["table"])} if len(tests) else {}),
        **({"shapley": Exported(games, shown["shapley"]["table"])} if len(games) else {}),
        **({"teaching": Exported(frames["teaching"], shown["teaching"])} if len(shown["teaching"]) else {}),
        "advice": advice_tables(shown["advice"]),
    }


def _along(values: pd.DataFrame, axis: str, metric: str) -> Exported:
    return Exported(over_seeds(values, ["node", "what", axis]), along(values, axis, metric))


def _subsets(results: pd.DataFrame, axes: Sequence[str], metric: str) -> Exported:
    chosen = results[(results["metric"] == metric) & (results["stage"] == "float")]
    heads = [*axes, "node"]
    means = over_seeds(chosen, [*heads, "subset"])
    text = as_text(means.rename(columns={"subset": "column"}), heads, metric, subset_order(chosen["subset"]))
    return Exported(means, text)
