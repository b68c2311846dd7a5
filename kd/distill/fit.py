"""The executor: train a study's nodes in dependency order, reuse what is done, resume what was killed."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import nn

from kd.config import Edge as EdgeConfig
from kd.config import Node, Study
from kd.data.module import batches
from kd.data.stream import StepBatches
from kd.distill.address import node_address
from kd.distill.augment import build_augmentations
from kd.distill.callbacks import Curves, KeepBest, Progress, Resume
from kd.distill.graph import edges_into, order
from kd.distill.loggers import close_loggers, make_loggers
from kd.distill.loss import Edge
from kd.distill.module import SCORE, Distiller
from kd.distill.outputs import teacher_outputs
from kd.distill.setting import Setting as Setting
from kd.distill.setting import training_rows as training_rows
from kd.distill.setting import validation
from kd.distill.teachers import Frozen, state_digest
from kd.distill.trainer import make_trainer, quiet
from kd.errors import ConfigError
from kd.importing import in_words
from kd.models.network import Network
from kd.models.package import load_package, save_package
from kd.models.start import start_from
from kd.networks import build_network
from kd.objectives import OBJECTIVES
from kd.record import (
    RunRecord,
    digest,
    finished,
    load_record,
    run_folder,
    save_record,
    staged_folder,
)
from kd.seeding import derive
from kd.tasks import Task, make_task

Tick = Callable[[str, int, int], None]
"""Called with (node, steps done, steps in all)."""


def train_graph(study: Study, setting: Setting, tick: Tick | None = None) -> dict[str, RunRecord]:
    """Train every node of one replicate, teachers first; finished nodes are read from the store.

    Returns:
        node -> record of its run; the package is the record's `package` folder.
    """
    torch.set_num_threads(study.threads)
    records: dict[str, RunRecord] = {}
    for name in order(study):
        records[name] = train_node(study, name, setting, records, tick or (lambda *_: None))
    return records


def train_node(study: Study, name: str, setting: Setting, trained: Mapping[str, RunRecord], tick: Tick) -> RunRecord:
    """Train one node, or return its record where its address says that it is done."""
    parents = _parents(study, name, trained)
    address = node_address(study, name, setting, parents)
    run_id = digest(address)[:20]
    done = finished("train", run_id)
    if done is not None:
        tick(name, study.nodes[name].steps, study.nodes[name].steps)
        return done
    started = time.perf_counter()
    folder = run_folder("train", run_id)
    partial = folder.with_name(f"{run_id}.partial")
    module, saw = build(study, name, setting, {node: package_folder(record) for node, record in trained.items()})
    made = _made(study, name, module, setting, partial, tick)
    record = RunRecord(
        id=run_id,
        verb="train",
        name=f"{name} seed {setting.seed}",
        config=address,
        parents=parents,
        seed=setting.seed,
        data=setting.source.fingerprint,
        mask=setting.mask.fingerprint,
        code=address["code"],
        threads=study.threads,
        seconds=time.perf_counter() - started,
        metrics={"validation_score": made.score, "best_round": made.round, "steps": made.steps},
        files={
            "weights": "package/weights.safetensors",
            "card": "package/card.json",
            "curves": "curves.parquet",
            "saw": "saw.json",
        },
        selected_on=selection(study.nodes[name], module.task, len(setting.split.validation)),
        saw={key: digest(sorted(ids)) for key, ids in saw.items()},
    )
    _save(record, module.model, made.curves, saw)  # type: ignore[arg-type]
    shutil.rmtree(partial, ignore_errors=True)
    return record


def _made(study: Study, name: str, module: Distiller, setting: Setting, partial: Path, tick: Tick) -> Made:
    """Train a built node, or look at the weights it was given; see that no teacher changed meanwhile."""
    teachers = {key: e.teacher.model for key, e in module.edges.items() if isinstance(e.teacher, Frozen)}
    before = {key: state_digest(teacher.state_dict()) for key, teacher in teachers.items()}
    node, run = study.nodes[name], f"{name} seed {setting.seed}"
    if node.steps:
        made = fit(module, node, setting, partial, lambda step, steps: tick(name, step, steps), study.trainer, run)
    else:
        made = look(module, setting, study.trainer)
    for key, teacher in teachers.items():
        if state_digest(teacher.state_dict()) != before[key]:
            raise AssertionError(f"edge {key}: the frozen teacher changed during training")
    return made


def _save(record: RunRecord, model: Network, curves: list[dict[str, Any]], saw: Mapping[str, list[int]]) -> None:
    with staged_folder(run_folder("train", record.id)) as stage:
        save_package(model, stage / "package", {"stage": "float", "run": record.id, "parents": record.parents})
        pd.DataFrame(curves).to_parquet(stage / "curves.parquet")
        (stage / "saw.json").write_text(json.dumps(saw))
        save_record(record, stage)


def package_folder(record: RunRecord) -> Path:
    """Return the folder of a trained node's package."""
    return run_folder("train", record.id) / "package"


def rows_seen(record: RunRecord) -> dict[str, list[int]]:
    """Return the row ids behind every object this run fitted."""
    folder = run_folder(record.verb, record.id)
    load_record(folder)
    found: dict[str, list[int]] = json.loads((folder / "saw.json").read_text())
    return found


def selection(node: Node, task: Task, labels: int) -> str:
    """Say in words what chose a node's weights."""
    if node.steps == 0:
        return "nothing: the weights as they were given"
    if node.select == "last":
        return f"nothing: the weights after the last of {node.steps} steps"
    patterns = "complete rows" if node.select == "complete" else "mean over all subsets"
    return f"validation {task.primary}, {patterns}, {labels} labels"


def _parents(study: Study, name: str, trained: Mapping[str, RunRecord]) -> dict[str, str]:
    names = {edge.teacher for edge in edges_into(study, name).values() if edge.teacher != name}
    names |= study.nodes[name].origins
    return {parent: trained[parent].id for parent in sorted(names)}


def build(
    study: Study, name: str, setting: Setting, packages: Mapping[str, Path]
) -> tuple[Distiller, dict[str, list[int]]]:
    """Build a node ready to train, and say which rows its scalers, labels and selection see.

    Args:
        study: the config.
        name: node.
        setting: data of this replicate.
        packages: node -> folder of the package of every node trained before.
    """
    node = study.nodes[name]
    sees = [modality for modality in setting.source.modalities if modality in node.sees]
    model, saw = _network(node, name, sees, setting, packages)
    edges = {key: _edge(edge, setting, packages, node) for key, edge in edges_into(study, name).items()}
    module = Distiller(
        model.train(),
        edges=edges,
        sees=sees,
        rows=node.rows,
        drop=node.drop,
        supervised=node.supervised,
        task=make_task(setting.source.task, setting.source.classes, study.class_weight),
        optimizer=node.optimizer,
        schedule=node.schedule,
        select=node.select,
        seed=derive(setting.seed, "noise", name),
        learning_rates=node.learning_rates,
        augment=build_augmentations(node.augment, {m: setting.source.modality[m] for m in sees}),
    )
    return module, saw


def _network(
    node: Node, name: str, sees: list[str], setting: Setting, packages: Mapping[str, Path]
) -> tuple[Network, dict[str, list[int]]]:
    """Return a node's network before its first step, and the rows that it and what belongs to it see."""
    # One that is never trained sees no row of ours; which ones its weights were trained on, only their owner knows.
    ids = training_rows(node, setting) if node.steps else torch.empty(0, dtype=torch.int64)
    saw = {"rows": ids.tolist(), "selection": setting.split.validation.tolist()} if node.steps else {}
    saw |= {f"processor {m}": rows.tolist() for m, rows in setting.learnt_from.items() if m in sees}
    if isinstance(node.init, str):
        return load_package(packages[node.init], imports=True), saw
    drawn = derive(setting.seed, "node", name)
    model, used = build_network(setting.source, sees, ids, setting.available, node.model, drawn)
    if node.init is not None:
        origins = {origin: load_package(packages[origin], imports=True) for origin in sorted(node.origins)}
        start_from(model, {modality: origins[origin] for modality, origin in node.init.items()})
        # The scaler of a copied encoder is its origin's, whose record says what it saw.
        used = {modality: rows for modality, rows in used.items() if modality not in node.init}
    return model, saw | {f"scaler {modality}": rows.tolist() for modality, rows in used.items()}


def _edge(edge: EdgeConfig, setting: Setting, packages: Mapping[str, Path], student: Node) -> Edge:
    objective = OBJECTIVES.build(edge.loss)
    if edge.view == "full":
        return Edge(None, objective, edge.weight, when=edge.when, view="full")
    teacher: Any = Frozen(load_package(packages[edge.teacher], imports=True))
    changed = set(student.augment) & set(student.sees) & set(teacher.sees)
    if not changed if edge.cache is None else edge.cache:
        teacher = teacher_outputs(teacher, setting)
    return Edge(teacher, objective, edge.weight, when=edge.when)


@dataclass
class Made:
    """What a training, or a look at given weights, found.

    Attributes:
        score: on validation rows, of the weights kept.
        round: after which they were kept.
        steps: optimiser steps taken.
        curves: a row per round and quantity.
    """

    score: float
    round: int
    steps: int
    curves: list[dict[str, Any]]


def fit(
    module: Distiller,
    node: Node,
    setting: Setting,
    partial: Path,
    tick: Callable[[int, int], None],
    trainer: Mapping[str, Any],
    run: str,
) -> Made:
    """Train a built node from the last checkpoint in `partial`, if any, and load its best weights back.

    Args:
        module: built.
        node: its steps, batches and selection.
        setting: its data.
        partial: folder of the checkpoint.
        tick: hears of the steps done, and of how many there are.
        trainer: `trainer:` of the study.
        run: what loggers call it.
    """
    accumulated = int(trainer.get("accumulate_grad_batches", 1))
    order = StepBatches(
        training_rows(node, setting),
        batch_size=node.batch_size,
        steps=node.validate_every * accumulated,
        seed=derive(module.seed, "order"),
    )
    train = batches(setting.source, setting.available, order)
    best, curves, resume = KeepBest(node.select), Curves(), Resume(partial)
    loggers = make_loggers(trainer, run)
    ours = [best, curves, Progress(tick), resume]
    lightning = make_trainer(trainer, callbacks=ours, loggers=loggers, epochs=node.steps // node.validate_every)
    try:
        with quiet(), skipping_absent(module.model):
            lightning.fit(module, train, validation(setting), ckpt_path=resume.checkpoint(), weights_only=True)
    except MisconfigurationException as error:
        raise ConfigError(f"trainer: {in_words(error)}") from None
    finally:
        close_loggers(loggers)
    return Made(best.score, best.round, lightning.global_step, curves.rows)


def look(module: Distiller, setting: Setting, trainer: Mapping[str, Any]) -> Made:
    """Score given weights on the validation rows; nothing is trained."""
    with quiet():
        (found,) = make_trainer(trainer).validate(module, validation(setting), verbose=False)
    rows = [{"epoch": 0, "quantity": quantity, "value": value} for quantity, value in found.items()]
    return Made(found[SCORE], 0, 0, rows)


@contextmanager
def skipping_absent(model: nn.Module) -> Iterator[None]:
    """Compute no encoder on rows that lack its modality; for one process, and only while it trains."""
    before = getattr(model, "skip_absent", None)
    if before is not None:
        model.skip_absent = True  # type: ignore[assignment]
    try:
        yield
    finally:
        if before is not None:
            model.skip_absent = before


def finetune(study: Study, name: str, setting: Setting, packages: Mapping[str, Path], model: Network) -> Network:
    """Train a changed copy of a node's network on with the node's own graph as its loss; its scalers stay.

    Args:
        study: the config.
        name: node whose edges, rows, drop, selection and steps are used.
        setting: data of this replicate.
        packages: node -> package folder of its teachers.
        model: the network to train, e.g. a pruned one.
    """
    module, _ = build(study, name, setting, packages)
    module.model = model.train()
    with tempfile.TemporaryDirectory() as partial:
        run = f"{name} seed {setting.seed} tuned"
        fit(module, study.nodes[name], setting, Path(partial), lambda *_: None, study.trainer, run)
    return model.eval()
