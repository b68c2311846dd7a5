"""A study from config to report: data and mask, the graph trained per seed, predictions, compression, evidence.

Every stage hands a file to the next through the run store; nothing flows back.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from kd.compress import PASSES
from kd.compress.pipeline import faults as pass_faults
from kd.config import Study
from kd.data import load_source
from kd.data.audit import Audit, label_columns
from kd.data.masks import draw
from kd.data.source import Source
from kd.data.splits import Split
from kd.data.splits import split as split_rows
from kd.distill import OPTIMIZERS
from kd.distill.fit import Setting, rows_seen
from kd.distill.graph import data_faults, order, part_faults
from kd.errors import ConfigError, KDError, LeakError
from kd.models.classifier import Classifier
from kd.objectives import OBJECTIVES
from kd.record import (
    RunRecord,
    code_address,
    digest,
    finished,
    machine,
    open_store,
    package_versions,
    run_folder,
    save_record,
    staged_folder,
)
from kd.report.page import write_report
from kd.study.evidence import results_digest, tables
from kd.study.replicate import Evidence, Listener, Silent, run_replicate
from kd.tasks import Task, make_task


def faults(study: Study) -> list[str]:
    """Return every fault of a study, those that need its data included."""
    found = part_faults(study)
    if study.compress is not None:
        found += [f"compress.{fault}" for fault in pass_faults(study.compress.passes)]
    if found:
        return found
    source = load(study)
    return data_faults(study, source.modalities) or trial_faults(study, source)


def trial_faults(study: Study, source: Source) -> list[str]:
    """Return what only building tells: ranges inside parts, a split or a mask that these data cannot give."""
    found: list[str] = []

    def attempt(where: str, build: Callable[[], object]) -> None:
        try:
            build()
        except ConfigError as error:
            found.extend(f"{where}.{fault}" if where else fault for fault in error.faults)
        except KDError as error:
            found.append(f"{where}: {error}" if where else str(error))

    attempt("", lambda: make_task(source.task, source.classes, study.class_weight))
    attempt("split", lambda: split_rows(source, **asdict(study.split)))
    if not found:
        split = split_rows(source, **asdict(study.split))
        attempt("mask", lambda: draw(source, split, study.mask, study.first_seed))
    for name, node in study.nodes.items():
        shapes = {modality: source.shapes[modality] for modality in node.sees}
        attempt(f"nodes.{name}.model", partial(Classifier, shapes, source.classes, **node.model))
        weight = [torch.nn.Parameter(torch.zeros(1))]
        attempt(f"nodes.{name}.optimizer", partial(OPTIMIZERS.build, node.optimizer, weight))
    for name, edge in study.edges.items():
        attempt(f"edges.{name}.loss", partial(OBJECTIVES.build, edge.loss))
    for stage, part in (study.compress.passes if study.compress else {}).items():
        attempt(f"compress.passes.{stage}", partial(PASSES.build, part))
    return found


def load(study: Study) -> Source:
    """Load the study's data."""
    source: Source = load_source(**study.data)
    return source


def run(study: Study, *, source_file: str = "", listener: Listener | None = None) -> Path:
    """Run a study, reusing whatever its content address says is done, and write its report.

    Args:
        study: the config.
        source_file: named in errors.
        listener: hears of progress.

    Returns:
        the run's folder, with `report.html`, `report.md` and the record.

    Raises:
        ConfigError: every fault of the config.
        LeakError: something fitted saw a test row; nothing is written.
    """
    heard = listener or Silent()
    open_store()
    found = faults(study)
    if found:
        raise ConfigError(found, source_file)
    started = time.perf_counter()
    source = load(study)
    refuse_leaking_columns(source)
    split = split_rows(source, **asdict(study.split))
    task = make_task(source.task, source.classes, study.class_weight)
    evidence = Evidence()
    for seed in range(study.first_seed, study.first_seed + study.seeds):
        setting = Setting(source, split, draw(source, split, study.mask, seed), seed)
        run_replicate(study, setting, evidence, heard)
    audit(evidence, split.test)
    address = {
        "study": {**asdict(study), "title": ""},
        "parents": evidence.parents,
        "code": code_address("evaluate", "study", "tasks"),
    }
    run_id = digest(address)[:20]
    folder = run_folder("run", run_id)
    if finished("run", run_id) is None:
        heard.stage("report")
        frames = tables(study, source, split, task, evidence)
        with staged_folder(folder) as stage:
            _write(study, source, split, task, evidence, frames, address, run_id, started, stage)
    write_report(folder)
    return folder


def refuse_leaking_columns(source: Source) -> None:
    """Refuse data with a column from which the label can be read off.

    Raises:
        LeakError: naming the columns.
    """
    columns = label_columns(source)
    if columns:
        raise LeakError(f"data.{source.name}: the label can be read off {', '.join(map(str, columns))}; remove it")


def audit(evidence: Evidence, test: Tensor) -> dict[str, str]:
    """Check that no fitted object saw a test row; return object -> hash of the rows it saw.

    Raises:
        LeakError: naming the object and the rows.
    """
    ledger = Audit()
    for (node, seed), record in evidence.trained.items():
        for what, ids in rows_seen(record).items():
            ledger.saw(f"{node} seed {seed}: {what}", torch.tensor(ids))
    ledger.check(test)
    return dict(ledger.evidence())


def describe_graph(study: Study) -> dict[str, Any]:
    """Return the graph as the report draws it."""
    teachers = {edge.teacher for edge in study.edges.values() if edge.teacher != edge.student}
    students = {edge.student for edge in study.edges.values()}
    nodes = {}
    for name in order(study):
        node = study.nodes[name]
        kind = "student" if name in students else "teacher" if name in teachers else "baseline"
        nodes[name] = {"sees": node.sees, "rows": node.rows, "drop": node.drop, "kind": kind}
    for name, ensemble in study.ensembles.items():
        nodes[name] = {"sees": ensemble.members, "rows": "", "drop": 0.0, "kind": "ensemble"}
    edges = {
        name: {"teacher": e.teacher, "student": e.student, "loss": e.loss, "weight": e.weight, "view": e.view}
        for name, e in study.edges.items()
    }
    return {"nodes": nodes, "edges": edges}


def _write(
    study: Study,
    source: Source,
    split: Split,
    task: Task,
    evidence: Evidence,
    frames: Mapping[str, pd.DataFrame],
    address: Mapping[str, Any],
    run_id: str,
    started: float,
    stage: Path,
) -> None:
    for name, frame in frames.items():
        frame.to_parquet(stage / f"{name}.parquet")
    (stage / "graph.json").write_text(json.dumps(describe_graph(study), indent=1))
    results = results_digest(frames)
    provenance = {
        "title": study.title,
        "config": asdict(study),
        "data": {
            "name": source.name,
            "fingerprint": source.fingerprint,
            "rows": len(source),
            "classes": source.classes,
        },
        "split": {
            "fingerprint": split.fingerprint,
            "train": len(split.train),
            "validation": len(split.validation),
            "test": len(split.test),
        },
        "masks": {str(seed): fingerprint for seed, fingerprint in evidence.masks.items()},
        "seeds": sorted(evidence.masks),
        "selected_on": {f"{n} seed {s}": record.selected_on for (n, s), record in evidence.trained.items()},
        "validation_labels": len(split.validation),
        "optimiser_steps": {name: node.steps for name, node in study.nodes.items()},
        "audit": {"result": "no fitted object saw a test row", "objects": len(audit(evidence, split.test))},
        "results": results,
        "parents": evidence.parents,
        "code": address["code"],
        "packages": package_versions(),
        "machine": machine(),
        "threads": study.threads,
    }
    (stage / "provenance.json").write_text(json.dumps(provenance, indent=1, default=str))
    files = {name: f"{name}.parquet" for name in frames} | {"graph": "graph.json", "provenance": "provenance.json"}
    save_record(
        RunRecord(
            id=run_id,
            verb="run",
            name=study.title or run_id,
            config=dict(address),
            parents=evidence.parents,
            data=source.fingerprint,
            # What is hidden at test is every subset of these rows; the training masks are in the provenance.
            mask=digest(["every subset", split.fingerprint]),
            code=address["code"],
            threads=study.threads,
            seconds=time.perf_counter() - started,
            metrics={"results": results},
            files=files,
            selected_on=f"validation {task.primary}, {len(split.validation)} labels",
        ),
        stage,
    )
