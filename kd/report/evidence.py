"""What a report is made from: the tables and documents that a finished run recorded, read and checked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from kd.errors import RecordError
from kd.record import RunRecord, load_record

KINDS = ("baseline", "teacher", "student", "ensemble")
"""Kinds of nodes in the order of a report's rows."""
COLUMNS = {
    "subsets": ("node", "stage", "seed", "subset", "size", "n", "metric", "value"),
    "results": ("variant", "node", "stage", "seed", "subset", "size", "n", "metric", "value"),
    "contrasts": (
        *("method", "baseline", "subset", "metric", "estimate", "low", "high"),
        *("seeds", "estimand", "verdict", "detectable"),
    ),
    "summary": ("node", "stage", "what", "metric", "mean", "low", "high", "seeds", "note"),
    "curves": ("node", "seed", "epoch", "quantity", "value"),
    "stages": (
        *("node", "stage", "seed", "bytes", "macs", "parameters", "latency_ms_median", "latency_ms_p95"),
        *("latency_ratio", "threads", "parity_max", "seconds"),
    ),
    "cost": ("node", "steps", "parameters"),
    "robustness": ("node", "stage", "seed", "metric", "quantity", "rate", "value"),
    "shapley": ("node", "stage", "metric", "modality", "value", "low", "high", "sampling_error", "evenness", "game"),
    "patterns": ("node", "seed", "subset", "shown"),
    "validation": ("node", "stage", "seed", "subset", "size", "n", "metric", "value"),
    "pairs": ("method", "baseline", "over", "metric", "seeds", "estimate", "low", "high", "verdict"),
    "retained": ("node", "stage", "subset", "metric", "seeds", "estimate", "low", "high", "margin", "verdict"),
    "test_masks": ("node", "stage", "seed", "test_mask", "kind", "hidden", "metric", "value", "n"),
    "rates": ("node", "stage", "seed", "rate", "value"),
    "claims": (
        *("claim", "says", "verdict", "reason", "method", "baseline", "subset", "measure", "setting", "metric"),
        *("seeds", "estimate", "low", "high", "detectable", "p_holm"),
    ),
    "contests": (
        *("contest", "method", "rival", "on", "metric", "seeds", "estimate", "low", "high", "p", "least", "untested"),
    ),
    "teaching": (
        *("seed", "edge", "teacher", "student", "taught", "labelled", "teacher_taught", "teacher_hidden"),
        *("teacher_test", "student_test", "entropy", "agreement", "agreement_subsets", "information", "label_entropy"),
    ),
}


@dataclass
class Evidence:
    """Everything a report may say, as a run recorded it.

    Attributes:
        record: the run's record; its files were checked against their checksums.
        subsets: one row per node, stage, seed, subset of modalities and metric.
        contrasts: one row per declared comparison, with interval and verdict.
        summary: complete, mean and worst per node and stage.
        curves: one row per node, seed, epoch and quantity.
        stages: cost of each compression stage; no rows where nothing was compressed.
        graph: `nodes` and `edges` by name.
        provenance: nested; where the numbers came from.
        cost: optimiser steps and parameters per node; like the next three without rows in a record that lacks it.
        robustness: rate curves, areas and margins kept, per node, stage, seed and metric.
        shapley: what each modality contributes, per node, stage and metric.
        patterns: whether training showed a node a subset of modalities, per seed.
        validation: one row per node, stage, seed and subset on validation rows, in the primary metric.
        pairs: the difference of every two methods on test rows.
        retained: each compressed stage minus the float student, per subset and in the mean, with verdicts.
        test_masks: scores under the test masks that a config names, per node, stage and seed.
        teaching: what each edge's teacher knew and how faithful its student became, per seed.
        contests: the difference of a method from each of its rivals, per kind of test rows.
    """

    record: RunRecord
    subsets: pd.DataFrame
    contrasts: pd.DataFrame
    summary: pd.DataFrame
    curves: pd.DataFrame
    stages: pd.DataFrame
    graph: dict[str, Any]
    provenance: dict[str, Any]
    cost: pd.DataFrame
    robustness: pd.DataFrame
    shapley: pd.DataFrame
    patterns: pd.DataFrame
    validation: pd.DataFrame
    pairs: pd.DataFrame
    retained: pd.DataFrame
    test_masks: pd.DataFrame
    teaching: pd.DataFrame
    contests: pd.DataFrame

    @property
    def metric(self) -> str:
        """The metric the report leads with."""
        return leading_metric(self.subsets, self.contrasts)

    @property
    def primary(self) -> str:
        """The task's own metric: the one that validation rows were scored in."""
        return primary_metric(self.validation, self.metric)

    @property
    def kinds(self) -> dict[str, str]:
        """What each node is: baseline, teacher, student or ensemble."""
        return {name: str(node.get("kind", "")) for name, node in self.graph.get("nodes", {}).items()}


def primary_metric(validation: pd.DataFrame, otherwise: str) -> str:
    """Return the metric that validation rows were scored in; another one where there are none."""
    return str(validation["metric"].iloc[0]) if len(validation) else otherwise


def leading_metric(subsets: pd.DataFrame, contrasts: pd.DataFrame) -> str:
    """Return the metric a report leads with: that of the first declared contrast, else accuracy, else the first."""
    if len(contrasts):
        return str(contrasts["metric"].iloc[0])
    known = list(subsets["metric"].unique()) if len(subsets) else []
    return "accuracy" if "accuracy" in known or not known else str(known[0])


def load_evidence(folder: Path) -> Evidence:
    """Read a finished run's folder.

    Raises:
        RecordError: the record, a file it must name, or a column of that file is missing or damaged.
    """
    record = load_record(folder)
    stages = optional_table(record, folder, "stages")
    graph = read_document(record, folder, "graph")
    return Evidence(
        record=record,
        subsets=_arranged(read_table(record, folder, "subsets"), graph, stages),
        contrasts=read_table(record, folder, "contrasts"),
        summary=_arranged(read_table(record, folder, "summary"), graph, stages),
        curves=_arranged(read_table(record, folder, "curves"), graph, stages),
        stages=_arranged(stages, graph, stages),
        graph=graph,
        provenance=read_document(record, folder, "provenance"),
        cost=optional_table(record, folder, "cost"),
        robustness=_arranged(optional_table(record, folder, "robustness"), graph, stages),
        shapley=_arranged(optional_table(record, folder, "shapley"), graph, stages),
        patterns=_arranged(optional_table(record, folder, "patterns"), graph, stages),
        validation=_arranged(optional_table(record, folder, "validation"), graph, stages),
        pairs=optional_table(record, folder, "pairs"),
        retained=optional_table(record, folder, "retained"),
        test_masks=_arranged(optional_table(record, folder, "test_masks"), graph, stages),
        teaching=optional_table(record, folder, "teaching"),
        contests=optional_table(record, folder, "contests"),
    )


def optional_table(record: RunRecord, folder: Path, name: str) -> pd.DataFrame:
    """Read a table that not every run or ablation has: without rows where it has none.

    Raises:
        RecordError: it is there, but damaged or without a column.
    """
    return read_table(record, folder, name) if name in record.files else pd.DataFrame(columns=list(COLUMNS[name]))


def _arranged(frame: pd.DataFrame, graph: dict[str, Any], stages: pd.DataFrame) -> pd.DataFrame:
    """Sort rows by their node's kind, its place in the graph and the order of the compression passes."""
    nodes = graph.get("nodes", {})
    kinds = {kind: place for place, kind in enumerate(KINDS)}
    names = sorted(nodes, key=lambda name: kinds.get(nodes[name].get("kind"), len(kinds)))
    passes = {stage: place for place, stage in enumerate(dict.fromkeys(stages["stage"]))}
    ranks = pd.DataFrame({"node": frame["node"].map({name: place for place, name in enumerate(names)})})
    if "stage" in frame:
        ranks["stage"] = frame["stage"].map(passes)
    return frame.loc[ranks.sort_values(list(ranks), kind="stable").index].reset_index(drop=True)


def _path(record: RunRecord, folder: Path, name: str) -> Path:
    if name not in record.files:
        raise RecordError(f"{folder / 'record.json'}: names no file {name!r}, which a report needs; run `kd run` again")
    return folder / record.files[name]


def read_table(record: RunRecord, folder: Path, name: str) -> pd.DataFrame:
    """Read one of a run's tables.

    Raises:
        RecordError: it is missing, damaged or lacks a column.
    """
    path = _path(record, folder, name)
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: not a readable Parquet table ({error}); run `kd run` again") from error
    absent = [column for column in COLUMNS.get(name, ()) if column not in frame]
    if absent:
        raise RecordError(f"{path}: table {name!r} lacks the columns {', '.join(absent)}; run `kd run` again")
    return frame


def read_document(record: RunRecord, folder: Path, name: str) -> dict[str, Any]:
    """Read one of a run's JSON files.

    Raises:
        RecordError: it is missing or damaged.
    """
    path = _path(record, folder, name)
    try:
        content = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: not readable JSON ({error}); run `kd run` again") from error
    if not isinstance(content, dict):
        raise RecordError(f"{path}: expected a JSON object, got {type(content).__name__}; run `kd run` again")
    return content
