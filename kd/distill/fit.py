"""The executor: train a study's nodes in dependency order, reuse what is done, resume what was killed."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from kd.config import Edge as EdgeConfig
from kd.config import Node, Study
from kd.data.module import batches
from kd.data.stream import StepBatches, step_batches
from kd.distill.address import node_address, parents_of
from kd.distill.augment import build_augmentations
from kd.distill.callbacks import Curves, KeepBest, Progress, Resume
from kd.distill.form import is_cached
from kd.distill.graph import edges_into, order
from kd.distill.loggers import close_loggers, make_loggers
from kd.distill.loss import Edge, reads
from kd.distill.module import SCORE, Distiller
from kd.distill.outputs import teacher_outputs
from kd.distill.setting import Setting as Setting
from kd.distill.setting import training_rows as training_rows
from kd.distill.setting import validation
from kd.distill.shown import AuditRows
from kd.distill.teachers import Frozen, state_digest
from kd.distill.trained import Made, package_folder, write_trained
from kd.distill.trainer import make_trainer, quiet
from kd.errors import ConfigError
from kd.importing import in_words
from kd.models.network import Network
from kd.models.package import load_package
from kd.models.start import start_from
from kd.networks import build_network
from kd.objectives import OBJECTIVES, TEACHER_WEIGHTS
from kd.objectives.base import Objective
from kd.objectives.teacher_weights import TeacherWeights
from kd.record import RunRecord, digest, finished, load_record, run_folder
from kd.seeding import derive
from kd.tasks import make_task

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
    parents = parents_of(study, name, {node: record.id for node, record in trained.items()})
    address = node_address(study, name, setting.fingerprints, parents)
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
    record = write_trained(study, name, setting, address, parents, made, module, saw, time.perf_counter() - started)
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


def build(
    study: Study, name: str, setting: Setting, packages: Mapping[str, Path], network: Network | None = None
) -> tuple[Distiller, dict[str, list[int]]]:
    """Build a node ready to train, and say which rows its scalers and processors have seen.

    Args:
        study: the config.
        name: node.
        setting: data of this replicate.
        packages: node -> folder of the package of every node trained before.
        network: to train on, such as a pruned one, in the place of a new one.
    """
    node = study.nodes[name]
    sees = [modality for modality in setting.source.modalities if modality in node.sees]
    taught = edges_into(study, name)
    # One that is never trained sees no row of ours; which ones its weights were trained on, only their owner knows.
    ids = training_rows(node, setting, taught) if node.steps else torch.empty(0, dtype=torch.int64)
    model, saw = (network, {}) if network is not None else _network(node, name, sees, ids, setting, packages)
    edges = {key: _edge(study, edge, node.taught * edge.weight, setting, packages) for key, edge in taught.items()}
    module = Distiller(
        model.train(),
        edges=edges,
        sees=sees,
        rows=node.rows,
        drop=node.drop,
        drop_warmup=node.drop_warmup,
        recombine=node.recombine,
        supervised=node.supervised,
        task=make_task(setting.source.task, setting.source.classes, study.class_weight),
        optimizer=node.optimizer,
        schedule=node.schedule,
        select=node.select,
        seed=derive(setting.seed, "noise", name),
        learning_rates=node.learning_rates,
        augment=build_augmentations(node.augment, {m: setting.source.modality[m] for m in sees}),
        combine=_weights(node, taught, packages),
    )
    return module, saw


def _weights(node: Node, taught: Mapping[str, EdgeConfig], packages: Mapping[str, Path]) -> TeacherWeights | None:
    """Return how a node weighs its teachers; the best of them is told by the validation scores of their runs."""
    if node.combine is None:
        return None
    part = dict(node.combine)
    if part["name"] == "best":
        runs = {name: packages[edge.teacher].parent for name, edge in taught.items() if edge.view == "own"}
        part = {"scores": {name: load_record(run).metrics["validation_score"] for name, run in runs.items()}} | part
    found: TeacherWeights = TEACHER_WEIGHTS.build(part, sorted(taught))
    return found


def _network(
    node: Node, name: str, sees: list[str], ids: Tensor, setting: Setting, packages: Mapping[str, Path]
) -> tuple[Network, dict[str, list[int]]]:
    """Return a node's network before its first step, and the rows that what belongs to it has seen."""
    saw = {f"processor {m}": rows.tolist() for m, rows in setting.learnt_from.items() if m in sees}
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


def _edge(study: Study, edge: EdgeConfig, weight: float, setting: Setting, packages: Mapping[str, Path]) -> Edge:
    objective: Objective = OBJECTIVES.build(edge.loss)
    objective.remember(len(setting.source))
    if edge.view != "own":
        return Edge(None, objective, weight, when=edge.when, view=edge.view, decay=edge.decay)
    teacher: Any = Frozen(load_package(packages[edge.teacher], imports=True), reads=reads(objective, "teacher"))
    if is_cached(study, edge):
        teacher = teacher_outputs(teacher, setting)
    return Edge(teacher, objective, weight, when=edge.when)


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
    order = stream(module, node, setting, int(trainer.get("accumulate_grad_batches", 1)))
    train = batches(setting.source, setting.available, order)
    best, curves, shown, resume = KeepBest(node.select, node.patience), Curves(), AuditRows(), Resume(partial)
    loggers = make_loggers(trainer, run)
    ours = [best, curves, shown, Progress(tick), resume]
    lightning = make_trainer(trainer, callbacks=ours, loggers=loggers, epochs=node.steps // node.validate_every)
    try:
        with quiet(), skipping_absent(module.model):
            lightning.fit(module, train, validation(setting), ckpt_path=resume.checkpoint(), weights_only=True)
    except MisconfigurationException as error:
        raise ConfigError(f"trainer: {in_words(error)}") from None
    finally:
        close_loggers(loggers)
    saw = {"rows": shown.fitted.tolist(), "selection": shown.chosen.tolist()}
    return Made(best.score, best.round, lightning.global_step, curves.rows, saw)


def stream(module: Distiller, node: Node, setting: Setting, accumulated: int = 1) -> StepBatches:
    """Return the rows of a node's batches, a round between two looks at the validation rows.

    Args:
        module: whose seed decides the order.
        node: its rows, batches and looks.
        setting: its data.
        accumulated: batches per optimiser step.
    """
    rows, seed = training_rows(node, setting, module.edges), derive(module.seed, "order")
    labelled, steps = setting.source.labelled[rows], node.validate_every * accumulated
    return step_batches(rows, labelled, node.labelled_share, batch_size=node.batch_size, steps=steps, seed=seed)


def look(module: Distiller, setting: Setting, trainer: Mapping[str, Any]) -> Made:
    """Score given weights on the validation rows; nothing is trained and nothing chosen."""
    with quiet():
        (found,) = make_trainer(trainer).validate(module, validation(setting), verbose=False)
    rows = [{"epoch": 0, "quantity": quantity, "value": value} for quantity, value in found.items()]
    return Made(found[SCORE], 0, 0, rows, shown={})


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


def finetune(
    study: Study, name: str, setting: Setting, packages: Mapping[str, Path], model: Network, **changed: Any
) -> tuple[Network, dict[str, list[int]]]:
    """Train a changed copy of a node's network on with the node's own graph as its loss; its scalers stay.

    Returns:
        the network, and the rows that it was shown, as in `Made`.

    Args:
        study: the config.
        name: node whose edges, rows, drop, selection and steps are used.
        setting: data of this replicate.
        packages: node -> package folder of its teachers.
        model: the network to train, e.g. a pruned one.
        changed: fields of the node that are otherwise this time, such as `steps`.
    """
    study = replace(study, nodes={**study.nodes, name: replace(study.nodes[name], **changed)})
    module, _ = build(study, name, setting, packages, model)
    with tempfile.TemporaryDirectory() as partial:
        run = f"{name} seed {setting.seed} tuned"
        made = fit(module, study.nodes[name], setting, Path(partial), lambda *_: None, study.trainer, run)
    return model.eval(), made.shown


def losses(study: Study, name: str, setting: Setting, packages: Mapping[str, Path], model: Network) -> Iterator[Tensor]:
    """Give a network's loss in its node's own graph, batch by batch, once over its training rows; nothing is trained.

    Args:
        study: the config.
        name: node whose edges, rows and drop are used.
        setting: data of this replicate.
        packages: node -> package folder of its teachers.
        model: the network, without dropout of its own while this runs.
    """
    module, _ = build(study, name, setting, packages, model)
    module.model.eval()
    rows = training_rows(study.nodes[name], setting, module.edges)
    for number, chosen in enumerate(rows.split(study.nodes[name].batch_size)):
        yield module.training_step(setting.rows(chosen, setting.available), number)
