"""One replicate of a study: its nodes trained, their answers on every subset, the student compressed stage by stage."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from safetensors.torch import load_file, save
from torch import Tensor, nn

from kd.compress.package import Context, Package
from kd.compress.pipeline import StageResult, compress
from kd.config import Compression, Study
from kd.distill.fit import Setting, finetune, package_folder, train_graph, training_rows
from kd.evaluate.cost import latency
from kd.evaluate.predictions import Logits, predict
from kd.evaluate.predictor import Predictor
from kd.record import RunRecord, code_address, digest, finished, run_folder, save_record, staged_folder, write_atomic

FLOAT = "float"
"""Stage of everything that is not compressed."""
LATENCY_ROWS = 1
"""Rows of the batch that latency is measured on: one sample at a time, as a server would answer."""
LATENCY_REPEATS = 200


class Listener(Protocol):
    """Hears of progress; the command draws it, Python users may ignore it."""

    def stage(self, text: str) -> None:
        """A new stage began."""

    def tick(self, text: str, done: int, total: int) -> None:
        """A part of the stage is done."""


class Silent:
    """A listener that says nothing."""

    def stage(self, text: str) -> None: ...

    def tick(self, text: str, done: int, total: int) -> None: ...


@dataclass
class Answers:
    """Logits of one node at one stage and seed.

    Attributes:
        validation: subset -> logits on validation rows.
        test: subset -> logits on test rows.
    """

    validation: Logits
    test: Logits


@dataclass
class Evidence:
    """What a study gathers before it writes anything."""

    answers: dict[tuple[str, str, int], Answers] = field(default_factory=dict)
    """(node, stage, seed) -> logits."""
    trained: dict[tuple[str, int], RunRecord] = field(default_factory=dict)
    stages: list[dict[str, Any]] = field(default_factory=list)
    masks: dict[int, str] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)


def run_replicate(study: Study, setting: Setting, evidence: Evidence, listener: Listener) -> None:
    """Train, evaluate and compress one replicate, adding what it finds to `evidence`."""
    listener.stage(f"seed {setting.seed}: training {len(study.nodes)} nodes")
    trained = train_graph(study, setting, listener.tick)
    evidence.masks[setting.seed] = setting.mask.fingerprint
    for node, record in trained.items():
        evidence.trained[node, setting.seed] = record
        evidence.parents[f"{node} seed {setting.seed}"] = record.id
        evidence.answers[node, FLOAT, setting.seed] = _answers(record, setting, study.threads)
    if study.compress is not None:
        listener.stage(f"seed {setting.seed}: compressing {study.compress.student}")
        record = compress_student(study, study.compress, setting, trained, listener)
        evidence.parents[f"compressed {study.compress.student} seed {setting.seed}"] = record.id
        _gather_stages(study.compress, record, setting.seed, evidence)


def _answers(record: RunRecord, setting: Setting, threads: int) -> Answers:
    address = {"train": record.id, "split": setting.split.fingerprint, "code": code_address("evaluate", "models")}
    run_id = digest(address)[:20]
    folder = run_folder("evaluate", run_id)
    if finished("evaluate", run_id) is None:
        started = time.perf_counter()
        answers = answers_of(Package.load(package_folder(record)).predictor(), setting)
        with staged_folder(folder) as stage:
            write_atomic(stage / "predictions.safetensors", save(_flat(answers)))
            made = _child(record, "evaluate", run_id, address, threads, started)
            made.files = {"predictions": "predictions.safetensors"}
            save_record(made, stage)
    return _unflat(load_file(folder / "predictions.safetensors"))


def _child(
    parent: RunRecord, verb: str, run_id: str, address: dict[str, Any], threads: int, started: float
) -> RunRecord:
    return RunRecord(
        id=run_id,
        verb=verb,
        name=f"{verb} {parent.name}",
        config=address,
        parents={"train": parent.id},
        seed=parent.seed,
        data=parent.data,
        mask=parent.mask,
        code=address["code"],
        threads=threads,
        seconds=time.perf_counter() - started,
        selected_on=parent.selected_on,
    )


def answers_of(predictor: Predictor, setting: Setting) -> Answers:
    """Return a predictor's logits on every subset, on validation and test rows."""
    sees = [name for name in setting.source.modalities if name in predictor.modalities]
    return Answers(
        validation=predict(_in_order(predictor, sees), setting.source, sees, setting.split.validation),
        test=predict(_in_order(predictor, sees), setting.source, sees, setting.split.test),
    )


def _in_order(predictor: Predictor, sees: list[str]) -> Callable[[Mapping[str, Any], Any], Any]:
    """Hand the columns of `present` over in the predictor's own order."""
    columns = [sees.index(name) for name in predictor.modalities]
    return lambda inputs, present: predictor(inputs, present[:, columns])


def _flat(answers: Answers) -> dict[str, Tensor]:
    return {f"validation/{k}": v.contiguous() for k, v in answers.validation.items()} | {
        f"test/{k}": v.contiguous() for k, v in answers.test.items()
    }


def _unflat(tensors: Mapping[str, Tensor]) -> Answers:
    parts = {
        part: {key.split("/", 1)[1]: value for key, value in tensors.items() if key.startswith(f"{part}/")}
        for part in ("validation", "test")
    }
    return Answers(**parts)


def compress_student(
    study: Study, compression: Compression, setting: Setting, trained: Mapping[str, RunRecord], listener: Listener
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
        "code": code_address("compress", "evaluate", "distill", "objectives", "models", "study/replicate"),
    }
    run_id = digest(address)[:20]
    done = finished("compress", run_id)
    if done is not None:
        return done
    started = time.perf_counter()
    package = Package.load(packages[compression.student])

    def fit(model: nn.Module) -> nn.Module:
        return finetune(study, compression.student, setting, packages, model)  # type: ignore[arg-type]

    rows = training_rows(study.nodes[compression.student], setting)
    example = setting.rows(rows, setting.available).select(package.modalities)
    context = Context(example=example, fit=fit, seed=setting.seed, threads=study.threads)
    names = list(compression.passes)

    def progress(stage: str, seconds: float | None) -> None:
        listener.tick(stage, 0 if seconds is None else 1, 1)

    with staged_folder(run_folder("compress", run_id)) as folder:
        results = compress(package, compression.passes, context, folder, progress)
        files = _write_answers(folder, setting, results)
        rows_of_stages = stage_rows(package, results, setting, study.threads)
        write_atomic(folder / "stages.json", json.dumps(rows_of_stages, indent=1))
        record = _child(student, "compress", run_id, address, study.threads, started)
        record.parents = {"train": student.id, **student.parents}
        record.metrics = {"stages": names}
        record.files = {"stages": "stages.json", **files}
        save_record(record, folder)
    return record


def _write_answers(folder: Path, setting: Setting, results: list[StageResult]) -> dict[str, str]:
    files = {}
    for result in results:
        name = f"predictions-{result.stage}.safetensors"
        write_atomic(folder / name, save(_flat(answers_of(result.package.predictor(), setting))))
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


def _gather_stages(compression: Compression, record: RunRecord, seed: int, evidence: Evidence) -> None:
    folder = run_folder("compress", record.id)
    for stage in compression.passes:
        tensors = load_file(folder / f"predictions-{stage}.safetensors")
        evidence.answers[compression.student, stage, seed] = _unflat(tensors)
    rows = json.loads((folder / "stages.json").read_text())
    evidence.stages += [{"node": compression.student, "seed": seed, **row} for row in rows]
