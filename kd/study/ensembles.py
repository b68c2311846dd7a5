"""Late fusion of what a replicate's nodes and baselines answered."""

from __future__ import annotations

from collections.abc import Sequence

from kd.config import Ensemble, Study
from kd.data.source import Source
from kd.distill.setting import Setting
from kd.errors import ConfigError
from kd.evaluate import COMBINATIONS
from kd.evaluate.fusion import Combination
from kd.evaluate.predictions import Logits, all_subsets
from kd.registry import suggest
from kd.study.answers import Answers
from kd.tasks import make_task


def ensemble_answers(ensemble: Ensemble, members: Sequence[Answers], setting: Setting) -> tuple[Answers, str]:
    """Return what an ensemble answers on every subset, and what validation labels fitted of it, in words.

    Both the fit and the prior belong to this replicate's split: with folds, a row that chooses in one tests in another.

    Args:
        ensemble: the config.
        members: their answers, in its order.
        setting: one replicate's data.
    """
    source, split = setting.source, setting.split
    every, validation = all_subsets(source.modalities), [each.validation for each in members]
    combination: Combination = COMBINATIONS.build({"name": ensemble.combine}, source.task)
    fitted = combination.fit(validation, source.label[split.validation], every)
    known = split.train[source.labelled[split.train]]
    prior = make_task(source.task, source.classes).prior(source.label[known])

    def fused(logits: Sequence[Logits]) -> Logits:
        found = {subset: fitted.combine(logits, subset, prior) for subset in every}
        return {subset: value for subset, value in found.items() if value is not None}

    selected = f"{fitted.selected}, {len(split.validation)} labels" if fitted.selected else ""
    return Answers(fused(validation), fused([each.test for each in members])), selected


def name_faults(study: Study) -> list[str]:
    """Return a sentence for every ensemble whose combination is unknown."""
    return [
        f"ensembles.{name}.combine: unknown combination {each.combine!r}; {suggest(each.combine, COMBINATIONS)}"
        for name, each in study.ensembles.items()
        if each.combine not in COMBINATIONS
    ]


def task_faults(study: Study, source: Source) -> list[str]:
    """Return a sentence for every ensemble whose combination is not defined for the task."""
    found = []
    for name, each in study.ensembles.items():
        try:
            COMBINATIONS.build({"name": each.combine}, source.task)
        except ConfigError as error:
            found += [f"ensembles.{name}.combine: {fault}" for fault in error.faults]
    return found
