"""What an ablation says across its settings: every subset, missing rate and pair of methods, and what to use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from kd.record import RunRecord
from kd.report.advised import first_study, of_settings, of_variant, settings_table, settings_words, varying
from kd.report.comparison import pair_matrices
from kd.report.evidence import optional_table, primary_metric
from kd.report.grid import scores_at_test, train_axes, train_by_test, train_by_test_table
from kd.report.heatmap import over_seeds, subset_heat_map
from kd.report.leading import SUBSETS, shown_first, simple_methods, validation_means
from kd.report.opening import versatile
from kd.report.robust import shapley_table
from kd.report.robust_figures import MOST_LINES, setting_rate_chart, setting_shapley_charts
from kd.report.setting import setting_name, value_name
from kd.report.teaching import NOTE, teaching_table

FRAMES = ("validation", "pairs", "test_masks", "shapley", "cost", "rates", "teaching", "contrasts")
MOST = 12
"""Settings drawn one by one; the tables have all."""
MOST_BARS = 6
"""Settings whose Shapley values are drawn beside each other."""


def read_frames(record: RunRecord, folder: Path) -> dict[str, pd.DataFrame]:
    """Return the tables that compare methods; without rows where an older record has none."""
    return {name: optional_table(record, folder, name) for name in FRAMES}


def across(
    frames: Mapping[str, pd.DataFrame], provenance: Mapping[str, Any], axes: Sequence[str], metric: str, place: int
) -> dict[str, Any]:
    """Return the sections of one part of an ablation, whose variants share data and test rows.

    `drawn` has the methods that charts along an axis draw: all of them, or the best few and the simple ones.

    Args:
        frames: `results` of the part's variants, and what `read_frames` gave.
        provenance: of the ablation.
        axes: of the grid.
        metric: the one the report leads with.
        place: of the part, for the ids of figures.
    """
    results = frames["results"]
    variants = list(dict.fromkeys(results["variant"]))
    own = {name: _of(frames[name], variants) for name in FRAMES}
    nodes = [str(name) for name in dict.fromkeys(results["node"])]
    simple = simple_methods(first_study(provenance))
    means = validation_means(own["validation"], SUBSETS)
    first, rest = shown_first(nodes, means, simple)
    drawn, whole = [*first, *(rest if len(nodes) <= MOST_LINES else [])], versatile(results)
    settings = setting_names(results, axes)
    advised = of_settings({**own, "results": results}, provenance, axes)
    return {
        "drawn": drawn,
        "advice": [one for one in advised if one.advices],
        "words": settings_words(advised),
        "advice_table": settings_table(advised),
        "heats": [
            (name, subset_heat_map(of_variant(results, variant), metric))
            for variant, name in list(settings.items())[:MOST]
        ],
        "rates": rate_charts(own["rates"], [node for node in drawn if node in whole], settings, metric, place),
        "grid": grid_section(own, axes, first, rest, metric),
        "shapley": shapley_section(own["shapley"], first, settings, metric, axes),
        "matrices": pair_matrices(own["pairs"], own["validation"], simple),
        "teaching": teaching_table(own["teaching"], own["contrasts"], primary_metric(own["validation"], metric), axes),
        "teaching_note": NOTE,
        "undrawn": max(0, len(settings) - MOST),
    }


def _of(frame: pd.DataFrame, variants: Sequence[object]) -> pd.DataFrame:
    return frame[frame["variant"].isin(variants)] if "variant" in frame else frame.iloc[:0]


def setting_names(frame: pd.DataFrame, axes: Sequence[str]) -> dict[object, str]:
    """Return variant -> what tells it from the others."""
    told = varying(frame, axes)
    firsts = frame.drop_duplicates("variant").set_index("variant")
    return {variant: setting_name({axis: row[axis] for axis in told}) for variant, row in firsts.iterrows()}


def rate_charts(
    rates: pd.DataFrame, nodes: Sequence[str], settings: Mapping[object, str], metric: str, place: int
) -> list[Markup]:
    """Return a chart of scores along the missing rate at test for each setting, the first twelve."""
    drawn = [(variant, name) for variant, name in settings.items() if len(of_variant(rates, variant))]
    return [
        Markup(setting_rate_chart(of_variant(rates, variant), nodes, metric, f"part{place}rates{number}", name))
        for number, (variant, name) in enumerate(drawn[:MOST])
    ]


def grid_section(
    frames: Mapping[str, pd.DataFrame], axes: Sequence[str], first: Sequence[str], rest: Sequence[str], metric: str
) -> dict[str, Any]:
    """Return train by test: a heat map per method, those shown first apart from the rest, and one table of text."""
    keys = train_axes(axes)
    masks = frames["test_masks"]
    scores = scores_at_test(frames["rates"], masks[masks["metric"] == metric], keys)
    means = over_seeds(scores, ["node", *keys, "column"])
    maps = train_by_test(means, keys, metric)
    return {
        "first": {node: maps[node] for node in first if node in maps},
        "rest": {node: maps[node] for node in rest if node in maps},
        "table": train_by_test_table(means, keys, metric),
    }


def shapley_section(
    games: pd.DataFrame, nodes: Sequence[str], settings: Mapping[object, str], metric: str, axes: Sequence[str]
) -> dict[str, Any]:
    """Return a panel of Shapley values per method shown first, and the table of all methods and settings."""
    own = games[games["metric"] == metric] if len(games) else games
    drawn = dict(list(settings.items())[:MOST_BARS])
    if not len(own):
        return {"charts": {}, "table": pd.DataFrame(), "game": "", "undrawn": 0}
    parts = []
    for _, group in own.groupby("variant", sort=False):
        table = shapley_table(group, list(dict.fromkeys(group["modality"])), metric)
        for place, axis in enumerate(axes):
            table.insert(place, axis, value_name(group[axis].iloc[0]))
        parts.append(table)
    return {
        "charts": {n: Markup(svg) for n, svg in setting_shapley_charts(own, nodes, metric, drawn).items()},
        "table": pd.concat(parts, ignore_index=True),
        "game": ", ".join(dict.fromkeys(own["game"])),
        "undrawn": len(settings) - len(drawn),
    }
