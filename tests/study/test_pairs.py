"""Every two methods of a study on the same rows: which pairs there are, and that they are what a contrast would say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from kd.config import Study
from kd.data import load_source
from kd.data.source import Source
from kd.statistics.intervals import fold_difference
from kd.study import run
from kd.study.answers import FLOAT, Answers
from kd.study.contrasts import compare_all, contrasts
from kd.study.evidence import Rows
from kd.study.pairs import pairs
from kd.tasks import make_task

EVERY = ["m0", "m1", "m0+m1"]
ALIKE = ("estimate", "low", "high", "verdict", "seeds", "metric")


@pytest.fixture
def source() -> Source:
    loaded: Source = load_source("synthetic", modalities=2, rows=400, classes=3, width=4)
    return loaded


def answered(source: Source, seeds: int, accuracy: dict[str, tuple[float, list[str]]]) -> dict:
    """Return invented answers on the first 100 rows, of each method on some subsets."""
    random = np.random.default_rng(0)
    label = source.label[:100]
    found = {}
    for seed in range(seeds):
        for name, (share, subsets) in accuracy.items():
            right = {s: torch.from_numpy(random.random(100) < share) for s in subsets}
            said = {s: torch.where(r, label, (label + 1) % 3) for s, r in right.items()}
            logits = {s: torch.nn.functional.one_hot(one, 3).float() for s, one in said.items()}
            found[name, FLOAT, seed] = Answers(logits, logits)
    return found


def tables(study: Study, source: Source, seeds: int, answers: dict, sizes: list[int]) -> tuple[pd.DataFrame, ...]:
    rows = {seed: Rows(torch.arange(100), torch.arange(100), sizes, 0.3) for seed in range(seeds)}
    given = (study, answers, EVERY, source, rows, make_task("multiclass", 3))
    return pairs(*given), contrasts(given[0], compare_all(*given), given[-1])


FOUND = {"one": (0.6, ["m0"]), "student": (0.7, EVERY), "product": (0.65, EVERY)}


def test_only_methods_that_answer_every_subset_are_compared_over_subsets(small_study, source) -> None:
    found, _ = tables(small_study(), source, 5, answered(source, 5, FOUND), [100])
    names = found[["method", "baseline", "over"]].agg(tuple, axis=1).tolist()
    assert names == [
        ("one", "student", "complete"),
        ("one", "product", "complete"),
        ("student", "product", "complete"),
        ("student", "product", "mean over subsets"),
    ]


def test_the_order_of_the_yaml_changes_no_row(small_study, source) -> None:
    forward, backward = small_study(), small_study()
    backward.nodes = dict(reversed(backward.nodes.items()))
    answers = answered(source, 5, FOUND)
    found, again = (tables(study, source, 5, answers, [100])[0] for study in (forward, backward))
    pd.testing.assert_frame_equal(found, again)


@pytest.mark.parametrize(("over", "shown"), [("complete", "complete"), ("subsets", "mean over subsets")])
@pytest.mark.parametrize(("split", "sizes"), [({}, [100]), ({"folds": 2}, [50, 50])])
def test_a_pair_says_what_its_contrast_says(small_study, source, over, shown, split, sizes) -> None:
    declared = {"gain": {"method": "student", "baseline": "product", "over": over}}
    study = small_study(contrasts=declared, split=split)
    found, expected = tables(study, source, 6, answered(source, 6, FOUND), sizes)
    pair = found[(found.method == "student") & (found.over == shown)].iloc[0]
    for name in ALIKE:
        same = expected.iloc[0][name]
        assert pair[name] == (pytest.approx(same, abs=1e-7) if isinstance(same, float) else same)


def test_with_folds_each_seed_and_fold_counts_once(small_study, source) -> None:
    answers = answered(source, 3, FOUND)
    found, _ = tables(small_study(split={"folds": 2}), source, 3, answers, [50, 50])
    right = {
        (name, seed): (answers[name, FLOAT, seed].test["m0+m1"].argmax(-1) == source.label[:100]).double()
        for name in ("student", "product")
        for seed in range(3)
    }
    means = torch.cat([(right["student", s] - right["product", s]).view(2, 50).mean(1) for s in range(3)]).numpy()
    expected = fold_difference(means, 0.3, margin=0.01)
    row = found[(found.method == "student") & (found.over == "complete")].iloc[0]
    assert (row.estimate, row.low) == pytest.approx((expected.estimate, expected.low))


def test_a_seed_that_one_of_two_lacks_takes_no_part(small_study, source) -> None:
    answers = answered(source, 6, FOUND)
    del answers["student", FLOAT, 2]
    found, _ = tables(small_study(), source, 6, answers, [100])
    assert dict(zip(found.method + found.baseline + found.over, found.seeds, strict=True)) == {
        "onestudentcomplete": 5,
        "oneproductcomplete": 6,
        "studentproductcomplete": 5,
        "studentproductmean over subsets": 5,
    }


def test_a_run_writes_pairs_and_validation_scores(small_study) -> None:
    folder = run(small_study())
    found = pd.read_parquet(folder / "pairs.parquet")
    assert set(found.method) | set(found.baseline) == {"one", "two", "student", "product"}
    assert set(found.mask_kind) == {"stratified"}
    validation = pd.read_parquet(folder / "validation.parquet")
    assert list(validation.columns) == [
        *("node", "stage", "seed", "subset", "size", "n", "metric", "value", "mask_kind"),
    ]
    assert set(validation.metric) == {"accuracy"}
    subsets = pd.read_parquet(folder / "subsets.parquet").query("metric == 'accuracy'")
    assert len(validation) == len(subsets)
    assert set(validation.n).isdisjoint(subsets.n)
