"""One replicate of a study: its nodes trained, what they answer on every subset, the student compressed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch
from safetensors.torch import load_file

from kd.config import Baseline, Compression, Node, Study
from kd.data.mask import Mask
from kd.data.masks import draw
from kd.data.source import Source
from kd.data.splits import Split
from kd.data.splits import split as split_rows
from kd.distill.fit import Setting, train_graph, training_rows
from kd.evaluate.patterns import training_patterns
from kd.evaluate.predictions import SEPARATOR
from kd.record import RunRecord, run_folder
from kd.study.answers import FLOAT, Answers, baseline_answers, node_answers, unflat
from kd.study.compress import compress_student
from kd.study.ensembles import ensemble_answers
from kd.study.teaching import teaching_rows


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
class Replicate:
    """What one seed gave, on one fold where the study has folds.

    Attributes:
        seed: of mask, initialisation, order and noise.
        fold: which rows test; 0 where there are no folds.
        split: of the rows.
        mask: fingerprint.
        trained: node -> record.
        baselines: baseline -> record.
        fused: ensemble -> what validation labels fitted of it, in words; only where they fitted something.
        answers: (node, stage) -> logits.
        stages: what each stage of compression costs.
        compressed: record of the compression.
        patterns: node or baseline -> pattern of modalities -> training rows that showed just it.
        teaching: what each edge's teacher knew, see `kd.study.teaching`.
    """

    seed: int
    fold: int
    split: Split
    mask: str
    trained: dict[str, RunRecord] = field(default_factory=dict)
    baselines: dict[str, RunRecord] = field(default_factory=dict)
    fused: dict[str, str] = field(default_factory=dict)
    answers: dict[tuple[str, str], Answers] = field(default_factory=dict)
    stages: list[dict[str, Any]] = field(default_factory=list)
    compressed: RunRecord | None = None
    patterns: dict[str, dict[str, int]] = field(default_factory=dict)
    teaching: list[dict[str, Any]] = field(default_factory=list)

    @property
    def fitted(self) -> dict[str, RunRecord]:
        """Everything that was fitted to rows."""
        compressed = {"compressed": self.compressed} if self.compressed else {}
        return {**self.trained, **self.baselines, **compressed}

    def called(self, study: Study) -> str:
        """Return what people call it."""
        return name_of(study, self.seed, self.fold)

    def parents(self, name: str) -> dict[str, str]:
        """Return role -> run for a study's record; `name` is the replicate's."""
        return {f"{node} {name}": record.id for node, record in self.fitted.items()}


def places(study: Study) -> list[tuple[int, int]]:
    """Return (seed, fold) of every replicate, in order."""
    seeds = range(study.first_seed, study.first_seed + study.seeds)
    return [(seed, fold) for seed in seeds for fold in range(study.split.folds or 1)]


def name_of(study: Study, seed: int, fold: int) -> str:
    """Return what people call a replicate."""
    return f"seed {seed}" if study.split.folds is None else f"seed {seed} fold {fold}"


def split_for(study: Study, source: Source, fold: int = 0) -> Split:
    """Return the split of one replicate."""
    return split_rows(source, **asdict(study.split), fold=fold)


def setting_for(study: Study, source: Source, seed: int, fold: int = 0) -> Setting:
    """Return the data side of one replicate: split, mask, and a source prepared on its training rows."""
    split = split_for(study, source, fold)
    return Setting.of(source, split, mask_for(study, source, split, seed), seed)


def mask_for(study: Study, source: Source, split: Split, seed: int) -> Mask:
    """Return the mask of one replicate."""
    return draw(source, split, study.mask, mask_seed(study, seed))


def mask_seed(study: Study, seed: int) -> int:
    """Return what a replicate's masks are drawn from: its own seed, unless the study names one for all."""
    return seed if study.mask_seed is None else study.mask_seed


def run_replicate(
    study: Study,
    source: Source,
    seed: int,
    fold: int,
    listener: Listener,
    trained: Mapping[str, RunRecord] | None = None,
) -> Replicate:
    """Train, evaluate and compress one replicate; whatever is done already is read from the store.

    Args:
        study: the config.
        source: its data.
        seed: of the replicate.
        fold: of the replicate.
        listener: hears of progress.
        trained: its nodes, where they were trained elsewhere; one that is not among them failed there.
    """
    # Two processes that each use every core for a few hundred rows take five times as long as with one core each.
    torch.set_num_threads(study.threads)
    setting = setting_for(study, source, seed, fold)
    name = name_of(study, seed, fold)
    found = Replicate(seed, fold, setting.split, setting.mask.fingerprint)
    if trained is None:
        listener.stage(f"{name}: training {len(study.nodes)} nodes")
        trained = train_graph(study, setting, listener.tick)
    found.trained = dict(trained)
    for node, record in found.trained.items():
        found.answers[node, FLOAT] = node_answers(record, setting, study.threads)
    for baseline in study.baselines:
        listener.tick(baseline, 0, 1)
        found.baselines[baseline], found.answers[baseline, FLOAT] = baseline_answers(study, baseline, setting)
        listener.tick(baseline, 1, 1)
    found.patterns = _patterns(study, setting, [node for node in found.trained if study.nodes[node].steps > 0])
    found.teaching = teaching_rows(study, setting, found.trained, found.answers)
    if study.compress is not None and study.compress.student in found.trained:
        listener.stage(f"{name}: compressing {study.compress.student}")
        found.compressed = compress_student(study, study.compress, setting, found.trained, listener.tick)
        _gather_stages(study.compress, found)
    _fuse(study, setting, found)
    return found


def _fuse(study: Study, setting: Setting, found: Replicate) -> None:
    for name, ensemble in study.ensembles.items():
        if any((member, FLOAT) not in found.answers for member in ensemble.members):
            continue  # the training of one failed
        members = [found.answers[member, FLOAT] for member in ensemble.members]
        found.answers[name, FLOAT], selected = ensemble_answers(ensemble, members, setting)
        if selected:
            found.fused[name] = selected


def _patterns(study: Study, setting: Setting, trained: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return which patterns the training rows of each node and baseline showed it."""
    found = {}
    fitted: dict[str, Node | Baseline] = {**{name: study.nodes[name] for name in trained}, **study.baselines}
    for name, node in fitted.items():
        sees = [modality for modality in setting.source.modalities if modality in node.sees]
        columns = [setting.source.modalities.index(modality) for modality in sees]
        found[name] = training_patterns(setting.available[training_rows(node, setting)][:, columns], sees)
        if isinstance(node, Node) and node.recombine:
            found[name].setdefault(SEPARATOR.join(sees), 0)  # made of several rows, though none of them may show it
    return found


def _gather_stages(compression: Compression, found: Replicate) -> None:
    assert found.compressed is not None
    for stage in compression.passes:
        folder = run_folder("stage", found.compressed.parents[stage])
        found.answers[compression.student, stage] = unflat(load_file(folder / "predictions.safetensors"))
    rows = json.loads((run_folder("compress", found.compressed.id) / "stages.json").read_text())
    found.stages = [{"node": compression.student, **row} for row in rows]
