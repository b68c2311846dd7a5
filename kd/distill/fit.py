"""The executor: train a study's nodes in dependency order, reuse what is done, resume what was killed."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from kd.config import Edge as EdgeConfig
from kd.config import Node, Study
from kd.data.module import InMemoryRows, loader
from kd.data.stream import StepBatches
from kd.distill.callbacks import Curves, KeepBest, Progress, Resume
from kd.distill.graph import edges_into, order
from kd.distill.loss import Edge
from kd.distill.module import Distiller
from kd.distill.teachers import Frozen, cache, state_digest
from kd.distill.view import eligible
from kd.errors import MaskError
from kd.models.classifier import Classifier
from kd.models.package import load_package, save_package
from kd.objectives import OBJECTIVES
from kd.record import (
    RunRecord,
    code_address,
    digest,
    finished,
    load_record,
    run_folder,
    runs_root,
    save_record,
    staged_folder,
)
from kd.seeding import derive, initialise
from kd.tasks import Task, make_task
from kd.types import Batch

if TYPE_CHECKING:
    from kd.data.masks import Mask
    from kd.data.source import Source
    from kd.data.splits import Split

VALIDATION_ROWS = 1024
"""Rows per validation batch; nothing depends on it."""

Tick = Callable[[str, int, int], None]
"""Called with (node, steps done, steps in all)."""


@dataclass
class Setting:
    """One replicate's data: the same for every node trained in it."""

    source: Source
    split: Split
    mask: Mask
    seed: int

    @property
    def available(self) -> Tensor:
        """bool [N, M]: what nature left and the mask keeps."""
        return self.mask.available(self.source)

    def rows(self, ids: Tensor, available: Tensor) -> Batch:
        """Return rows as one batch under an availability given for all N rows."""
        return self.source.batch(ids, available[ids])


def node_address(study: Study, name: str, setting: Setting, parents: Mapping[str, str]) -> dict[str, Any]:
    """Return everything that decides a node's weights; its hash is the run's id.

    Modalities are taken in the source's order, so the order in the YAML decides nothing.
    """
    node = asdict(study.nodes[name])
    node["sees"] = sorted(node["sees"])
    # The names stay in: they seed the initial weights and order the terms of the loss.
    edges = {
        key: asdict(edge) | {"teacher": parents.get(edge.teacher, "self"), "student": "self"}
        for key, edge in edges_into(study, name).items()
    }
    if node["init"]:
        node["init"] = parents[node["init"]]
    rooms = ["models", "distill", "tasks", "types", "seeding", "data/stream"] + (["objectives"] if edges else [])
    return {
        "node": node,
        "edges": edges,
        "class_weight": study.class_weight,
        "threads": study.threads,
        "seed": setting.seed,
        "name": name,
        "data": setting.source.fingerprint,
        "split": setting.split.fingerprint,
        "mask": setting.mask.fingerprint,
        "code": code_address(*rooms),
        "torch": ".".join(torch.__version__.split(".")[:2]),
    }


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
    frozen = {
        key: state_digest(e.teacher.model.state_dict())
        for key, e in module.edges.items()
        if isinstance(e.teacher, Frozen)
    }
    best, curves = fit(module, study.nodes[name], setting, partial, lambda step, steps: tick(name, step, steps))
    for key, before in frozen.items():
        if state_digest(module.edges[key].teacher.model.state_dict()) != before:  # type: ignore[union-attr]
            raise AssertionError(f"edge {key}: the frozen teacher changed during training")
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
        metrics={"validation_score": best.score, "best_round": best.round, "steps": study.nodes[name].steps},
        files={
            "weights": "package/weights.safetensors",
            "card": "package/card.json",
            "curves": "curves.parquet",
            "saw": "saw.json",
        },
        selected_on=selection(study.nodes[name], module.task, len(setting.split.validation)),
        saw={key: digest(sorted(ids)) for key, ids in saw.items()},
    )
    with staged_folder(folder) as stage:
        save_package(module.model, stage / "package", {"stage": "float", "run": run_id, "parents": parents})  # type: ignore[arg-type]
        pd.DataFrame(curves).to_parquet(stage / "curves.parquet")
        (stage / "saw.json").write_text(json.dumps(saw))
        save_record(record, stage)
    shutil.rmtree(partial, ignore_errors=True)
    return record


def package_folder(record: RunRecord) -> Path:
    """Return the folder of a trained node's package."""
    return run_folder("train", record.id) / "package"


def rows_seen(record: RunRecord) -> dict[str, list[int]]:
    """Return the row ids behind every object this run fitted."""
    load_record(run_folder("train", record.id))
    found: dict[str, list[int]] = json.loads((run_folder("train", record.id) / "saw.json").read_text())
    return found


def selection(node: Node, task: Task, labels: int) -> str:
    """Say in words what chose a node's weights."""
    if node.select == "last":
        return f"nothing: the weights after the last of {node.steps} steps"
    patterns = "complete rows" if node.select == "complete" else "mean over all subsets"
    return f"validation {task.primary}, {patterns}, {labels} labels"


def _parents(study: Study, name: str, trained: Mapping[str, RunRecord]) -> dict[str, str]:
    names = {edge.teacher for edge in edges_into(study, name).values() if edge.teacher != name}
    if study.nodes[name].init:
        names.add(str(study.nodes[name].init))
    return {parent: trained[parent].id for parent in sorted(names)}


def training_rows(node: Node, setting: Setting) -> Tensor:
    """Return ids of the training rows a node learns from.

    Raises:
        MaskError: there is none.
    """
    own = [setting.source.modalities.index(modality) for modality in node.sees]
    ids = setting.split.train
    chosen = ids[eligible(setting.available[ids], node.rows, own)]
    if len(chosen) == 0:
        raise MaskError(
            f"mask: no training row is left for a node that sees {', '.join(node.sees)} on rows={node.rows}; "
            "lower the missing rate or keep more complete rows"
        )
    return chosen


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
    ids = training_rows(node, setting)
    saw = {"rows": ids.tolist(), "selection": setting.split.validation.tolist()}
    if node.init is not None:
        model = load_package(packages[node.init])
    else:
        shapes = {modality: setting.source.shapes[modality] for modality in sees}
        model = Classifier(shapes, setting.source.classes, task=setting.source.task, **node.model)
        initialise(model, derive(setting.seed, "node", name))
        rows = setting.rows(ids, setting.available).select(sees)
        used = model.fit_scalers(rows.inputs, rows.present)
        saw |= {f"scaler {modality}": ids[positions].tolist() for modality, positions in used.items()}
    edges = {key: _edge(edge, setting, packages, node.steps) for key, edge in edges_into(study, name).items()}
    module = Distiller(
        model,
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
    )
    return module, saw


def _edge(edge: EdgeConfig, setting: Setting, packages: Mapping[str, Path], steps: int) -> Edge:
    objective = OBJECTIVES.build(edge.loss)
    if edge.view == "full":
        return Edge(None, objective, edge.weight, when=edge.when, view="full")
    teacher: Any = Frozen(load_package(packages[edge.teacher]))
    if edge.cache:
        everything = torch.arange(len(setting.source))
        teacher = cache(teacher, setting.rows(everything, setting.available))
    return Edge(teacher, objective, edge.weight, when=edge.when)


def fit(
    module: Distiller, node: Node, setting: Setting, partial: Path, tick: Callable[[int, int], None]
) -> tuple[KeepBest, list[dict[str, Any]]]:
    """Train a built node from the last checkpoint in `partial`, if any, and load its best weights back."""
    ids = training_rows(node, setting)
    order_seed = derive(module.seed, "order")
    batches = StepBatches(ids, batch_size=node.batch_size, steps=node.validate_every, seed=order_seed)
    train = DataLoader(InMemoryRows(setting.source, setting.available), sampler=batches, batch_size=None)
    observed = setting.source.observed
    validation = loader(setting.source, observed, setting.split.validation, batch_size=VALIDATION_ROWS)
    best, curves, resume = KeepBest(node.select), Curves(), Resume(partial)
    with quiet():
        trainer = pl.Trainer(
            max_epochs=node.steps // node.validate_every,
            accelerator="cpu",
            devices=1,
            callbacks=[best, curves, Progress(tick), resume],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            default_root_dir=str(runs_root()),
        )
        trainer.fit(module, train, validation, ckpt_path=resume.checkpoint(), weights_only=True)
    return best, curves.rows


class quiet(warnings.catch_warnings):
    """Silence Lightning's advice on settings that were chosen on purpose."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        warnings.filterwarnings("ignore", category=UserWarning, module="torch")
        for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.ERROR)


def finetune(study: Study, name: str, setting: Setting, packages: Mapping[str, Path], model: Classifier) -> Classifier:
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
        fit(module, study.nodes[name], setting, Path(partial), lambda *_: None)
    return model.eval()
