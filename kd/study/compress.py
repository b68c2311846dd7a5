"""A trained student made small, stage by stage, and what each stage costs and answers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import nn

from kd.compress.package import Context, Package
from kd.compress.pipeline import StageResult, compress
from kd.config import Compression, Study
from kd.distill.fit import Setting, finetune, training_rows
from kd.distill.graph import edges_into
from kd.distill.trained import package_folder
from kd.evaluate.cost import latency
from kd.record import RunRecord, code_address, digest, finished, run_folder, save_record, staged_folder, write_atomic
from kd.study.answers import FLOAT, answers_of, child_record, flat

LATENCY_ROWS = 1
"""Rows of the batch that latency is measured on: one sample at a time, as a server would answer."""
LATENCY_REPEATS = 200
ROOMS = ("compress", "evaluate", "distill", "objectives", "models", "study/compress", "study/answers")
"""Whose code decides what comes out."""


def compress_student(
    study: Study,
    compression: Compression,
    setting: Setting,
    trained: Mapping[str, RunRecord],
    tick: Callable[[str, int, int], None],
) -> RunRecord:
    """Apply the study's passes to a trained student; the run's folder holds each stage's answers, cost and package."""
    student = trained[compression.student]
    packages = {node: package_folder(record) for node, record in trained.items()}
    address = {
        "train": student.id,
        "teachers": student.parents,
        "passes": [{stage: part} for stage, part in compression.passes.items()],
        "split": setting.split.fingerprint,
        "threads": study.threads,
        "code": code_address(*ROOMS),
    }
    run_id = digest(address)[:20]
    done = finished("compress", run_id)
    if done is not None:
        return done
    started = time.perf_counter()
    package = Package.load(packages[compression.student])

    teachers = edges_into(study, compression.student)
    rows = training_rows(study.nodes[compression.student], setting, teachers)
    example = setting.rows(rows, setting.available).select(package.modalities)
    saw: dict[str, set[int]] = {"calibration": set(example.index.tolist())}

    def fit(model: nn.Module) -> nn.Module:
        tuned, shown = finetune(study, compression.student, setting, packages, model)  # type: ignore[arg-type]
        for what, ids in shown.items():
            saw.setdefault(f"tuned {what}", set()).update(ids)
        return tuned

    context = Context(example=example, fit=fit, seed=setting.seed, threads=study.threads)
    names = list(compression.passes)

    def progress(stage: str, seconds: float | None) -> None:
        tick(stage, 0 if seconds is None else 1, 1)

    with staged_folder(run_folder("compress", run_id)) as folder:
        results = compress(package, compression.passes, context, folder, progress)
        files = _write_answers(folder, setting, results)
        rows_of_stages = stage_rows(package, results, setting, study.threads)
        write_atomic(folder / "stages.json", json.dumps(rows_of_stages, indent=1))
        record = child_record(student, "compress", run_id, address, study.threads, started)
        record.parents = {"train": student.id, **student.parents}
        record.metrics = {"stages": names}
        write_atomic(folder / "saw.json", json.dumps({what: sorted(ids) for what, ids in saw.items()}))
        record.files = {"stages": "stages.json", "saw": "saw.json", **files}
        record.saw = {what: digest(sorted(ids)) for what, ids in saw.items()}
        save_record(record, folder)
    return record


def _write_answers(folder: Path, setting: Setting, results: list[StageResult]) -> dict[str, str]:
    files = {}
    for result in results:
        name = f"predictions-{result.stage}.safetensors"
        write_atomic(folder / name, save(flat(answers_of(result.package.predictor(), setting))))
        files[f"predictions {result.stage}"] = name
        files |= {f"{result.stage}/{file}": f"{result.stage}/{file}" for file in result.package.card["checksums"]}
    return files


def stage_rows(package: Package, results: list[StageResult], setting: Setting, threads: int) -> list[dict[str, Any]]:
    """Return a row per stage: bytes, MACs, parameters, latency as a ratio to the float student, parity, seconds.

    `latency_ratio` is the float student's time over the stage's, each measured in turn: above 1 is faster.
    """
    stages = {FLOAT: package} | {result.stage: result.package for result in results}
    predictors = {stage: made.predictor(threads=threads) for stage, made in stages.items()}
    ids = setting.split.validation[:LATENCY_ROWS]
    batch = setting.rows(ids, setting.source.observed).select(package.modalities)
    timed = latency(predictors, (batch.inputs, batch.present), LATENCY_REPEATS, threads=threads)
    parity = {result.stage: result.parity for result in results}
    seconds = {result.stage: result.seconds for result in results}
    return [
        {
            "stage": stage,
            **made.cost(),
            "latency_ms_median": timed[stage]["median_ms"],
            "latency_ms_p95": timed[stage]["p95_ms"],
            "latency_ratio": 1 / timed[stage]["ratio"],
            "threads": threads,
            "parity_max": parity.get(stage),
            "seconds": seconds.get(stage, 0.0),
            "peak_mb": next((r.peak_mb for r in results if r.stage == stage), None),
            "int8_share": made.evidence.get("int8_share"),
        }
        for stage, made in stages.items()
    ]
