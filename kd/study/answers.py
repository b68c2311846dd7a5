"""What networks and baselines answer on every subset of modalities, through the run store."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from safetensors.torch import load_file, save
from torch import Tensor

from kd.baselines import BASELINES
from kd.compress.package import Package
from kd.compress.pipeline import FLOAT as FLOAT
from kd.config import Baseline, Study
from kd.distill.fit import Setting, training_rows
from kd.distill.trained import package_folder
from kd.distill.view import judged, pattern
from kd.evaluate.predictions import SEPARATOR, Logits, predict, seen_subsets
from kd.evaluate.predictor import Predictor
from kd.record import RunRecord, code_address, digest, finished, run_folder, save_record, staged_folder, write_atomic


@dataclass
class Answers:
    """Logits of one node at one stage and seed.

    Attributes:
        validation: subset -> logits on validation rows.
        test: subset -> logits on test rows.
    """

    validation: Logits
    test: Logits


def node_answers(record: RunRecord, setting: Setting, threads: int) -> Answers:
    """Return a trained node's answers, computed once."""
    address = {"train": record.id, "split": setting.split.fingerprint, "code": code_address("evaluate", "models")}
    run_id = digest(address)[:20]
    folder = run_folder("evaluate", run_id)
    if finished("evaluate", run_id) is None:
        started = time.perf_counter()
        answers = answers_of(Package.load(package_folder(record)).predictor(), setting)
        with staged_folder(folder) as stage:
            write_atomic(stage / "predictions.safetensors", save(flat(answers)))
            made = child_record(record, "evaluate", run_id, address, threads, started)
            made.files = {"predictions": "predictions.safetensors"}
            save_record(made, stage)
    return unflat(load_file(folder / "predictions.safetensors"))


def child_record(
    parent: RunRecord, verb: str, run_id: str, address: dict[str, Any], threads: int, started: float
) -> RunRecord:
    """Return the record of a run that was made from another one alone."""
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


def flat(answers: Answers) -> dict[str, Tensor]:
    """Return answers as one mapping, `test/fou+zer` -> logits, for a safetensors file."""
    return {f"validation/{k}": v.contiguous() for k, v in answers.validation.items()} | {
        f"test/{k}": v.contiguous() for k, v in answers.test.items()
    }


def unflat(tensors: Mapping[str, Tensor]) -> Answers:
    """Take back what `flat` gave."""
    parts = {
        part: {key.split("/", 1)[1]: value for key, value in tensors.items() if key.startswith(f"{part}/")}
        for part in ("validation", "test")
    }
    return Answers(**parts)


def baseline_answers(study: Study, name: str, setting: Setting) -> tuple[RunRecord, Answers]:
    """Fit a baseline, or read what it answered where its address says that it is done."""
    baseline = study.baselines[name]
    address = {
        "baseline": {**asdict(baseline), "sees": sorted(baseline.sees)},
        "data": setting.source.fingerprint,
        "split": setting.split.fingerprint,
        "mask": setting.mask.fingerprint,
        "code": code_address("baselines", "evaluate", "data/columns", "processors", "types"),
        "scikit-learn": version("scikit-learn"),
    }
    run_id = digest(address)[:20]
    folder = run_folder("baseline", run_id)
    record = finished("baseline", run_id)
    if record is None:
        record = _fit_baseline(baseline, name, setting, address, run_id)
    return record, unflat(load_file(folder / "predictions.safetensors"))


def _fit_baseline(baseline: Baseline, name: str, setting: Setting, address: dict[str, Any], run_id: str) -> RunRecord:
    started = time.perf_counter()
    source, split = setting.source, setting.split
    sees = [modality for modality in source.modalities if modality in baseline.sees]
    ids = training_rows(baseline, setting)
    patterns = judged(sees, baseline.select)
    fitted = BASELINES.build(baseline.model).fit(
        source, sees, ids, setting.available, split.validation, judged=patterns
    )

    def answers(rows: Tensor) -> Logits:
        asked = seen_subsets(source.modalities, sees)
        shown = {subset: pattern(source.modalities, subset.split(SEPARATOR)) for subset in asked}
        return {subset: fitted.logits(rows, source.observed & seen) for subset, seen in shown.items()}

    over = "complete rows" if baseline.select == "complete" else "mean over all subsets"
    saw = {"rows": ids.tolist(), "selection": split.validation.tolist()}
    record = RunRecord(
        id=run_id,
        verb="baseline",
        name=f"{name} seed {setting.seed}",
        config=address,
        seed=setting.seed,
        data=source.fingerprint,
        mask=setting.mask.fingerprint,
        code=address["code"],
        files={"predictions": "predictions.safetensors", "saw": "saw.json"},
        selected_on=f"{fitted.chosen} by validation accuracy, {over}, {len(split.validation)} labels",
        saw={key: digest(sorted(rows)) for key, rows in saw.items()},
    )
    with staged_folder(run_folder("baseline", run_id)) as stage:
        found = Answers(answers(split.validation), answers(split.test))
        write_atomic(stage / "predictions.safetensors", save(flat(found)))
        write_atomic(stage / "saw.json", json.dumps(saw))
        record.seconds = time.perf_counter() - started
        save_record(record, stage)
    return record
