"""Everything wrong with a study that can be told before anything is trained, all at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from kd.baselines import BASELINES
from kd.compress import PASSES
from kd.compress.pipeline import faults as pass_faults
from kd.compress.pipeline import routes
from kd.compress.training import SETTINGS, Training
from kd.config import Part, Study
from kd.data import load_source
from kd.data.masks import draw
from kd.data.source import Source
from kd.data.splits import Split
from kd.distill import OPTIMIZERS
from kd.distill.graph import changed_faults, data_faults, part_faults
from kd.distill.setting import Setting
from kd.distill.trial import try_edge, try_node
from kd.errors import ConfigError, DataError, KDError
from kd.evaluate.predictions import all_subsets
from kd.registry import suggest
from kd.study.contrasts import faults_of_groups, faults_of_test
from kd.study.ensembles import name_faults, task_faults
from kd.study.leaks import data_faults as leaks
from kd.study.replicate import mask_seed, setting_for, split_for
from kd.tasks import make_task

OF_MANY = re.compile(r"(?P<kind>nodes|edges|baselines)\.[^.:]+(?P<what>[.:].*)")
"""A fault of one node among others, up to its name and from there on."""


def load(study: Study) -> Source:
    """Load the study's data."""
    source: Source = load_source(**study.data)
    return source


def examined(study: Study) -> Source:
    """Load the study's data.

    Raises:
        ConfigError: with every fault.
    """
    try:
        return load(study)
    except (ConfigError, DataError) as error:
        raise ConfigError(error.faults) from None


def checked(study: Study, file: str = "", source_of: Callable[[Study], Source] = examined) -> Source:
    """Return the data of a study without faults.

    Args:
        study: the config.
        file: named in errors.
        source_of: gives its data, examined.

    Raises:
        ConfigError: every fault, those that need the data included.
    """
    found = part_faults(study) + name_faults(study) + faults_of_test(study) + _compress_faults(study)
    if found:
        raise ConfigError(told_once(found), file)
    try:
        source = source_of(study)
    except ConfigError as error:
        raise ConfigError(error.faults, file) from None
    found = data_faults(study, source.modalities) + task_faults(study, source) or trial_faults(study, source)
    if found:
        raise ConfigError(told_once(found), file)
    return source


def told_once(found: Sequence[str]) -> list[str]:
    """Return faults in their order, with one that several nodes share, as they do what `defaults` says, told once."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for fault in found:
        of_many = OF_MANY.fullmatch(fault)
        alike.setdefault((of_many["kind"], of_many["what"]) if of_many else (fault,), []).append(fault)
    return [
        first + (f" (the same in other {kind[0]}: {len(more)})" if more else "")
        for kind, (first, *more) in alike.items()
    ]


def faults(study: Study, source_of: Callable[[Study], Source] = examined) -> list[str]:
    """Return every fault of a study, as `checked` finds them."""
    try:
        checked(study, source_of=source_of)
    except ConfigError as error:
        return error.faults
    return []


def trial_faults(study: Study, source: Source) -> list[str]:
    """Return what only building tells: ranges inside parts, a split or a mask that these data cannot give, leaks."""
    found: list[str] = []

    def attempt(where: str, build: Callable[[], object]) -> None:
        try:
            build()
        except ConfigError as error:
            found.extend(f"{where}.{fault}" if where else fault for fault in error.faults)
        except KDError as error:
            found.append(f"{where}: {error}" if where else str(error))

    attempt("", lambda: make_task(source.task, source.classes, study.class_weight))
    settings = _drawn(study, source, found, attempt)
    if found:
        return found
    for name, part in study.test_masks.items():
        attempt(f"test_masks.{name}", partial(_hide_at_test, study, source, settings[0].split, part))
    if study.test_masks and len(all_subsets(source.modalities)) < 2 ** len(source.modalities) - 1:
        found.append("test_masks: of more than 8 modalities a sample of subsets is predicted; name fewer under data")
    found += faults_of_groups(study, source.group[settings[0].split.test])
    _try_parts(study, settings[0].source, attempt)
    return found


def _compress_faults(study: Study) -> list[str]:
    """Return the faults of passes, and of training settings that the student cannot have."""
    if study.compress is None:
        return []
    found = [f"compress.{fault}" for fault in pass_faults(study.compress.passes)]
    if found or study.compress.student not in study.nodes:
        return found
    for stage, (_, part) in routes(study.compress.passes).items():
        factory: Any = PASSES[part["name"]].load()
        if issubclass(factory, Training):
            found += _training_faults(study, study.compress.student, part, f"compress.passes.{stage}")
    return found


def _training_faults(study: Study, student: str, part: Part, where: str) -> list[str]:
    """Return the faults of a pass that trains: settings, or a node to learn like, that the student cannot have."""
    changed = {name: part[name] for name in SETTINGS if part.get(name) is not None}
    like = changed.pop("like", student)
    if like not in study.nodes:
        return [f"{where}.like: unknown node {like!r}; {suggest(str(like), study.nodes)}"]
    if set(study.nodes[like].sees) != set(study.nodes[student].sees):
        return [f"{where}.like: {like} sees other modalities than {student}; name a node that sees the same"]
    if changed.get("steps", study.nodes[like].steps) == 0:
        return [f"{where}.steps: {like} is used as it was given, with 0 steps; say how many this pass trains for"]
    return changed_faults(study, like, changed, where)


def _try_parts(study: Study, source: Source, attempt: Callable[[str, Callable[[], object]], None]) -> None:
    """Build every part that a study names, on a source that is prepared."""
    for name, node in study.nodes.items():
        attempt(f"nodes.{name}", partial(try_node, study, name, source))
        attempt(f"nodes.{name}.optimizer", partial(_try_optimizer, node.optimizer))
    for name, baseline in study.baselines.items():
        attempt(f"baselines.{name}.model", partial(BASELINES.build, baseline.model))
    for name in study.edges:
        attempt(f"edges.{name}.loss", partial(try_edge, study, name, source))
    for stage, (_, part) in routes(study.compress.passes if study.compress else {}).items():
        attempt(f"compress.passes.{stage}", partial(PASSES.build, part))
        if part.get("optimizer") is not None:
            attempt(f"compress.passes.{stage}.optimizer", partial(_try_optimizer, part["optimizer"]))


def _try_optimizer(part: Part) -> None:
    OPTIMIZERS.build(part, [torch.nn.Parameter(torch.zeros(1))])


def _drawn(
    study: Study, source: Source, found: list[str], attempt: Callable[[str, Callable[[], object]], None]
) -> list[Setting]:
    """Draw splits and the first mask, look for leaks in them, and return the setting where all of it can be drawn."""
    splits: list[Split] = []
    for fold in range(study.split.folds or 1):
        attempt("split", partial(lambda fold: splits.append(split_for(study, source, fold)), fold))
    if found:
        return []
    settings: list[Setting] = []
    attempt("mask", lambda: settings.append(setting_for(study, source, study.first_seed)))
    found.extend(leaks(study, source, splits, settings[0].mask if settings else None))
    return settings


def _hide_at_test(study: Study, source: Source, split: Split, part: Part) -> None:
    draw(source, split, part, mask_seed(study, study.first_seed), hides="test").available(source)
