"""The report of an ablation: scores along every axis of the grid, every variant, what failed, on one page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from kd.record import RunRecord, load_record, write_atomic
from kd.report import tables, words
from kd.report.across import across, read_frames, setting_names
from kd.report.advised import first_study
from kd.report.axis import axis_chart
from kd.report.claims import NOTE, claims_markdown, claims_table
from kd.report.contests import contests_content, contests_markdown
from kd.report.evidence import leading_metric, optional_table, read_document, read_table
from kd.report.matrix import COUNTS, LEGEND, matrix_table
from kd.report.page import bound, flatten, render
from kd.report.parts import comparable
from kd.report.setting import value_name
from kd.report.stamps import APART, under_mnar
from kd.report.variance import Shares, drawn_anew, shares, variance_sentences, variance_table
from kd.statistics.intervals import mean_interval
from kd.statistics.significance import holm

VARIANCE = (
    "Random-effects components of the scores, over the seeds that the grid varies; standard deviations in the metric's "
    "unit. A few levels tell a component roughly only."
)
WHAT = {"complete": "every modality present", "mean": "mean over all subsets"}


def write_ablation_report(folder: Path) -> Path:
    """Write `report.html` and `report.md` into a finished ablation's folder and return the page's path.

    Raises:
        RecordError: the folder holds no finished ablation, or its tables are damaged.
        StorageError: the disk refused; older reports are untouched.
    """
    record = load_record(Path(folder))
    content = gather(record, Path(folder))
    write_atomic(Path(folder) / "report.md", _markdown(content))
    page = Path(folder) / "report.html"
    write_atomic(page, render("ablation.html.j2", **content))
    return page


def gather(record: RunRecord, folder: Path) -> dict[str, Any]:
    """Return the words, tables and pictures of the report."""
    results, contrasts = read_table(record, folder, "results"), read_table(record, folder, "contrasts")
    metric = leading_metric(results, contrasts)
    axes, values = [axis for axis, _ in record.config["axes"]], scores(results, metric)
    summary = read_table(record, folder, "summary")
    areas = read_table(record, folder, "areas") if "areas" in record.files else pd.DataFrame()
    parts = comparable(record, values, axes)
    provenance = read_document(record, folder, "provenance")
    config = first_study(provenance)
    told = sections(record, folder, parts, provenance, axes, metric)
    origins = origins_of_variance(values, axes, config)
    return {
        "title": record.name,
        "id": record.id,
        "metric": tables.metric_name(metric),
        "trainings": record.metrics["trainings"],
        "rows": sorted(set(results["n"])) if len(results) else [],
        "seeds": words.count_seeds(results["seed"].nunique() if len(results) else 0),
        "answer": _answer(record, values, axes, metric) + bound(provenance),
        "axes": [
            {
                "name": f"{axis}{label}",
                "table": along(own, axis, metric),
                "charts": _charts(own[own["node"].isin(told[label]["drawn"])], axis, metric, name),
                "undrawn": own["node"].nunique() - len(told[label]["drawn"]),
            }
            for place, (label, own) in enumerate(parts.items())
            for axis, name in zip(axes, (f"axis{place}x{number}" for number in range(len(axes))), strict=True)
            if own[axis].nunique() > 1 or len(parts) == 1
        ],
        "summaries": {
            label: _summary(summary[summary["variant"].isin(set(own["variant"]))], axes, metric, areas)
            for label, own in parts.items()
        },
        "parts": told,
        "legend": LEGEND,
        "counts": COUNTS,
        "variance": variance_table(origins, metric),
        "variance_note": VARIANCE,
        "variance_words": variance_sentences(origins),
        "claims": claims_table(optional_table(record, folder, "claims")),
        "claims_note": NOTE,
        **contests_content(optional_table(record, folder, "contests"), axes),
        "contrasts": {
            label: _contrasts(own, axes)
            for label, own in (("", contrasts[~under_mnar(contrasts)]), (APART, contrasts[under_mnar(contrasts)]))
            if len(own)
        },
        "failed": failed_cells(read_table(record, folder, "cells"), axes),
        "provenance": flatten(provenance),
    }


def sections(
    record: RunRecord,
    folder: Path,
    parts: Mapping[str, pd.DataFrame],
    provenance: Mapping[str, Any],
    axes: list[str],
    metric: str,
) -> dict[str, dict[str, Any]]:
    """Return what each part of an ablation says across its settings, by the part's label."""
    frames, results = read_frames(record, folder), read_table(record, folder, "results")
    told = {}
    for place, (label, own) in enumerate(parts.items()):
        here = {**frames, "results": results[results["variant"].isin(set(own["variant"]))]}
        told[label] = across(here, provenance, axes, metric, place)
    return told


def origins_of_variance(values: pd.DataFrame, axes: list[str], config: Mapping[str, Any]) -> list[Shares]:
    """Return where scores vary from, where the grid varies the seed of mask or split; else nothing."""
    drawn = drawn_anew(values, axes, config) if len(values) else {}
    return shares(values, axes, drawn) if drawn else []


def scores(results: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return a row per variant, node and seed: its score with everything present, and its mean over all subsets.

    Args:
        results: an ablation's table.
        metric: one of its metrics.

    Returns:
        the columns of `results` without subset, size, n and metric, and `what`: `complete` or `mean`.
    """
    if not len(results):
        return pd.DataFrame(columns=["variant", "node", "stage", "seed", "what", "value"])
    chosen = results[(results["metric"] == metric) & (results["stage"] == "float")]
    chosen = chosen.drop(columns=["n", "metric"])
    keys = ["variant", "node", "seed"]
    variants = chosen.groupby("variant")
    whole = everything_present(chosen).assign(what="complete")
    answered = chosen.groupby(keys)["subset"].transform("nunique") == variants["subset"].transform("nunique")
    every = chosen[answered].drop(columns=["value"]).drop_duplicates(keys)
    means = chosen[answered].groupby(keys, as_index=False)["value"].mean()
    found = [whole, every.merge(means, on=keys).assign(what="mean")]
    return pd.concat(found, ignore_index=True).drop(columns=["subset", "size"])


def everything_present(results: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of each variant's largest subset: a grid may vary how many modalities there are."""
    return results[results["size"] == results.groupby("variant")["size"].transform("max")]


def along(values: pd.DataFrame, axis: str, metric: str) -> pd.DataFrame:
    """Return scores along one axis as text, a row per node and kind of score, a column per value of the axis.

    Args:
        values: of `scores`.
        axis: its name.
        metric: whose unit is shown.
    """
    return _across(values, values[axis].map(value_name), metric)


def by_setting(values: pd.DataFrame, axes: Sequence[str], metric: str) -> pd.DataFrame:
    """Return scores as text, a row per node and kind of score, a column per setting of the grid.

    Args:
        values: of `scores`.
        axes: of the grid.
        metric: whose unit is shown.
    """
    names = {variant: name or tables.metric_name(metric) for variant, name in setting_names(values, axes).items()}
    return _across(values, values["variant"].map(names), metric)


def _across(values: pd.DataFrame, column: pd.Series, metric: str) -> pd.DataFrame:
    rows = []
    for (node, what), group in values.groupby(["node", "what"], sort=False):
        cells = group.groupby(column[group.index], sort=False)
        shown = {name: tables.interval(*_over_seeds(cell), metric) for name, cell in cells}
        rows.append({"node": node, "score": what, **shown})
    return pd.DataFrame(rows, columns=["node", "score", *dict.fromkeys(column)]).fillna(tables.NOTHING)


def _over_seeds(cell: pd.DataFrame) -> tuple[float, float, float]:
    """Return mean and interval over seeds, each seed's score being its mean over the other axes."""
    return mean_interval(cell.groupby("seed")["value"].mean().to_numpy(dtype=float))


def points_along(own: pd.DataFrame, axis: str) -> list[tuple[Any, float, float, float]]:
    """Return (value of the axis, mean, low, high) of one method's scores, each seed's its mean over the other axes."""
    return [(value, *_over_seeds(cell)) for value, cell in own.groupby(axis, sort=False)]


def _charts(values: pd.DataFrame, axis: str, metric: str, name: str) -> list[Markup]:
    found, nodes = [], [str(node) for node in dict.fromkeys(values["node"])]
    for what, label in WHAT.items():
        chosen = values[values["what"] == what]
        if len(chosen) and chosen[axis].nunique() > 1:
            points = {str(node): points_along(group, axis) for node, group in chosen.groupby("node", sort=False)}
            title = f"{tables.metric_name(metric)}, {label}"
            found.append(Markup(axis_chart(points, nodes, axis, title, tables.scale(metric), f"{name}{what}")))
    return found


def _answer(record: RunRecord, values: pd.DataFrame, axes: list[str], metric: str) -> list[str]:
    cells, failed = record.metrics["cells"], record.metrics["failed"]
    sentences = [f"{cells:,} cells, answered by {record.metrics['trainings']:,} trainings."]
    if failed:
        sentences.append(f"{failed:,} have no result; their reasons stand below.")
    means = values[values["what"] == "mean"]
    if len(set(record.metrics["origins"].values())) > 1:
        sentences.append("Variants with other data or test rows stand in tables of their own.")
    elif len(means):
        per = means.groupby(["variant", "node"])["value"].mean()
        variant, node = per.idxmin() if metric in tables.LOWER_IS_BETTER else per.idxmax()
        best = means[(means["variant"] == variant) & (means["node"] == node)]
        where = ", ".join(f"{axis} = {value_name(best[axis].iloc[0])}" for axis in axes)
        shown = tables.interval(*mean_interval(best["value"].to_numpy(float)), metric)
        extreme = "lowest" if metric in tables.LOWER_IS_BETTER else "highest"
        sentences.append(
            f"The {extreme} {tables.metric_name(metric)} in the mean over all subsets is that of `{node}`"
            f"{' with ' + where if where else ''}: {shown}, picked on these test rows and so a description, no choice."
        )
    return sentences


def _summary(frame: pd.DataFrame, axes: list[str], metric: str, areas: pd.DataFrame) -> pd.DataFrame:
    if not len(frame):
        return pd.DataFrame()
    parts = []
    for variant, group in frame.groupby("variant", sort=False):
        table = tables.summary_table(group, metric)
        if len(areas):
            own = areas[(areas["variant"] == variant) & (areas["metric"] == metric)]
            table.insert(list(table.columns).index("seeds"), "area", _areas(table, own, metric))
        for place, axis in enumerate(axes):
            table.insert(place, axis, value_name(group[axis].iloc[0]))
        parts.append(table)
    return pd.concat(parts, ignore_index=True)


def _areas(table: pd.DataFrame, own: pd.DataFrame, metric: str) -> list[str]:
    """Return the area under the rate curve for each row of a variant's summary, as text."""
    groups = {key: group["value"].to_numpy(float) for key, group in own.groupby(["node", "stage"])}
    pairs = zip(table["node"], table["stage"], strict=True)
    return [
        tables.interval(*mean_interval(groups[pair]), metric) if pair in groups else tables.NOTHING for pair in pairs
    ]


def _contrasts(frame: pd.DataFrame, axes: list[str]) -> pd.DataFrame:
    if "p" in frame:
        frame = frame.assign(p_holm=holm(frame["p"]))  # all variants of a table are one family
    table = tables.contrast_table(frame)
    for place, axis in enumerate(axes):
        table.insert(place, axis, [value_name(value) for value in frame[axis]])
    return table


def failed_cells(cells: pd.DataFrame, axes: list[str]) -> pd.DataFrame:
    """Return the cells without a result: what they are, their seeds, and why."""
    if not len(cells):
        return pd.DataFrame()
    chosen = cells[cells["failed"] != ""]
    keys = [*axes, "node", "failed"]
    if not len(chosen):
        return pd.DataFrame(columns=[*keys, "seeds"])
    found = chosen.groupby(keys, sort=False, dropna=False)["seed"].agg(
        lambda seeds: ", ".join(map(str, sorted(set(seeds))))
    )
    return found.reset_index().rename(columns={"seed": "seeds", "failed": "reason"})


def _markdown(content: dict[str, Any]) -> str:
    parts = [f"# {words.plain(content['title'])}", " ".join(map(words.rich, content["answer"]))]
    parts += claims_markdown(content["claims"]) + contests_markdown(content)
    for label, own in content["parts"].items():
        if own["advice"]:
            parts += [f"## What should I use?{words.plain(label)}", *map(words.rich, own["words"])]
            parts.append(tables.markdown(own["advice_table"]))
    if len(content["failed"]):
        parts += ["## Cells without a result", tables.markdown(content["failed"])]
    for axis in content["axes"]:
        parts += [f"## {content['metric']} along {words.plain(axis['name'])}", tables.markdown(axis["table"])]
    for label, table in content["summaries"].items():
        parts += [f"## Every variant{words.plain(label)}", tables.markdown(table)]
    for label, own in content["parts"].items():
        for pairs in own["matrices"]:
            parts += [f"## Every two methods on the {pairs.place}{words.plain(label)}", content["counts"]]
            parts.append(tables.markdown(matrix_table(pairs.first)))
    if content["variance_words"]:
        parts += ["## Where the variance comes from", words.rich(VARIANCE)]
        parts += ["\n".join(f"- {words.rich(sentence)}" for sentence in content["variance_words"])]
        parts.append(tables.markdown(content["variance"]))
    for label, table in content["contrasts"].items():
        parts += [f"## Comparisons{label}", tables.markdown(table)]
    parts += [] if content["contrasts"] else ["## Comparisons", "None was declared."]
    parts += ["## Provenance", json.dumps(content["provenance"], indent=1)]
    return "\n\n".join(parts) + "\n"
