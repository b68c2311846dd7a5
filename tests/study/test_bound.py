"""Trained methods under test masks stay under the Bayes rule that knows the mask process; what cheats does not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from kd.baselines.logistic import Logistic
from kd.compress.package import Package
from kd.data import load_source
from kd.data.bayes import bayes_rule, rule_without_mask
from kd.data.masks import draw
from kd.data.source import Source
from kd.data.splits import Split, split
from kd.data.synthetic import bayes_posterior
from kd.distill.fit import Setting, train_graph
from kd.distill.trained import package_folder
from kd.evaluate.bound import against_bayes
from kd.evaluate.fusion import Product
from kd.evaluate.predictions import Logits, all_subsets, under
from kd.parsing import parse
from kd.record import load_record
from kd.study import run
from kd.study.answers import FLOAT, Answers, answers_of
from kd.study.bound import bound, sentence

DATA = {"name": "synthetic", "modalities": 2, "rows": 6000, "classes": 3, "width": 4, "separation": 1.5}
NODE = {"steps": 80, "validate_every": 40, "batch_size": 128, "model": {"width": 16, "encoder": {"name": "mlp"}}}
LABEL = {"name": "mnar", "given": "label", "rate": 0.5, "strength": 2.0}
MASKS: list[dict[str, Any]] = [
    {"name": "mcar", "rate": 0.5, "allow_empty": True},
    {"name": "mar", "driver": "m0", "rate": 0.5},
    LABEL,
    {"name": "mnar", "given": "value", "rate": 0.5, "strength": 2.0},
]
SOURCE: Source = load_source(**DATA)
SPLIT: Split = split(SOURCE, test=0.6)
TRUTH = SOURCE.label[SPLIT.test]


def right(logits: Tensor) -> Tensor:
    return logits.argmax(dim=1) == TRUTH


def networks(part: dict[str, Any]) -> dict[str, Logits]:
    """Train a masked student and a teacher per modality under a training mask; return their answers on test rows."""
    nodes = {"student": {"sees": ["m0", "m1"]}, "one": {"sees": ["m0"]}, "two": {"sees": ["m1"]}}
    study = parse({"data": DATA, "mask": part, "nodes": {name: {**own, **NODE} for name, own in nodes.items()}})
    setting = Setting.of(SOURCE, SPLIT, draw(SOURCE, SPLIT, part, 0), 0)
    packages = {name: Package.load(package_folder(made)) for name, made in train_graph(study, setting).items()}
    return {name: answers_of(package.predictor(), setting).test for name, package in packages.items()}


def methods(part: dict[str, Any], shown: Tensor) -> dict[str, Tensor]:
    """Return method -> logits on test rows under a test mask, all of them trained under the training mask."""
    answers, prior = networks(part), torch.zeros(3)
    members = [answers["one"], answers["two"]]
    product = {
        s: fused
        for s in all_subsets(SOURCE.modalities)
        if (fused := Product("multiclass").combine(members, s, prior)) is not None
    }
    available = draw(SOURCE, SPLIT, part, 0).available(SOURCE)
    # Without copies, whose random gaps would say that a gap tells nothing of the label.
    flags = Logistic(penalties=[1.0], copies=0).fit(
        SOURCE, SOURCE.modalities, SPLIT.train, available, SPLIT.validation, judged=[SOURCE.modalities]
    )
    return {
        "masked student": under(answers["student"], shown[SPLIT.test], SOURCE.modalities, prior=prior),
        "product of teachers": under(product, shown[SPLIT.test], SOURCE.modalities, prior=prior),
        "logistic with flags": flags.logits(SPLIT.test, shown),
    }


def against(rule: Tensor, answers: Mapping[str, Tensor]) -> pd.DataFrame:
    return against_bayes({name: (right(logits), right(rule)) for name, logits in answers.items()})


@pytest.mark.parametrize("part", MASKS, ids=str)
def test_no_trained_method_passes_the_rule_that_knows_the_mask_process(part) -> None:
    mask = draw(SOURCE, SPLIT, part, 0, hides="test")
    answers, rule = methods(part, mask.available(SOURCE)), bayes_rule(SOURCE, SPLIT, mask, SPLIT.test)
    found = against(rule, answers)
    assert not found["above"].any()
    # They have learnt something, so that being under the rule is no matter of course.
    assert all(float(right(logits).double().mean()) > 0.45 for logits in answers.values())
    if part is LABEL:
        # The test can fail: to the rule of somebody who reads no flags, reading them looks like a leak.
        blind = against(rule_without_mask(SOURCE, mask, SPLIT.test), answers)
        assert blind.loc["logistic with flags", "above"]


def test_a_method_that_knows_the_test_labels_is_named() -> None:
    mask = draw(SOURCE, SPLIT, LABEL, 0, hides="test")
    rule = bayes_rule(SOURCE, SPLIT, mask, SPLIT.test)
    found = against(rule, {"cheat": cheat(), "the rule itself": rule})
    assert found["above"].tolist() == [True, False]


def cheat() -> Tensor:
    """Return logits that are right on 95% of test rows."""
    random = torch.Generator().manual_seed(0)
    known = torch.rand(len(TRUTH), generator=random) < 0.95
    guess = torch.where(known, TRUTH, (TRUTH + 1) % 3)
    return torch.nn.functional.one_hot(guess, 3).float()


def test_a_node_that_leaks_on_one_subset_in_one_seed_is_named_with_the_subset() -> None:
    def rule(subset: str) -> Tensor:
        shown = {name: SOURCE.inputs[name][SPLIT.test] for name in subset.split("+")}
        return bayes_posterior(SOURCE, shown).log().float()

    every = all_subsets(SOURCE.modalities)
    honest = {subset: rule(subset) for subset in every}
    leaking = {**honest, "m1": cheat()}
    answers = {("net", FLOAT, seed): Answers({}, leaking if seed == 1 else honest) for seed in range(3)}
    rules = {("Bayes rule", FLOAT, seed): Answers({}, honest) for seed in range(3)}
    found = bound(answers, rules, dict.fromkeys(range(3), TRUTH), every)
    assert found.loc[found["above"], "subset"].tolist() == ["m1"]
    assert sentence(found).startswith("`net` (float, m1) passes the Bayes rule in 1 of 3 cells (Holm)")


def test_a_study_on_data_with_a_known_law_says_that_nobody_passes_the_rule(small_study) -> None:
    folder = run(small_study(seeds=1))
    found = pd.read_parquet(folder / load_record(folder).files["bound"])
    assert {"one", "two", "student", "product"} == set(found["node"])
    assert not found["above"].any()
    said = f"no method passes the Bayes rule (Holm over {len(found)} cells)"
    assert json.loads((folder / "provenance.json").read_text())["bayes_bound"] == said
    assert f"N{said[1:]}." in (folder / "report.md").read_text()
