"""A trained student made small, stage by stage, and what each stage costs and answers.

Every stage is a run of its own, found by what it was made from: two studies whose passes begin alike share those
stages, and one that was killed goes on where it stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor, nn

from kd.compress.context import Context
from kd.compress.package import Package
from kd.compress.pipeline import FLOAT, Stage, apply, routes
from kd.config import Compression, Study
from kd.distill.fit import Setting, finetune, losses, training_rows
from kd.distill.graph import edges_into
from kd.distill.trained import package_folder
from kd.evaluate.cost import latency
from kd.record import RunRecord, code_address, digest, finished, run_folder, save_record, staged_folder, write_atomic
from kd.study.answers import answers_of, child_record, flat

LATENCY_ROWS = 1
"""Rows of the batch that latency is measured on: one sample at a time, as a server would answer."""
LATENCY_REPEATS = 200
ROOMS = ("compress", "evaluate", "distill", "objectives", "models", "study/compress", "study/answers")
"""Whose code decides what comes out."""
MEASURED = ("parity_max", "agreement", "int8_share", "macs_ratio", "sparsity")
"""Numbers of a stage's evidence that its record shows."""
PACKAGE = "package"
Tick = Callable[[str, int, int], None]


@dataclass
class _Work:
    """What all stages of one student share.

    Attributes:
        study: the config.
        student: its name.
        setting: data of this replicate.
        trained: node -> record of its training.
        saw: what passes were shown so far in the stage at work, as ids.
    """

    study: Study
    student: str
    setting: Setting
    trained: Mapping[str, RunRecord]
    saw: dict[str, set[int]] = field(default_factory=dict)

    @property
    def record(self) -> RunRecord:
        return self.trained[self.student]

    @property
    def packages(self) -> dict[str, Path]:
        return {node: package_folder(record) for node, record in self.trained.items()}

    def context(self, package: Package) -> Context:
        """Return what passes may use: training rows, and training with the student's own teachers and loss."""
        rows = training_rows(self.study.nodes[self.student], self.setting, edges_into(self.study, self.student))
        example = self.setting.rows(rows, self.setting.available).select(package.modalities)
        self.saw = {"calibration": set(example.index.tolist())}
        return Context(
            rows=example,
            task=package.card["task"],
            fit=self._fit,
            losses=self._losses,
            seed=self.setting.seed,
            threads=self.study.threads,
        )

    def _fit(self, model: nn.Module, like: str | None = None, **changed: Any) -> nn.Module:
        node = like or self.student
        tuned, shown = finetune(self.study, node, self.setting, self.packages, model, **changed)  # type: ignore[arg-type]
        for what, ids in shown.items():
            self.saw.setdefault(f"tuned {what}", set()).update(ids)
        return tuned

    def _losses(self, model: nn.Module) -> Iterator[Tensor]:
        return losses(self.study, self.student, self.setting, self.packages, model)  # type: ignore[arg-type]


def compress_student(
    study: Study, compression: Compression, setting: Setting, trained: Mapping[str, RunRecord], tick: Tick
) -> RunRecord:
    """Apply the study's passes to a trained student and measure all stages side by side.

    Returns:
        the record whose folder holds the stages' costs; its parents are the stages' runs.
    """
    work = _Work(study, compression.student, setting, trained)
    student = Package.load(work.packages[compression.student])
    records, packages = {FLOAT: work.record}, {FLOAT: student}
    for name, (source, part) in routes(compression.passes).items():
        tick(name, 0, 1)
        records[name] = _stage(work, name, part, records[source], packages[source])
        packages[name] = Package.load(run_folder("stage", records[name].id) / PACKAGE)
        tick(name, 1, 1)
    return _measured(work, records, packages)


def _stage(work: _Work, name: str, part: Mapping[str, Any], parent: RunRecord, source: Package) -> RunRecord:
    """Apply one pass, or read what it made before."""
    address = {
        "of": parent.id,
        "stage": name,
        "pass": dict(part),
        "train": work.record.id,
        "teachers": work.record.parents,
        "split": work.setting.split.fingerprint,
        "threads": work.study.threads,
        "code": code_address(*ROOMS),
    }
    if part.get("like") is not None:
        address["like"] = work.trained[part["like"]].id
    run_id = digest(address)[:20]
    done = finished("stage", run_id)
    if done is not None:
        return done
    started = time.perf_counter()
    made = apply(name, part, source.model(), work.context(source))
    with staged_folder(run_folder("stage", run_id)) as folder:
        evidence = {**made.evidence, "seconds": made.seconds, "peak_mb": made.peak_mb}
        package = Package.save(made.model, folder / PACKAGE, stage=name, parent=source, evidence=evidence)
        answers = flat(answers_of(package.predictor(), work.setting))
        write_atomic(folder / "predictions.safetensors", save(answers))
        write_atomic(folder / "saw.json", json.dumps({what: sorted(ids) for what, ids in work.saw.items()}))
        record = child_record(work.record, "stage", run_id, address, work.study.threads, started)
        record.parents = {"of": parent.id, "train": work.record.id, **work.record.parents}
        record.metrics = _metrics(made)
        files = {file: f"{PACKAGE}/{file}" for file in package.card["checksums"]}
        record.files = {"predictions": "predictions.safetensors", "saw": "saw.json", **files}
        record.saw = {what: digest(sorted(ids)) for what, ids in work.saw.items()}
        save_record(record, folder)
    return record


def _metrics(made: Stage) -> dict[str, Any]:
    measured = {name: made.evidence[name] for name in MEASURED if name in made.evidence}
    return {"seconds": made.seconds, "peak_mb": made.peak_mb, **measured}


def _measured(work: _Work, records: Mapping[str, RunRecord], packages: Mapping[str, Package]) -> RunRecord:
    """Time all stages in turn; what they saw is gathered for the audit."""
    stages = {name: record.id for name, record in records.items() if name != FLOAT}
    address = {"train": work.record.id, "stages": stages, "code": code_address("evaluate", "study/compress")}
    run_id = digest(address)[:20]
    done = finished("compress", run_id)
    if done is not None:
        return done
    started = time.perf_counter()
    seen: dict[str, set[int]] = {}
    for run in stages.values():
        for what, ids in json.loads((run_folder("stage", run) / "saw.json").read_text()).items():
            seen.setdefault(what, set()).update(ids)
    with staged_folder(run_folder("compress", run_id)) as folder:
        rows = stage_rows(packages, work.setting, work.study.threads)
        write_atomic(folder / "stages.json", json.dumps(rows, indent=1))
        write_atomic(folder / "saw.json", json.dumps({what: sorted(ids) for what, ids in seen.items()}))
        record = child_record(work.record, "compress", run_id, address, work.study.threads, started)
        record.parents = {"train": work.record.id, **work.record.parents, **stages}
        record.metrics = {"stages": list(stages)}
        record.files = {"stages": "stages.json", "saw": "saw.json"}
        record.saw = {what: digest(sorted(ids)) for what, ids in seen.items()}
        save_record(record, folder)
    return record


def stage_rows(packages: Mapping[str, Package], setting: Setting, threads: int) -> list[dict[str, Any]]:
    """Return a row per stage: bytes, MACs, parameters, latency as a ratio to the float student, parity, seconds.

    `latency_ratio` is the float student's time over the stage's, each measured in turn: above 1 is faster.

    Args:
        packages: stage -> package, the float student first.
        setting: whose first validation row is asked.
        threads: of torch and of each session.
    """
    ids = setting.split.validation[:LATENCY_ROWS]
    batch = setting.rows(ids, setting.source.observed).select(packages[FLOAT].modalities)
    opened = {stage: made.predictor(threads=threads) for stage, made in packages.items()}
    timed = latency(opened, (batch.inputs, batch.present), LATENCY_REPEATS, threads=threads)
    return [
        {
            "stage": stage,
            **made.cost(),
            "latency_ms_median": timed[stage]["median_ms"],
            "latency_ms_p95": timed[stage]["p95_ms"],
            "latency_ratio": 1 / timed[stage]["ratio"],
            "threads": threads,
            "parity_max": made.evidence.get("parity_max"),
            "seconds": made.evidence.get("seconds", 0.0),
            "peak_mb": made.evidence.get("peak_mb"),
            "int8_share": made.evidence.get("int8_share"),
        }
        for stage, made in packages.items()
    ]
