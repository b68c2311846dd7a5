"""A study from config to report: data and mask, the graph trained per seed, predictions, compression, evidence.

Every stage hands a file to the next through the run store; nothing flows back.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from kd.config import Study, deciding, simple_methods
from kd.data.source import Source
from kd.distill.graph import order
from kd.distill.trainer import deciding as deciding_arguments
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
from kd.study.bound import sentence
from kd.study.check import checked, load
from kd.study.evidence import results_digest, tables
from kd.study.jobs import Job, run_jobs
from kd.study.leaks import audit, looked_at, note_final
from kd.study.replicate import Listener, Replicate, Silent, name_of, places, run_replicate
from kd.tasks import Task, make_task


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
    source = checked(study, source_file)
    started = time.perf_counter()
    replicates = run_replicates(study, source, heard)
    folder = conclude(study, source, replicates, heard, started)
    write_report(folder)
    return folder


def run_replicates(study: Study, source: Source, listener: Listener) -> list[Replicate]:
    """Run every replicate, `study.jobs` at a time, and return them in order.

    Raises:
        KDError: what the first replicate to fail raised; the others are stopped, and go on from there next time.
    """
    every = places(study)
    if min(study.jobs, len(every)) == 1:
        return [run_replicate(study, source, seed, fold, listener) for seed, fold in every]
    names = [name_of(study, seed, fold) for seed, fold in every]
    jobs = {name: Job(_run_one, (study, *place), name=name) for name, place in zip(names, every, strict=True)}
    return list(run_jobs(jobs, study.jobs, listener).values())


def _run_one(study: Study, seed: int, fold: int, listener: Listener) -> Replicate:
    return run_replicate(study, load(study), seed, fold, listener)


def conclude(study: Study, source: Source, replicates: Sequence[Replicate], listener: Listener, started: float) -> Path:
    """Audit the replicates, make their tables and write the study's record; return its folder.

    Args:
        study: the config.
        source: its data.
        replicates: trained and evaluated.
        listener: hears of progress.
        started: when, by `time.perf_counter`.

    Raises:
        LeakError: something fitted saw a test row; nothing is written.
    """
    torch.set_num_threads(study.threads)
    task = make_task(source.task, source.classes, study.class_weight)
    audit(study, replicates, source)
    address = {
        "study": deciding(study) | {"trainer": deciding_arguments(study.trainer)},
        "parents": {role: run for r in replicates for role, run in r.parents(name_of(study, r.seed, r.fold)).items()},
        "code": code_address("evaluate", "statistics", "study", "tasks"),
    }
    run_id = digest(address)[:20]
    folder = run_folder("run", run_id)
    if finished("run", run_id) is None:
        listener.stage("report")
        frames = tables(study, source, task, replicates)
        note_final(study, source, run_id)
        about = provenance(study, source, replicates)
        about |= {"bayes_bound": sentence(frames["bound"])} if "bound" in frames else {}
        with staged_folder(folder) as stage:
            _write(study, source, task, replicates, frames, about, address, run_id, started, stage)
    return folder


def describe_graph(study: Study) -> dict[str, Any]:
    """Return the graph as the report draws it."""
    teachers = {edge.teacher for edge in study.edges.values() if edge.teacher != edge.student}
    students = {edge.student for edge in study.edges.values()}
    nodes: dict[str, dict[str, Any]] = {}
    for name in order(study):
        node = study.nodes[name]
        kind = "student" if name in students else "teacher" if name in teachers else "baseline"
        nodes[name] = {"sees": node.sees, "rows": node.rows, "drop": node.drop, "kind": kind}
        if node.init is not None:
            nodes[name]["start"] = sorted(node.origins)
    for name, baseline in study.baselines.items():
        nodes[name] = {"sees": baseline.sees, "rows": baseline.rows, "drop": 0.0, "kind": "baseline"}
    for name, ensemble in study.ensembles.items():
        nodes[name] = {"sees": ensemble.members, "rows": "", "drop": 0.0, "kind": "ensemble"}
    weights = {name: e.weight * study.nodes[e.student].taught for name, e in study.edges.items()}
    edges = {
        name: {"teacher": e.teacher, "student": e.student, "loss": e.loss, "weight": weights[name], "view": e.view}
        for name, e in study.edges.items()
    }
    return {"nodes": nodes, "edges": edges}


def provenance(study: Study, source: Source, replicates: Sequence[Replicate]) -> dict[str, Any]:
    """Return where the numbers of a study come from, as its report tells it."""
    split = replicates[0].split
    names = [name_of(study, r.seed, r.fold) for r in replicates]
    folds = {name: r.split.fingerprint for name, r in zip(names, replicates, strict=True)}
    return {
        "title": study.title,
        "config": asdict(study) | {"simple": simple_methods(study)},
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
            **({"folds": study.split.folds, "fingerprints": folds} if study.split.folds else {}),
        },
        "masks": {name: r.mask for name, r in zip(names, replicates, strict=True)},
        "seeds": sorted({r.seed for r in replicates}),
        "selected_on": {
            f"{node} {name}": told
            for name, r in zip(names, replicates, strict=True)
            for node, told in ({fitted: record.selected_on for fitted, record in r.fitted.items()} | r.fused).items()
        },
        "validation_labels": len(split.validation),
        "optimiser_steps": {name: node.steps for name, node in study.nodes.items()},
        "audit": looked_at(study, source, replicates),
        "packages": package_versions(),
        "machine": machine(),
        "threads": study.threads,
    }


def _write(
    study: Study,
    source: Source,
    task: Task,
    replicates: Sequence[Replicate],
    frames: Mapping[str, pd.DataFrame],
    about: dict[str, Any],
    address: Mapping[str, Any],
    run_id: str,
    started: float,
    stage: Path,
) -> None:
    for name, frame in frames.items():
        frame.to_parquet(stage / f"{name}.parquet")
    (stage / "graph.json").write_text(json.dumps(describe_graph(study), indent=1))
    results = results_digest(frames)
    about |= {"results": results, "parents": address["parents"], "code": address["code"]}
    (stage / "provenance.json").write_text(json.dumps(about, indent=1, default=str))
    files = {name: f"{name}.parquet" for name in frames} | {"graph": "graph.json", "provenance": "provenance.json"}
    save_record(
        RunRecord(
            id=run_id,
            verb="run",
            name=study.title or run_id,
            config=dict(address),
            parents=address["parents"],
            data=source.fingerprint,
            # What is hidden at test is every subset of these rows; the training masks are in the provenance.
            mask=digest(["every subset", *sorted({r.split.fingerprint for r in replicates})]),
            code=address["code"],
            threads=study.threads,
            seconds=time.perf_counter() - started,
            metrics={"results": results},
            files=files,
            selected_on=f"validation {task.primary}, {about['validation_labels']} labels",
        ),
        stage,
    )
