"""Ensembles in a study: what their fit reads, and that reports tell it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from kd.config import Ensemble
from kd.data.source import Source
from kd.evaluate.predictions import Logits
from kd.record import load_record
from kd.study import faults, run
from kd.study.answers import Answers
from kd.study.ensembles import ensemble_answers, task_faults


def made_up(rows: int, modality: str, seed: int) -> Logits:
    return {modality: torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed))}


def fused(combine: str, setting) -> tuple[Answers, str]:
    sizes = len(setting.split.validation), len(setting.split.test)
    members = [Answers(*(made_up(n, m, seed) for n in sizes)) for seed, m in enumerate(("m0", "m1"))]
    return ensemble_answers(Ensemble(["one", "two"], combine), members, setting)


def relabelled(setting, rows):
    """Return the setting with the labels of some rows turned to the next class."""
    label = setting.source.label.clone()
    label[rows] = (label[rows] + 1) % 3
    return replace(setting, source=replace(setting.source, label=label))


@pytest.mark.parametrize("combine", ["weighted", "calibrated"])
def test_only_validation_labels_of_its_own_split_fit_it(small_study, setting_of, combine: str) -> None:
    setting = setting_of(small_study())
    found, told = fused(combine, setting)
    test, train = setting.split.test, setting.split.train
    other, told_again = fused(combine, relabelled(setting, torch.cat([test, train])))
    assert torch.equal(found.test["m0+m1"], other.test["m0+m1"])
    assert told == told_again
    assert told.endswith(f"by validation NLL, mean over subsets, {len(setting.split.validation)} labels")
    assert fused(combine, relabelled(setting, setting.split.validation[:20]))[1] != told


def test_the_prior_is_that_of_training_rows_whose_label_is_known(small_study, setting_of) -> None:
    setting = setting_of(small_study())
    found, told = fused("corrected", setting)
    assert told == ""
    unread = torch.cat([setting.split.test, setting.split.validation])
    assert torch.equal(found.test["m0+m1"], fused("corrected", relabelled(setting, unread))[0].test["m0+m1"])
    labelled = setting.source.labelled.clone()
    labelled[setting.split.train[:50]] = False
    hidden = replace(setting, source=replace(setting.source, labelled=labelled))
    before = fused("corrected", hidden)[0].test["m0+m1"]
    assert not torch.equal(found.test["m0+m1"], before)
    after = fused("corrected", relabelled(hidden, setting.split.train[:50]))[0].test["m0+m1"]
    assert torch.equal(before, after)


def test_a_report_tells_what_validation_labels_fitted(small_study) -> None:
    late = {"members": ["one", "two"], "combine": "weighted"}
    folder = run(small_study(seeds=1, split={"folds": 2}, ensembles={"late": late}, contrasts={}))
    told = json.loads((folder / load_record(folder).files["provenance"]).read_text())["selected_on"]
    own = [told[f"late seed 0 fold {fold}"] for fold in range(2)]
    assert all(text.startswith("weights 0.") for text in own)
    assert own[0] != own[1]


def test_an_unknown_combination_gets_the_nearest_name(small_study) -> None:
    study = small_study(ensembles={"late": {"members": ["one"], "combine": "prodct"}}, contrasts={})
    assert faults(study) == [
        "ensembles.late.combine: unknown combination 'prodct'; did you mean 'product'? "
        "Known: product, mean, weighted, corrected, calibrated"
    ]


def test_a_combination_for_another_task_is_told(small_study) -> None:
    late = {"members": ["one", "two"], "combine": "corrected"}
    study = small_study(ensembles={"late": late, "mean": {**late, "combine": "mean"}}, contrasts={})
    amounts = Source("amounts", {"m0": torch.randn(9, 2), "m1": torch.randn(9, 2)}, torch.randn(9, 1), 1, "regression")
    (fault,) = task_faults(study, amounts)
    assert fault.startswith("ensembles.late.combine: corrected: fuses multiclass and multilabel answers")
