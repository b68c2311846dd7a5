"""Tables from a run's records: means over seeds with 95% t intervals, contrasts, costs, and joins of like with like.

`subset_table` gives numbers; the others give text, ready to be read. Scores between 0 and 1 are shown in percent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from kd.errors import RecordError
from kd.record import RunRecord, load_record
from kd.report.evidence import load_evidence
from kd.report.stamps import stamped, under_mnar
from kd.statistics import ALPHA
from kd.statistics.intervals import mean_interval

PERCENT = ("accuracy", "macro_f1", "auroc", "ece")
LOWER_IS_BETTER = ("nll", "brier", "ece", "mse", "mae")
METRIC_NAMES = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "auroc": "AUROC",
    "nll": "NLL",
    "brier": "Brier score",
    "ece": "ECE",
    "r2": "R²",
    "mse": "mean squared error",
    "mae": "mean absolute error",
}
NOTHING, NO_STEPS = "–", "no steps"


def scale(metric: str) -> float:
    """Return the factor from a recorded value to the one shown: 100 for shares, 1 for NLL and Brier."""
    return 100.0 if metric in PERCENT else 1.0


def number(value: float, metric: str = "accuracy", *, signed: bool = False) -> str:
    """Show a recorded value: percent with one decimal, or three decimals where percent has no meaning.

    >>> number(0.9712), number(-0.0121, signed=True), number(0.1234, "nll"), number(float("nan"))
    ('97.1', '−1.2', '0.123', '–')
    """
    if value is None or math.isnan(value):
        return NOTHING
    digits = 1 if metric in PERCENT else 3
    rounded = round(value * scale(metric), digits) + 0.0  # + 0.0 turns a negative zero into zero
    return f"{rounded:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def interval(mean: float, low: float, high: float, metric: str = "accuracy", *, signed: bool = False) -> str:
    """Show a value with its interval, or alone where one seed gives none.

    >>> interval(0.971, 0.962, 0.98)
    '97.1 [96.2, 98.0]'
    """
    middle = number(mean, metric, signed=signed)
    if pd.isna(low) or pd.isna(high):
        return middle
    return f"{middle} [{number(low, metric)}, {number(high, metric)}]"


def metric_name(metric: str) -> str:
    """Return a metric's name for people."""
    return METRIC_NAMES.get(metric, metric)


def stage_order(stages: Iterable[str]) -> list[str]:
    """Return stages as the passes made them: float, then as first seen, each once.

    >>> stage_order(["pruned", "float", "exported", "int8", "float"])
    ['float', 'pruned', 'exported', 'int8']
    """
    return sorted(dict.fromkeys(stages), key=lambda stage: stage != "float")


def modalities(subsets: Iterable[str]) -> list[str]:
    """Return the modalities in the source's order, which the largest subset spells.

    >>> modalities(["b", "a+b", "a"])
    ['a', 'b']
    """
    found = list(dict.fromkeys(subsets))
    ordered = max(found, key=lambda subset: subset.count("+"), default="").split("+")
    rest = [name for subset in found for name in subset.split("+") if name not in ordered]
    return [name for name in [*ordered, *dict.fromkeys(rest)] if name]


def subset_order(subsets: Iterable[str]) -> list[str]:
    """Return subsets by size, then in the source's order, each once.

    >>> subset_order(["a+b", "b", "a"])
    ['a', 'b', 'a+b']
    """
    found = list(dict.fromkeys(subsets))
    position = {name: place for place, name in enumerate(modalities(found))}
    return sorted(found, key=lambda subset: (subset.count("+"), [position[name] for name in subset.split("+")]))


def subset_table(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return mean over seeds and 95% t interval per node, stage and subset, in the metric's own unit.

    The interval speaks of training randomness on these test rows alone. A subset that a node cannot answer has no row.

    Args:
        frame: a run's `subsets` table.
        metric: one of its metrics.

    Raises:
        RecordError: a row is recorded twice, or the seeds of one cell saw different numbers of test rows.
    """
    chosen = frame[frame["metric"] == metric]
    doubled = chosen.duplicated(["node", "stage", "seed", "subset"])
    if doubled.any():
        first = chosen[doubled].iloc[0]
        raise RecordError(
            f"subsets: {first['node']} {first['stage']} seed {first['seed']} on {first['subset']} is recorded twice; "
            "evaluate again"
        )
    rows = [_cell(key, group) for key, group in chosen.groupby(["node", "stage", "subset"], sort=False)]
    columns = ["node", "stage", "subset", "size", "n", "mean", "low", "high", "seeds"]
    table = pd.DataFrame(rows, columns=columns)
    return _ordered(table, list(dict.fromkeys(chosen["node"])))


def _cell(key: Sequence[str], group: pd.DataFrame) -> tuple[object, ...]:
    if group["n"].nunique() > 1:
        raise RecordError(
            f"subsets: {' '.join(key)} was measured on {' and '.join(map(str, group['n'].unique()))} test rows; "
            "a mean needs the same rows in every seed"
        )
    mean, low, high = mean_interval(group["value"].to_numpy(dtype=float))
    return (*key, int(group["size"].iloc[0]), int(group["n"].iloc[0]), mean, low, high, len(group))


def _ordered(table: pd.DataFrame, nodes: list[str]) -> pd.DataFrame:
    """Sort by node (first seen first), stage (order of the passes) and, where there is one, subset."""
    ranks = {"node": nodes, "stage": stage_order(table["stage"])}
    if "subset" in table:
        ranks["subset"] = subset_order(table["subset"])
    keys = [table[column].map({name: place for place, name in enumerate(order)}) for column, order in ranks.items()]
    return table.iloc[pd.concat(keys, axis=1).sort_values(list(ranks), kind="stable").index].reset_index(drop=True)


def subset_grid(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the subset table as people read it: a row per node and stage, a column per subset."""
    table = subset_table(frame, metric)
    columns = subset_order(table["subset"])
    rows = []
    for (node, stage), group in table.groupby(["node", "stage"], sort=False):
        shown = {r.subset: interval(r.mean, r.low, r.high, metric) for r in group.itertuples(index=False)}
        rows.append({"node": node, "stage": stage, **{name: shown.get(name, NOTHING) for name in columns}})
    return pd.DataFrame(rows, columns=["node", "stage", *columns])


def metric_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return every metric per node and stage, each on the largest subset that the node can answer."""
    metrics = [name for name in METRIC_NAMES if name in set(frame["metric"])]
    metrics += [name for name in dict.fromkeys(frame["metric"]) if name not in METRIC_NAMES]
    rows: dict[tuple[str, str], dict[str, object]] = {}
    for metric in metrics:
        table = subset_table(frame, metric)
        for (node, stage), group in table.groupby(["node", "stage"], sort=False):
            best = group.loc[group["size"].idxmax()]
            row = rows.setdefault((node, stage), {"node": node, "stage": stage, "subset": best["subset"]})
            row[metric_name(metric)] = interval(best["mean"], best["low"], best["high"], metric)
    columns = ["node", "stage", "subset", *(metric_name(metric) for metric in metrics)]
    return pd.DataFrame(list(rows.values()), columns=columns).fillna(NOTHING)


def summary_table(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return complete, mean and worst per node and stage with their intervals, as text."""
    chosen = frame[frame["metric"] == metric]
    rows = []
    for (node, stage), group in chosen.groupby(["node", "stage"], sort=False):
        cells = {r.what: r for r in group.itertuples(index=False)}
        shown = {
            what: interval(cells[what].mean, cells[what].low, cells[what].high, metric) if what in cells else NOTHING
            for what in ("complete", "mean", "worst")
        }
        notes = dict.fromkeys(_note(note, metric) for note in group["note"] if isinstance(note, str) and note)
        seeds = int(group["seeds"].min())
        rows.append({"node": node, "stage": stage, **shown, "seeds": seeds, "note": "; ".join(notes)})
    table = pd.DataFrame(rows, columns=["node", "stage", "complete", "mean", "worst", "seeds", "note"])
    return stamped(_ordered(table, list(dict.fromkeys(chosen["node"]))), chosen)


def _note(note: str, metric: str) -> str:
    """Show the test minimum in a note as the table shows its other numbers.

    >>> _note("mor, worst on validation; test minimum 0.6224", "accuracy")
    'mor, worst on validation; test minimum 62.2'
    >>> _note("test minimum 0.3978; filled with zeros", "accuracy")
    'test minimum 39.8; filled with zeros'
    """
    return re.sub(r"(?<=test minimum )\d+\.\d+", lambda found: number(float(found[0]), metric), note)


def contrast_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the declared comparisons: difference with interval, verdict, and what could have been seen, as text.

    Where they were tested, also the p values; a star stands where the one adjusted over the family is below 0.05.
    """
    tested = "p" in frame and frame["p"].notna().any()
    rows = [
        {
            "method": r.method,
            "baseline": r.baseline,
            "subset": r.subset,
            "metric": metric_name(r.metric),
            "difference": interval(r.estimate, r.low, r.high, r.metric, signed=True),
            "verdict": r.verdict,
            **({"test": r.test or NOTHING, "p": p_value(r.p), "Holm p": starred(r.p_holm)} if tested else {}),
            "detectable": number(r.detectable, r.metric),
            "seeds": int(r.seeds),
            "estimand": r.estimand,
        }
        for r in frame.itertuples(index=False)
    ]
    columns = ["method", "baseline", "subset", "metric", "difference", "verdict", "detectable", "seeds", "estimand"]
    return stamped(pd.DataFrame(rows, columns=list(rows[0]) if rows else columns), frame)


def p_value(p: float) -> str:
    """Show a p value.

    >>> p_value(0.0312), p_value(0.00001), p_value(float("nan"))
    ('0.031', '< 0.001', '–')
    """
    if math.isnan(p):
        return NOTHING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def starred(p: float) -> str:
    """Show a p value that was adjusted over its family, starred where it is below 0.05.

    >>> starred(0.049), starred(0.05)
    ('0.049*', '0.050')
    """
    return p_value(p) + "*" * (p < ALPHA)


def stage_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the cost of each compression stage, medians over seeds, as text; faster than float reads above 1×."""
    rows = []
    for (node, stage), group in frame.groupby(["node", "stage"], sort=False):
        middle = group[["bytes", "macs", "parameters", "latency_ms_median", "latency_ms_p95", "latency_ratio"]].median()
        rows.append(
            {
                "node": node,
                "stage": stage,
                "KiB": _plain(middle["bytes"] / 1024, ",.1f"),
                "MACs": _plain(middle["macs"], ",.0f"),
                "parameters": _plain(middle["parameters"], ",.0f"),
                "median ms": _plain(middle["latency_ms_median"], ".3f"),
                "p95 ms": _plain(middle["latency_ms_p95"], ".3f"),
                "speed, float = 1": _plain(middle["latency_ratio"], ".2f") + "×" * int(middle["latency_ratio"] > 0),
                "int8 kernels": _plain(100 * _middle(group, "int8_share"), ".0f")
                + "%" * int(_middle(group, "int8_share") >= 0),
                "pass, s": _plain(_middle(group, "seconds"), ".1f") if stage != "float" else NOTHING,
                "pass, peak MiB": _plain(_middle(group, "peak_mb"), ",.0f"),
                "threads": "/".join(map(str, sorted(group["threads"].unique()))),
                "largest parity gap": _plain(group["parity_max"].max(), ".1e"),
                "seeds": len(group),
            }
        )
    columns = ["node", "stage", "KiB", "MACs", "parameters", "median ms", "p95 ms", "speed, float = 1"]
    columns += ["int8 kernels", "pass, s", "pass, peak MiB"]
    table = pd.DataFrame(rows, columns=[*columns, "threads", "largest parity gap", "seeds"])
    return _ordered(table, list(dict.fromkeys(frame["node"])))


def _middle(group: pd.DataFrame, column: str) -> float:
    """Return a column's median; NaN where a record lacks it."""
    return float(pd.to_numeric(group[column]).median()) if column in group else math.nan


def _plain(value: float, form: str) -> str:
    return NOTHING if pd.isna(value) else format(value, form)


def same_origin(records: list[RunRecord]) -> None:
    """Refuse to put runs into one table unless they share data and test mask, by hash.

    Raises:
        RecordError: naming the first two runs that differ, and in what.
    """
    for record in records:
        if not record.data:
            raise RecordError(f"run {record.id} ({record.name}): no data hash, so no table may hold it; run it again")
    for record in records[1:]:
        for what in ("data", "mask"):
            ours, theirs = getattr(records[0], what), getattr(record, what)
            if ours != theirs:
                raise RecordError(
                    f"runs {records[0].id} and {record.id} cannot share a table: their {what} hashes differ "
                    f"({ours[:12] or 'none'} and {theirs[:12] or 'none'}); compare runs over the same rows and mask"
                )


def compare(folders: Sequence[Path]) -> pd.DataFrame:
    """Join the summary tables of several runs, a `run` column first.

    Raises:
        RecordError: the runs differ in data or test mask, some were trained under MNAR masks and others not, or one is
            unfinished.
    """
    same_origin([load_record(Path(folder)) for folder in folders])
    loaded = [load_evidence(Path(folder)) for folder in folders]
    frames = [e.summary.assign(run=f"{e.record.name} ({e.record.id[:8]})") for e in loaded]
    if not frames:
        raise RecordError("compare: no run folder was given; name at least one")
    joined = pd.concat(frames, ignore_index=True)
    if under_mnar(joined).nunique() > 1:
        apart = ", ".join(sorted(set(joined["run"][under_mnar(joined)])))
        raise RecordError(f"compare: {apart} was trained under an MNAR mask; compare it with others that were")
    return joined[["run", *(column for column in joined if column != "run")]]


def markdown(frame: pd.DataFrame) -> str:
    """Return a table as Markdown; a name that holds a pipe, a bracket of HTML or a line break cannot break it.

    >>> print(markdown(pd.DataFrame({"node": ["a|b"], "mean": [0.5]})))
    | node | mean |
    |:--|--:|
    | a\\|b | 0.5 |
    """
    columns = list(frame.columns)
    rules = ["--:" if is_numeric(frame[column]) else ":--" for column in columns]
    lines = [_line(columns), f"|{'|'.join(rules)}|"]
    return "\n".join([*lines, *(_line(row) for row in frame.itertuples(index=False, name=None))])


def is_numeric(column: pd.Series) -> bool:
    """Say whether a column reads as numbers, intervals included, and so is set to the right."""
    shown = [str(value).lstrip("+−-") for value in column if str(value) not in (NOTHING, NO_STEPS)]
    return bool(shown) and all(value[:1].isdigit() for value in shown)


def _line(values: Iterable[object]) -> str:
    return "| " + " | ".join(_escape(value) for value in values) + " |"


def _escape(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) and not math.isnan(value) else str(value)
    text = NOTHING if text == "nan" else text
    for sign, instead in (("\\", "\\\\"), ("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("\r", " "), ("\n", " ")):
        text = text.replace(sign, instead)
    return text
