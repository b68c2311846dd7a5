"""Every table of a report as files: raw numbers as CSV, text with intervals as Markdown and as LaTeX (booktabs)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from kd.errors import StorageError
from kd.record import load_record, write_atomic
from kd.report import tables
from kd.report.advised import Advised, of_run, settings_table
from kd.report.comparison import Pairs, run_comparison
from kd.report.contests import contests_table, decided, rivals_table
from kd.report.costs import with_cost
from kd.report.evidence import Evidence, load_evidence
from kd.report.grid import rate_name
from kd.report.heatmap import as_text, over_seeds
from kd.report.matrix import matrix_table, pair_table
from kd.report.retained import retained_table
from kd.report.robust import robust_content
from kd.report.tables import is_numeric, markdown
from kd.report.teaching import teaching_table

LONG = 40
"""Rows from which a LaTeX table may break over pages."""
SIGNS = {"−": "$-$", "–": "--", "×": r"$\times$", "²": "$^2$", "…": r"\dots{}"}
"""What LaTeX does not read as it stands."""


@dataclass(frozen=True)
class Exported:
    """A table twice: its numbers in the metric's own unit, and as people read it."""

    numbers: pd.DataFrame
    text: pd.DataFrame


def write_tables(run: Path, folder: Path) -> list[Path]:
    """Write every table of a finished run or ablation into a folder, three files each, and return their paths.

    Raises:
        RecordError: the run is unfinished or damaged.
        StorageError: the folder cannot be made or written to.
    """
    record = load_record(run)
    if record.verb == "ablate":
        from kd.report.ablation_tables import ablation_tables

        found = ablation_tables(record, run)
    else:
        found = run_tables(load_evidence(run))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: cannot make this folder ({error.strerror}); name another one") from None
    shown = {name: own for name, own in found.items() if len(own.text)}
    return [path for name, own in shown.items() for path in _write(own, folder, file_name(name))]


def contests_tables(frame: pd.DataFrame, axes: Sequence[str] = ()) -> dict[str, Exported]:
    """Return the contests of a run or an ablation: the whole, and rival by rival."""
    if not len(frame):
        return {}
    whole = Exported(decided(frame, axes), contests_table(frame, axes))
    return {"contests": whole, "rivals": Exported(frame, rivals_table(frame, axes))}


def _write(own: Exported, folder: Path, name: str) -> list[Path]:
    files = {
        folder / f"{name}.csv": own.numbers.to_csv(index=False),
        folder / f"{name}.md": markdown(own.text) + "\n",
        folder / f"{name}.tex": latex(own.text),
    }
    for path, text in files.items():
        write_atomic(path, text)
    return list(files)


def file_name(name: str) -> str:
    """Return a table's name as a file's.

    >>> file_name("along edges.*.weight, trained under MNAR masks")
    'along_edges.weight_trained_under_MNAR_masks'
    """
    return re.sub(r"\.{2,}", ".", re.sub(r"[^A-Za-z0-9.-]+", "_", name.replace("*", ""))).strip("_.")


def latex(frame: pd.DataFrame) -> str:
    r"""Return a table in LaTeX, with the rules of the package booktabs; whatever a name holds shows as itself.

    >>> print(latex(pd.DataFrame({"a_b": ["x & y"], "score": ["−1.2 [−2.0, 0.1]"]})))
    \begin{tabular}{lr}
    \toprule
    a\_b & score \\
    \midrule
    x \& y & $-$1.2 [$-$2.0, 0.1] \\
    \bottomrule
    \end{tabular}
    """
    form = "".join("r" if is_numeric(frame[column]) else "l" for column in frame.columns)
    style = frame.reset_index(drop=True).astype(str).style.hide(axis="index")
    style = style.format(escape="latex").format_index(escape="latex", axis=1)
    environment = {"environment": "longtable"} if len(frame) > LONG else {}
    text = style.to_latex(column_format=form, hrules=True, **environment)
    for sign, instead in SIGNS.items():
        text = text.replace(sign, instead)
    return str(text)


def run_tables(evidence: Evidence) -> dict[str, Exported]:
    """Return every table of a run's report by name; those that it lacks have no rows."""
    metric = evidence.metric
    shown = tables.summary_table(evidence.summary, metric)
    found = {
        "summary": Exported(evidence.summary, with_cost(shown, evidence.cost, evidence.stages)),
        "subsets": Exported(
            tables.subset_table(evidence.subsets, metric), tables.subset_grid(evidence.subsets, metric)
        ),
        "metrics": Exported(_every_metric(evidence.subsets), tables.metric_table(evidence.subsets)),
        **contests_tables(evidence.contests),
        "contrasts": Exported(evidence.contrasts, tables.contrast_table(evidence.contrasts)),
        "teaching": Exported(
            evidence.teaching, teaching_table(evidence.teaching, evidence.contrasts, evidence.primary)
        ),
        "retained": Exported(evidence.retained, retained_table(evidence.retained)),
        "stages": Exported(evidence.stages, tables.stage_table(evidence.stages)),
        "pairs": Exported(evidence.pairs, pair_table(evidence.pairs)),
    }
    return found | _robust_tables(evidence) | _comparison_tables(evidence)


def _every_metric(subsets: pd.DataFrame) -> pd.DataFrame:
    metrics = dict.fromkeys(subsets["metric"])
    found = [tables.subset_table(subsets, metric).assign(metric=metric) for metric in metrics]
    return pd.concat(found, ignore_index=True) if found else subsets


def _robust_tables(evidence: Evidence) -> dict[str, Exported]:
    found = robust_content(evidence)
    if found["table"] is None:
        return {}
    metric, frame, games = found["key"], evidence.robustness, evidence.shapley
    curves = frame[(frame["quantity"] == "rate") & (frame["metric"] == metric) & (frame["stage"] == "float")]
    return {
        "robustness": Exported(frame[frame["metric"] == metric], found["table"]),
        "shapley": Exported(games[games["metric"] == metric], found["shapley"]),
        "rates": rate_tables(curves, ["node"], metric),
    }


def rate_tables(curves: pd.DataFrame, heads: Sequence[str], metric: str) -> Exported:
    """Return scores along the missing rate, a column per rate.

    Args:
        curves: `node`, `seed`, `rate`, `value` and the heads.
        heads: columns that name a row.
        metric: whose unit the scores have.
    """
    means = over_seeds(curves, [*heads, "rate"]) if len(curves) else pd.DataFrame(columns=[*heads, "rate"])
    named = means.assign(column=[rate_name(rate) for rate in means["rate"]])
    order = [rate_name(rate) for rate in sorted(set(means["rate"]))]
    return Exported(means, as_text(named, heads, metric, order))


def _comparison_tables(evidence: Evidence) -> dict[str, Exported]:
    found: Mapping[str, Any] = run_comparison(evidence)
    masks = evidence.test_masks
    return {
        **matrix_tables(found["matrices"], evidence.pairs),
        "test masks": Exported(masks, found["test_mask_table"]),
        "advice": advice_tables([of_run(evidence)]),
    }


def matrix_tables(matrices: Sequence[Pairs], pairs: pd.DataFrame) -> dict[str, Exported]:
    """Return the matrices of pairs, all methods; the numbers are those of the pairs themselves."""
    return {
        f"matrix {own.place}": Exported(pairs[pairs["over"] == own.over], matrix_table(own.whole or own.first))
        for own in matrices
    }


def advice_tables(found: Sequence[Advised]) -> Exported:
    """Return what is advised, a line per setting and question; the numbers are the differences behind it."""
    rows = [
        {
            **own.values,
            "over": one.over,
            "advised": one.advised,
            "reason": one.reason,
            "favourite": one.favourite,
            "simple": one.simple,
            "rival": one.rival,
            **{name: getattr(one.difference, name, None) for name in ("estimate", "low", "high", "verdict")},
            "seeds": one.seeds,
        }
        for own in found
        for one in own.advices
    ]
    return Exported(pd.DataFrame(rows), settings_table(found))
