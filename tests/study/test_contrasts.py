"""Declared comparisons of a study: how they are tested, what is refused before training, where masks come from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch

from kd.config import Study
from kd.data import load_source
from kd.data.source import Source
from kd.statistics.intervals import crossed_difference
from kd.statistics.significance import permutation, wilcoxon
from kd.study.answers import FLOAT, Answers
from kd.study.check import faults
from kd.study.contrasts import compare_all, contrasts
from kd.study.evidence import Rows
from kd.study.replicate import setting_for
from kd.tasks import make_task

SUBSET = "m0+m1"


@pytest.fixture
def source() -> Source:
    loaded: Source = load_source("synthetic", modalities=2, rows=400, classes=3, width=4)
    return loaded


def answered(source: Source, seeds: int, accuracy: dict[str, float]) -> tuple[dict, dict[int, Rows]]:
    """Return invented answers that are right with a node's probability, harder rows less often."""
    random, test = np.random.default_rng(0), torch.arange(100)
    hard = random.random(100)
    answers = {}
    for seed in range(seeds):
        for node, share in accuracy.items():
            right = torch.from_numpy(0.5 * random.random(100) + 0.5 * hard < share)
            said = torch.where(right, source.label[test], (source.label[test] + 1) % 3)
            logits = {SUBSET: torch.nn.functional.one_hot(said, 3).float()}
            answers[node, FLOAT, seed] = Answers(logits, logits)
    return answers, {seed: Rows(test, test, [100], 0.3) for seed in range(seeds)}


def table(study: Study, source: Source, seeds: int, **accuracy: float) -> pd.DataFrame:
    answers, rows = answered(source, seeds, accuracy)
    task = make_task("multiclass", 3)
    return contrasts(study, compare_all(study, answers, [SUBSET], source, rows, task), task)


def correct(source: Source, seeds: int, **accuracy: float) -> np.ndarray:
    """Return the differences [S, R] of the student to the product."""
    answers, _ = answered(source, seeds, accuracy)
    label = source.label[:100]
    right = {key: (found.test[SUBSET].argmax(-1) == label).double() for key, found in answers.items()}
    return torch.stack([right["student", FLOAT, s] - right["product", FLOAT, s] for s in range(seeds)]).numpy()


def test_with_20_seeds_a_contrast_has_the_p_of_its_interval(small_study, source) -> None:
    found = table(small_study(seeds=20), source, 20, student=0.7, product=0.6).iloc[0]
    expected = crossed_difference(correct(source, 20, student=0.7, product=0.6), margin=0.01)
    assert (found.test, found.untested) == ("crossed", "")
    assert (found.p, found.low) == pytest.approx((expected.p, expected.low))
    assert found.p_holm == found.p
    assert found.seen > found.detectable
    assert found.estimand == "new rows"


def test_seeds_that_share_a_mask_say_so(small_study, source) -> None:
    found = table(small_study(mask_seed=3), source, 5, student=0.7, product=0.6).iloc[0]
    assert found.estimand == "new rows, this mask"


def test_the_config_chooses_the_test(small_study, source) -> None:
    differences = correct(source, 20, student=0.62, product=0.6)
    expected = {"wilcoxon": wilcoxon(differences.mean(1)), "permutation": permutation(differences.mean(0))}
    for test, p in expected.items():
        found = table(small_study(seeds=20, test=test), source, 20, student=0.62, product=0.6).iloc[0]
        assert (found.test, found.p) == (test, pytest.approx(p))


def test_the_declared_contrasts_are_one_family(small_study, source) -> None:
    declared = {name: {"method": "student", "baseline": name} for name in ("one", "two", "product")}
    found = table(small_study(seeds=20, contrasts=declared), source, 20, student=0.7, one=0.68, two=0.6, product=0.69)
    order = np.sort(found.p)
    assert np.sort(found.p_holm)[0] == pytest.approx(3 * order[0])
    assert (found.p_holm >= found.p).all()


def test_under_20_seeds_nothing_is_tested_and_under_5_no_interval_printed(small_study, source) -> None:
    few = table(small_study(seeds=5), source, 5, student=0.7, product=0.6).iloc[0]
    assert (few.test, few.untested) == ("", "5 seeds, 20 are needed")
    assert np.isnan(few.p)
    assert few.low < few.estimate < few.high
    fewer = table(small_study(seeds=4), source, 4, student=0.7, product=0.6).iloc[0]
    assert np.isnan([fewer.low, fewer.high, fewer.seen]).all()
    assert fewer.verdict == "inconclusive"


def test_rows_of_a_group_stay_together(small_study, source) -> None:
    alone = table(small_study(seeds=5), source, 5, student=0.7, product=0.6).iloc[0]
    twins = Source(
        source.name, source.inputs, source.label, source.classes, group=torch.arange(400).div(10, rounding_mode="floor")
    )
    whole = table(small_study(seeds=5), twins, 5, student=0.7, product=0.6).iloc[0]
    expected = crossed_difference(correct(source, 5, student=0.7, product=0.6), margin=0.01, group=np.arange(100) // 10)
    assert whole.detectable == pytest.approx(expected.detectable)
    assert whole.estimate == alone.estimate
    assert whole.detectable != alone.detectable


def test_a_test_that_cannot_reject_is_a_fault_before_training(small_study) -> None:
    assert faults(small_study(seeds=5, test="wilcoxon")) == [
        "test: wilcoxon over 5 seeds: its smallest p is 0.0625, above 0.05 / 1; it needs 6 seeds, "
        "and no test is made under 20"
    ]
    assert faults(small_study(seeds=20, test="wilcoxon")) == []
    assert faults(small_study(seeds=5, test="crossed")) == []
    assert "write test: crossed" in faults(small_study(seeds=20, test="wilcoxon", split={"folds": 3}))[0]


def test_too_few_groups_for_sign_flips_are_a_fault_before_training(small_study) -> None:
    few = Source(
        "few",
        {name: torch.randn(60, 4, generator=torch.Generator().manual_seed(0)) for name in ("m0", "m1")},
        torch.arange(60) // 5 % 3,
        3,
        group=torch.arange(60) // 5,
    )
    study = small_study(
        seeds=20, test="permutation", mask={"name": "complete"}, split={"test": 0.25, "validation": 0.25}
    )
    assert faults(study, lambda _: few)[0].startswith("test: permutation over 3 rows or groups of rows: its smallest p")


@pytest.mark.parametrize("seed", [1, 2])
def test_a_mask_seed_draws_every_seeds_mask(small_study: Callable[..., Study], source: Source, seed: int) -> None:
    own = [setting_for(small_study(), source, at).mask.fingerprint for at in (0, seed)]
    assert own[0] != own[1]
    shared = [setting_for(small_study(mask_seed=0), source, at) for at in (0, seed)]
    assert [setting.mask.fingerprint for setting in shared] == [own[0]] * 2
    assert [setting.seed for setting in shared] == [0, seed]
